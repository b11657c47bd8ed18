"""The audit of rooms: those that one of dendrite's databases has and another has not, and rows without a room.

It reports, and repairs nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries, pool, read_only_connection
from retentiond.ledger.past import save_audit
from retentiond.model.audit import AuditReport, Finding
from retentiond.targets.dendrite_rooms.purges.left_rows import find_left_rows
from retentiond.targets.dendrite_rooms.purges.tables import AWAITED, Databases
from retentiond.targets.dendrite_rooms.survey import RoomSurvey, copy_rows, stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import AuditOptions
    from retentiond.targets.dendrite_rooms.context import RoomContext

SQL: Final = named_queries(__package__, "audit.sql")
_EVENTS: Final = "roomserver_events"
_MOMENT: Final = 2.0
"""Seconds in which an event reaches sync, or a new room the room server's table."""


async def audit_rooms(context: RoomContext, options: AuditOptions) -> AuditReport:
    """Compare the rooms of dendrite's databases with each other, both ways."""
    report = AuditReport(context.name, datetime.now(UTC))
    options.progress.stage("audit", None)
    async with read_only_connection(context.settings.database) as home:
        survey = RoomSurvey(context, home, report.started_at)
        report.rows = await home.fetchval(SQL["count_rooms"])
        report.compared = f"{report.rows:,} rooms in the database of the room server"
        async with survey.reading("sync_api") as sync:
            audit = _Audit(home, sync, options, report)
            await audit.find_orphans()
            await audit.find_missing()
        await audit.find_stale_events()
        await audit.find_left_rows(context)
    report.finished_at = datetime.now(UTC)
    fields = report.as_json()
    if await context.ledger.exists(context.pool):
        await save_audit(
            context.pool, context.name, options.command, report.started_at, report.finished_at, fields
        )
    fields.pop("target")
    get_logger(target=context.name).info("audit_finished", **fields, command=options.command)
    return report


class _Audit:
    """One audit; `home` and `sync` are connections to the two databases, or one to both."""

    def __init__(self, home: Conn, sync: Conn, options: AuditOptions, report: AuditReport) -> None:
        self._home = home
        self._sync = sync
        self._options = options
        self._report = report

    async def find_orphans(self) -> None:
        """Report the rooms whose rows sync has and that the room server does not know."""
        await self._copy("rooms")
        knows_purges = await self._home.fetchval(SQL["has_purges"])
        found = [page async for page in stream(self._sync, SQL["orphans_in_sync"])]
        await self._wait(found)
        for page in found:
            ids = [row["room_id"] for row in page]
            known = {row["room_id"] for row in await self._home.fetch(SQL["known"], ids)}
            purges = await self._home.fetch(SQL["purged"], ids) if knows_purges else []
            purged = {row["room_id"]: row["at"] for row in purges}
            for row in page:
                if row["room_id"] in known:
                    continue
                at = purged.get(row["room_id"])
                detail = f"{row['events']:,} events" + (f"; purged on {at:%Y-%m-%d %H:%M} UTC" if at else "")
                self._report_one(Finding("room_only_in_sync", row["room_id"], row["bytes"], detail))

    async def find_missing(self) -> None:
        """Report the rooms whose events were sent to sync, of which sync has none."""
        await self._copy("sent_rooms")
        found = [page async for page in stream(self._sync, SQL["missing_in_sync"])]
        await self._wait(found)
        for page in found:
            ids = [row["room_id"] for row in page]
            there = {row["room_id"] for row in await self._sync.fetch(SQL["known_to_sync"], ids)}
            known = {row["room_id"] for row in await self._home.fetch(SQL["known"], ids)}
            for room_id in ids:
                if room_id in known and room_id not in there:
                    self._report_one(Finding("room_missing_in_sync", room_id))

    async def find_stale_events(self) -> None:
        """Report events in the room server without a room: a join after a purge leaves one, by dendrite's cache."""
        knows_purges = await self._home.fetchval(SQL["has_purges"])
        async for page in stream(self._home, SQL["events_without_room"]):
            numbers = [row["room_nid"] for row in page]
            rows = await self._home.fetch(SQL["purged_numbers"], numbers) if knows_purges else []
            purged = {row["room_nid"]: row["room_id"] for row in rows}
            for row in page:
                number, events = row["room_nid"], {_EVENTS: row["events"]}
                detail = _by_table(events)
                self._report_one(
                    Finding(
                        "rows_without_room",
                        purged.get(number, ""),
                        detail=detail if number in purged else f"room number {number}; {detail}",
                    )
                )

    async def find_left_rows(self, context: RoomContext) -> None:
        """Report what purges have left in other tables than those that are compared above."""
        if not await self._home.fetchval(SQL["has_purges"]):
            return
        async with pool(context.settings.databases["sync_api"], "the database of sync", size=1) as sync:
            databases = Databases(context.pool, sync, context.pool, context.pool)
            async for room_id, rows in find_left_rows(databases, context.name):
                left = {name: count for name, count in rows.items() if name not in {_EVENTS, *AWAITED}}
                if left:
                    self._report_one(Finding("rows_without_room", room_id, detail=_by_table(left)))

    async def _copy(self, statement: str) -> None:
        await self._sync.execute(SQL["drop_others"])
        await self._sync.execute(SQL["make_others"])
        async for page in stream(self._home, SQL[statement]):
            await copy_rows(self._sync, "retentiond_others", ("room_id",), page)
        await self._sync.execute(SQL["analyze_others"])

    async def _wait(self, found: Sequence[Sequence[Record]]) -> None:
        """Wait until events under way have arrived, before the second look."""
        if any(found):
            await self._options.stop.wait(_MOMENT)

    def _report_one(self, finding: Finding) -> None:
        self._report.add(finding)
        if self._options.repair:
            self._report.leave(finding.kind, "only_reported")
        if self._options.listen is not None:
            self._options.listen(finding)
        else:
            get_logger(target=self._report.target).warning(
                "inconsistency", kind=finding.kind, room=finding.path, detail=finding.detail
            )


def _by_table(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} in {name}" for name, count in rows.items())
