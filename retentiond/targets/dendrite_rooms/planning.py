"""The plan of a pass over rooms: a survey, the verdicts counted, and the limits; `plan` stops there, a pass goes on."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, read_only_connection
from retentiond.engine.passes import conclude
from retentiond.model.errors import RefusedError
from retentiond.model.report import PassReport, RoomItem
from retentiond.model.rooms import RoomTotals, empty_since, judge_room_limits
from retentiond.targets.dendrite_rooms.context import KIND, ledger_tables
from retentiond.targets.dendrite_rooms.media import find_media
from retentiond.targets.dendrite_rooms.survey import RoomSurvey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.errors import Refusal
    from retentiond.model.report import Item
    from retentiond.model.room_explanation import RoomExplanation
    from retentiond.model.rooms import Room, Verdict
    from retentiond.targets.dendrite_rooms.context import RoomContext
    from retentiond.targets.dendrite_rooms.media import FoundMedia

SQL: Final = named_queries(__package__, "planning.sql")


class RoomPlan:
    """The rooms of a server as one connection surveys them now, each with its verdict."""

    def __init__(
        self,
        context: RoomContext,
        connection: Conn,
        now: datetime,
        listen: Callable[[Room, Verdict], None] | None = None,
        about: str | None = None,
    ) -> None:
        self._context = context
        self._connection = connection
        self._listen = listen
        self._about = about
        self.named: tuple[str, ...] = ()
        self.survey = RoomSurvey(context, connection, now)
        self.due = RoomTotals()
        self.oldest: datetime | None = None

    async def judge(self, report: PassReport, *, seeing: bool, everything: bool = False) -> Refusal | None:
        """Judge every room; return the first limit that a pass would exceed.

        With `seeing` the empty rooms are written to the ledger; with `everything` rooms with local users are measured, too.
        """
        await self.survey.take(everything=everything)
        if seeing:
            await self.survey.note_seen()
        await self.survey.read_ledger()
        if await self._judge_all(report):
            await self._find_media(report)
        await self._count_due(report)
        return await self._judge_limits()

    async def _judge_all(self, report: PassReport) -> bool:
        """Judge each room, and count those that are kept; return whether any room is due."""
        found, matched = False, Counter[str]()
        first_due: datetime | None = None
        async for page in self.survey.judged():
            for room, verdict in page:
                if verdict.policy is not None:
                    matched[verdict.policy] += 1
                if verdict.reason is None:
                    found = True
                    continue
                report.kept[verdict.reason] += 1
                if verdict.due_from is not None and verdict.due_from > self.survey.now:
                    first_due = min(first_due or verdict.due_from, verdict.due_from)
                self._tell(room, verdict)
        report.count_policies(matched, {})
        if first_due is not None:
            report.remarks.append(
                f"rooms that are kept for their age alone: the first is due on {first_due:%Y-%m-%d %H:%M} UTC"
            )
        return found

    async def _find_media(self, report: PassReport) -> None:
        """Count the media that only due rooms refer to; rooms that wait for theirs are due no more."""
        wait = self._context.config.media == "wait"
        media = await find_media(self.survey, self._connection, wait=wait, about=self._about)
        self.named = media.named
        report.remarks.extend(_about_media(media))
        async for room, verdict in self.survey.waiting():
            report.kept["media"] += 1
            self._tell(room, verdict)

    async def _count_due(self, report: PassReport) -> None:
        async for room, verdict in self.survey.due():
            report.due_by[verdict.policy or ""] += 1
            self.due += RoomTotals(1, room.events, room.bytes)
            self.oldest = self.oldest or verdict.due
            self._tell(room, verdict)
        report.await_turn(self.due.rooms, self.due.bytes)

    async def _judge_limits(self) -> Refusal | None:
        if not self.due.rooms:
            return None
        known = await ledger_tables(self._connection)
        first = not known["passes"] or await self._connection.fetchval(
            SQL["first_purge"], self._context.name, KIND
        )
        stored = RoomTotals(*await self.survey.totals())
        return judge_room_limits(
            self._context.name, self._context.config.limits, self.due, stored, first=first
        )

    def _tell(self, room: Room, verdict: Verdict) -> None:
        if self._listen is not None:
            self._listen(room, verdict)


def _about_media(media: FoundMedia) -> Iterator[str]:
    if not media.total.items:
        return
    size = (
        f"{media.total.items:,} media items ({media.total.bytes:,} bytes) are referred to by due rooms only"
    )
    if media.waits:
        yield f"{size}; these rooms wait until a policy of the media target (`room: no_local_members`) has deleted them"
    else:
        yield f"{size}; they stay, and no table will show where they were"


async def plan_rooms(
    context: RoomContext,
    listen: Callable[[Item], None] | None,
    progress: Progress,
    explained: tuple[str, RoomExplanation] | None = None,
) -> PassReport:
    """Return a pass as a report; change nothing. The facts of the room that is `explained`, by its ID, are added to that."""
    report = PassReport(context.name, KIND, dry_run=True, started_at=datetime.now(UTC))

    def tell(room: Room, verdict: Verdict) -> None:
        if explained is not None and room.room_id == explained[0]:
            explained[1].judge(room, verdict, context.settings.rules)
        if listen is not None:
            listen(item_of(context.name, room, verdict, planned.survey.now))

    progress.stage("survey", None)
    async with read_only_connection(context.settings.database) as connection:
        report.started_at = now = await connection.fetchval("SELECT pg_catalog.clock_timestamp()")
        planned = RoomPlan(context, connection, now, tell, about=explained and explained[0])
        try:
            report.refused = await planned.judge(report, seeing=False)
        except RefusedError as error:
            report.refused = error.refusal
        else:
            if explained is not None:
                explained[1].media = list(planned.named)
            async for room, verdict in planned.survey.due():
                report.remove(verdict.policy or "", 1, room.bytes)
                report.reach(1, room.bytes)
    conclude(report)
    if report.refused is None:
        report.state = "planned"
    return report


def item_of(target: str, room: Room, verdict: Verdict, now: datetime) -> RoomItem:
    """Return a room as an item of a plan."""
    return RoomItem(
        target,
        room.room_id,
        "remove" if verdict.reason is None else "keep",
        verdict.reason or "due",
        verdict.policy,
        room.bytes,
        room.events,
        empty_since(room, now),
    )
