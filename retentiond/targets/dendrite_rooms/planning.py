"""The plan of a pass over rooms: a survey, the verdicts counted, and the limits; `plan` stops there, a pass goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, read_only_connection
from retentiond.engine.passes import conclude
from retentiond.model.errors import RefusedError
from retentiond.model.report import PassReport, RoomItem, Tally
from retentiond.model.rooms import RoomTotals, empty_since, judge_room_limits
from retentiond.targets.dendrite_rooms.context import KIND, ledger_tables
from retentiond.targets.dendrite_rooms.survey import RoomSurvey, copy_rows, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.errors import Refusal
    from retentiond.model.report import Item
    from retentiond.model.room_explanation import RoomExplanation
    from retentiond.model.rooms import Room, Verdict
    from retentiond.targets.dendrite_rooms.context import RoomContext

SQL: Final = named_queries(__package__, "planning.sql")
# A JSON text may have a slash behind backslashes. The work grows with the text, never with its square.
_PATTERN: Final = r"'mxc:\\*/\\*/([^/\\\"[:space:]]{1,255})\\*/([A-Za-z0-9_=-]{1,255})'"
_MEDIA_SQL: Final = named_queries(__package__, "media.sql", pattern=_PATTERN)
_NAMED: Final = 1000
_KEYS: Final = ("media_origin", "media_id")


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


@dataclass(frozen=True, slots=True)
class FoundMedia:
    """The media that only due rooms refer to, whether the rooms wait for them, and the URIs in the room asked about."""

    total: Tally
    waits: bool
    named: tuple[str, ...]


async def find_media(survey: RoomSurvey, home: Conn, *, wait: bool, about: str | None = None) -> FoundMedia:
    """Count the media that only due rooms refer to, by room in the survey's table, and name those `about` one room.

    With `wait` such rooms are due no more, but only where a media target works on the same dendrite: without one nothing would ever delete the media.
    """
    async with survey.reading("sync_api") as sync:
        await sync.execute(_MEDIA_SQL["drop_tables"])
        await sync.execute(_MEDIA_SQL["make_tables"])
        async for page in stream(home, _MEDIA_SQL["due_rooms"]):
            await copy_rows(sync, "retentiond_due", ("room_id",), page)
        await sync.execute(_MEDIA_SQL["find_named"])
        waits = await _find_stored(survey, sync) and wait
        await sync.execute(_MEDIA_SQL["forget_unstored"])
        # Reading every event of the server is for rooms with media alone.
        if await sync.fetchval(_MEDIA_SQL["has_named"]):
            await sync.execute(_MEDIA_SQL["named_in_rooms"])
            await _find_in_users(survey, sync)
            await sync.execute(_MEDIA_SQL["forget_elsewhere"])
        async for page in stream(sync, _MEDIA_SQL["by_room"]):
            columns = [row["room_id"] for row in page], [row["media"] for row in page]
            await home.execute(_MEDIA_SQL["note_media"], *columns)
        [total] = await sync.fetch(_MEDIA_SQL["total"])
        named = await sync.fetch(_MEDIA_SQL["of_room"], about, _NAMED)
    if waits:
        await home.execute(_MEDIA_SQL["let_wait"])
    names = tuple(f"mxc://{row['media_origin']}/{row['media_id']}" for row in named)
    return FoundMedia(Tally(total["items"], total["bytes"]), waits, names)


async def _find_stored(survey: RoomSurvey, sync: Conn) -> bool:
    async with survey.reading("media_api") as media:
        waits = bool(await media.fetchval(_MEDIA_SQL["media_ledger"]))
        stored = _MEDIA_SQL["stored"].replace("{quarantined}", _MEDIA_SQL["quarantined"] if waits else "")
        stored = stored.replace("{kept}", _MEDIA_SQL["kept"] if waits else "")
        if media is sync:
            source = stored.replace("{names}", _MEDIA_SQL["named_keys"])
            await sync.execute(_MEDIA_SQL["take_stored"].replace("{source}", source))
        else:
            await media.execute(_MEDIA_SQL["drop_names"])
            await media.execute(_MEDIA_SQL["make_names"])
            async for page in stream(sync, _MEDIA_SQL["named_keys"]):
                await copy_rows(media, "retentiond_names", _KEYS, page)
            source = stored.replace("{names}", "TABLE pg_temp.retentiond_names")
            async for page in stream(media, source):
                await copy_rows(sync, "retentiond_stored", (*_KEYS, "bytes"), page)
    return waits


async def _find_in_users(survey: RoomSurvey, sync: Conn) -> None:
    async with survey.reading("user_api") as users:
        if users is sync:
            await sync.execute(_MEDIA_SQL["take_elsewhere"].replace("{source}", _MEDIA_SQL["named_by_users"]))
        else:
            async for page in stream(users, _MEDIA_SQL["named_by_users"]):
                await copy_rows(sync, "retentiond_elsewhere", _KEYS, page)
