"""The target `dendrite_rooms`: its contract and capabilities, put together from their parts."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from retentiond.adapters.postgres import LOST, connection_to, pool, translate_errors
from retentiond.adapters.postgres_errors import describe
from retentiond.engine.capabilities import (
    AcceptsStores,
    ComparesAges,
    Explains,
    HasAudit,
    HasHolds,
    HasRecords,
    HasSamples,
    HasStatistics,
    HasUsage,
    KeepsRooms,
    PurgesRooms,
)
from retentiond.engine.passes import conclude, run_steps
from retentiond.ledger.clocks import check_clocks, look_at_clock, note_clock
from retentiond.ledger.leadership import Leadership
from retentiond.ledger.lease import hold_lease
from retentiond.ledger.reader import LedgerReader
from retentiond.model.errors import BusyError, RefusedError
from retentiond.model.report import PassReport, SweepReport
from retentiond.targets.dendrite_rooms.audit import audit_rooms
from retentiond.targets.dendrite_rooms.context import (
    KIND,
    RoomContext,
    RoomLedger,
    ensure_tables,
    resolve_rooms,
)
from retentiond.targets.dendrite_rooms.explanation import explain_room
from retentiond.targets.dendrite_rooms.holds import RoomHolds
from retentiond.targets.dendrite_rooms.planning import plan_rooms
from retentiond.targets.dendrite_rooms.purges.by_hand import plan_by_hand, purge_by_hand
from retentiond.targets.dendrite_rooms.purges.due import purger_of, sweep_purges
from retentiond.targets.dendrite_rooms.purges.purge_table import kept_rooms, note_returned
from retentiond.targets.dendrite_rooms.purges.trouble import accept
from retentiond.targets.dendrite_rooms.state import check, read_status
from retentiond.targets.dendrite_rooms.steps import RoomSteps
from retentiond.targets.dendrite_rooms.survey import RoomSurvey, put_off_seen
from retentiond.targets.dendrite_rooms.usage import DIVISIONS, collect_statistics, read_usage, take_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import timedelta

    from retentiond.config.rooms import RoomTarget
    from retentiond.engine.target import AuditOptions, PassOptions, Progress
    from retentiond.ledger.lease import Lease
    from retentiond.model.acceptance import Acceptance
    from retentiond.model.audit import AuditReport
    from retentiond.model.check import Check
    from retentiond.model.report import Item, TargetStatus
    from retentiond.model.room_explanation import RoomExplanation
    from retentiond.model.statistics import StoreStatistics
    from retentiond.model.usage import UsageBy, UsageRow

_DAEMON_WAITS: Final = 3600.0
"""Seconds that a scheduled pass waits for another on the same database: one over dendrite's media, at the same hour."""


@asynccontextmanager
async def open_dendrite_rooms(name: str, config: RoomTarget) -> AsyncIterator[DendriteRooms]:
    """Open the target and connect to its database. Nothing is changed before a method is called."""
    settings = resolve_rooms(config)
    async with pool(settings.database) as opened, Leadership(settings.database, name) as leadership:
        yield DendriteRooms(RoomContext(name, config, settings, opened, RoomLedger()), leadership)


class DendriteRooms(
    LedgerReader,
    ComparesAges,
    Explains,
    HasAudit,
    HasHolds,
    HasRecords,
    HasSamples,
    HasStatistics,
    HasUsage,
    KeepsRooms,
    AcceptsStores,
    PurgesRooms,
):
    """The rooms of a dendrite server. Purged rooms cannot be restored."""

    def __init__(self, context: RoomContext, leadership: Leadership) -> None:
        super().__init__(context)
        self._context = context
        self._leadership = leadership

    @property
    def name(self) -> str:
        """The target's name in the configuration."""
        return self._context.name

    @property
    def kind(self) -> str:
        """The kind of the target."""
        return KIND

    @property
    def holds(self) -> RoomHolds:
        """The holds on rooms."""
        return RoomHolds(self._context)

    async def plan(
        self, listen: Callable[[Item], None] | None, progress: Progress, *, keep: timedelta | None = None
    ) -> PassReport:
        """Return the purges of a pass now; change nothing."""
        context = self._context if keep is None else self._context.keeping(keep)
        with translate_errors("the database"):
            return await plan_rooms(context, listen, progress)

    async def explain(self, item: str, progress: Progress) -> RoomExplanation:
        """Explain the verdict on one room, by its ID or a local alias; change nothing."""
        with translate_errors("the database"):
            return await explain_room(self._context, item, progress)

    async def run_pass(self, options: PassOptions) -> PassReport:
        """Run one pass."""
        context = self._context
        report = PassReport(context.name, KIND, dry_run=False, started_at=datetime.now(UTC))
        patience = options.patience
        with translate_errors("the database"):
            if options.command == "run":
                await self._leadership.take()
                patience = max(patience, _DAEMON_WAITS)
            await ensure_tables(context.pool)
            await context.make_ledger()
            try:
                async with hold_lease(
                    context.settings.database, options.command, patience=patience, stop=options.stop
                ) as lease:
                    await self._work(options, lease, report)
            except RefusedError as error:
                report.refused = error.refusal
                conclude(report)
                await context.ledger.record_end(context.pool, report)
        return report

    async def _work(self, options: PassOptions, lease: Lease, report: PassReport) -> None:
        async with (
            connection_to(self._context.settings.database) as connection,
            purger_of(self._context) as purger,
        ):
            report.started_at = now = await connection.fetchval("SELECT pg_catalog.clock_timestamp()")
            steps = RoomSteps(self._context, connection, lease, options, now, purger)
            try:
                await run_steps(steps, options, report)
            except (*LOST, asyncpg.PostgresError) as error:
                report.state, report.error = "interrupted", f"the database {describe(error)}"
                conclude(report)
                await self._context.ledger.record_end(self._context.pool, report)

    async def sweep(self, *, everything: bool) -> SweepReport:
        """Go on with open purges; with `everything`, once an hour, note which rooms are empty and which came back."""
        with translate_errors("the database"):
            await ensure_tables(self._context.pool)
            if not await self._context.ledger.exists(self._context.pool):
                return SweepReport()
            swept = await sweep_purges(self._context)
            if not everything:
                return swept
            with suppress(BusyError):
                await self._leadership.take()
                await self._note_seen()
        return swept

    async def _note_seen(self) -> None:
        context = self._context
        await context.make_ledger()
        await note_returned(context.pool, context.name)
        async with connection_to(context.settings.database) as connection:
            # A first look that is dated too early would make up for no cool-off.
            state = await context.ledger.store(connection, context.name, KIND)
            check_clocks(state, await look_at_clock(connection, context.name))
            await note_clock(connection, context.name, put_off_seen)
            survey = RoomSurvey(context, connection, datetime.now(UTC))
            await survey.take()
            await survey.note_seen()

    async def plan_room(self, room_id: str) -> PassReport:
        """Return what a purge of the room by hand would do; change nothing."""
        with translate_errors("the database"):
            return await plan_by_hand(self._context, room_id)

    async def purge_room(self, room_id: str, options: PassOptions) -> PassReport:
        """Let local users leave the room, and purge it."""
        with translate_errors("the database"):
            report = await purge_by_hand(self._context, room_id, options)
            await self._context.ledger.record_end(self._context.pool, report)
        return report

    async def accept(self, *, yes: bool) -> Acceptance:
        """Report the trouble that stopped the target, and the clock; with `yes` accept both."""
        with translate_errors("the database"):
            return await accept(self._context, yes=yes)

    async def audit(self, options: AuditOptions) -> AuditReport:
        """Compare dendrite's databases with each other; report what one has and another has not."""
        with translate_errors("the database"):
            if options.command == "run":
                await self._leadership.take()
                # The daemon schedules by the time of the last audit, which the ledger holds.
                await self._context.make_ledger()
            return await audit_rooms(self._context, options)

    async def kept_rooms(self, room_id: str | None) -> AsyncIterator[dict[str, Any]]:
        """Stream what the ledger keeps of purged rooms, or of one, oldest first."""
        with translate_errors("the database"):
            if await self._context.ledger.exists(self._context.pool):
                async for room in kept_rooms(self._context.pool, self._context.name, room_id):
                    yield room

    async def statistics(self, progress: Progress) -> StoreStatistics:
        """Collect the statistics for the report; change nothing."""
        with translate_errors("the database"):
            return await collect_statistics(self._context, progress)

    @property
    def divisions(self) -> tuple[UsageBy, ...]:
        """The divisions of rooms."""
        return DIVISIONS

    async def usage(self, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
        """Divide the rooms; change nothing."""
        with translate_errors("the database"):
            return await read_usage(self._context, by, top, progress)

    async def take_sample(self, command: str, progress: Progress) -> bool:
        """Take the sample of today; False where there is one, or no ledger yet."""
        with translate_errors("the database"):
            if not await self._context.ledger.exists(self._context.pool):
                return False
            if command == "run":
                await self._leadership.take()
            await self._context.make_ledger()
            return await take_sample(self._context, progress)

    async def status(self) -> TargetStatus:
        """Read the status from the ledger."""
        with translate_errors("the database"):
            return await read_status(self._context)

    async def check(self) -> Check:
        """Check the requirements of a pass, and count the rooms of each policy."""
        return await check(self._context)
