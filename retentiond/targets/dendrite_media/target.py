"""The target `dendrite_media`: its contract and capabilities, put together from their parts.

Each method imports the modules of its own work: `status` does not wait for those of a pass.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from retentiond.adapters.disk import DiskWorkers
from retentiond.adapters.postgres import pool, translate_errors
from retentiond.config.resolve import resolve
from retentiond.engine.capabilities import (
    AcceptsStores,
    Explains,
    HasAudit,
    HasHolds,
    HasQuarantine,
    HasQuotas,
    HasRecords,
    HasSamples,
    HasStatistics,
    HasUsage,
    NamesRooms,
    TakesRequests,
)
from retentiond.ledger.leadership import Leadership
from retentiond.ledger.reader import LedgerReader
from retentiond.model.errors import BusyError, UnreachableError
from retentiond.model.report import CancelledPurge, PassReport, Released, SweepReport
from retentiond.targets.dendrite_media.database.rights import MediaLedger, ensure_tables
from retentiond.targets.dendrite_media.database.rows import KIND
from retentiond.targets.dendrite_media.references.copies import References
from retentiond.targets.dendrite_media.references.of_holds import HoldReferences
from retentiond.targets.dendrite_media.references.sources import Sources
from retentiond.targets.dendrite_media.store.context import TargetContext, no_media_yet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from retentiond.config.media import MediaTarget
    from retentiond.engine.target import AuditOptions, PassOptions, Progress, Selection
    from retentiond.model.acceptance import Acceptance
    from retentiond.model.audit import AuditReport
    from retentiond.model.check import Check
    from retentiond.model.explanation import Explanation
    from retentiond.model.report import Item, RestoreReport, TargetStatus
    from retentiond.model.request import Request
    from retentiond.model.statistics import StoreStatistics
    from retentiond.model.usage import UsageBy, UsageRow
    from retentiond.targets.dendrite_media.holds.holds import MediaHolds


@asynccontextmanager
async def open_dendrite_media(name: str, config: MediaTarget) -> AsyncIterator[DendriteMedia]:
    """Open the target and connect to its database. Nothing is changed before a method is called."""
    settings = resolve(config)
    disk = DiskWorkers(config.pace.concurrency)
    try:
        async with pool(settings.database) as opened, Leadership(settings.database, name) as leadership:
            sources = Sources.of(settings)
            references = References(sources, settings.protections, settings.sources)
            held = HoldReferences(sources)
            context = TargetContext(name, config, settings, opened, disk, MediaLedger(), references, held)
            yield DendriteMedia(context, leadership)
    finally:
        disk.close()


class DendriteMedia(
    LedgerReader,
    TakesRequests,
    Explains,
    HasQuarantine,
    HasAudit,
    HasQuotas,
    HasHolds,
    HasRecords,
    HasSamples,
    HasStatistics,
    HasUsage,
    NamesRooms,
    AcceptsStores,
):
    """The media of a dendrite server."""

    def __init__(self, context: TargetContext, leadership: Leadership) -> None:
        super().__init__(context)
        self._context = context
        self._leadership = leadership
        self._mount_noticed = False

    @property
    def name(self) -> str:
        """The target's name in the configuration."""
        return self._context.name

    @property
    def kind(self) -> str:
        """The kind of the target."""
        return KIND

    @property
    def holds(self) -> MediaHolds:
        """The holds on media."""
        from retentiond.targets.dendrite_media.holds.holds import MediaHolds

        return MediaHolds(self._context)

    async def plan(
        self,
        listen: Callable[[Item], None] | None,
        progress: Progress,
        request: Request | None = None,
        keep: timedelta | None = None,
    ) -> PassReport:
        """Return a pass or a request as a report; change nothing."""
        from retentiond.targets.dendrite_media.views.plan import plan

        context = self._context if keep is None else self._context.keeping(keep)
        return await plan(context, listen, progress, request)

    async def explain(self, item: str, progress: Progress) -> Explanation:
        """Explain the verdict on one item and its history; change nothing."""
        from retentiond.targets.dendrite_media.views.explanation import explain

        return await explain(self._context, item, progress)

    async def run_pass(self, options: PassOptions) -> PassReport:
        """Run one pass, and sweep at its end."""
        from retentiond.engine.passes import run_steps
        from retentiond.targets.dendrite_media.passes.ends import end_by_hand
        from retentiond.targets.dendrite_media.passes.steps import open_pass

        context = self._context
        report = PassReport(context.name, KIND, dry_run=False, started_at=datetime.now(UTC))
        with translate_errors("the database"):
            await self._take_leadership(options.command)
            async with AsyncExitStack() as opened:
                steps = await open_pass(opened, context, options, report)
                await run_steps(steps, options, report)
            if report.pass_id is not None and report.state != "interrupted" and options.command != "run":
                await end_by_hand(context, options, removed=report.removed_items > 0)
        return report

    async def _take_leadership(self, command: str) -> None:
        """Become the daemon of the target if a daemon runs the pass; commands need the lease only."""
        if command == "run":
            await self._leadership.take()

    async def check_quotas(self, options: PassOptions) -> PassReport | None:
        """Enforce the quotas; None if nothing had to be removed."""
        from retentiond.engine.passes import run_eviction
        from retentiond.targets.dendrite_media.passes.steps import open_pass
        from retentiond.targets.dendrite_media.quotas.space import fits_at_a_glance

        context = self._context
        if not context.settings.quotas:
            return None
        report = PassReport(context.name, KIND, dry_run=False, started_at=datetime.now(UTC))
        with translate_errors("the database"):
            await self._take_leadership(options.command)
            if await fits_at_a_glance(context, context.pool):
                return None
            async with AsyncExitStack() as opened:
                await run_eviction(await open_pass(opened, context, options, report), report)
        return report if report.is_worth_telling else None

    async def sweep(self, *, everything: bool) -> SweepReport:
        """Sweep the quarantine."""
        from retentiond.targets.dendrite_media.surveys.access_log import follow_access_log
        from retentiond.targets.dendrite_media.surveys.accesses import notice_mount
        from retentiond.targets.dendrite_media.sweeps.sweep import sweep_store

        with translate_errors("the database"):
            await ensure_tables(self._context.pool)
            if not self._mount_noticed:
                await notice_mount(self._context)
                self._mount_noticed = True
            if not await self._context.ledger.exists(self._context.pool):
                # There is nothing to sweep, but the target has a daemon from the start.
                with suppress(BusyError):
                    await self._leadership.take()
                return SweepReport()
            await self._context.make_ledger()
            await follow_access_log(self._context, tell=everything)
            try:
                await self._leadership.take()
            except BusyError:
                # The other daemon sweeps.
                return SweepReport()
            try:
                return await sweep_store(self._context, everything=everything)
            except UnreachableError as error:
                if await no_media_yet(self._context, self._context.pool, error) is None:
                    raise
                return SweepReport()

    async def released(self) -> AsyncIterator[Released]:
        """Stream the restorable items, in the order of their release."""
        from retentiond.targets.dendrite_media.restore.listing import released

        with translate_errors("the database"):
            async for item in released(self._context):
                yield item

    async def restore(self, selection: Selection) -> RestoreReport:
        """Restore the selected items; items of a running pass are left to it."""
        from retentiond.targets.dendrite_media.sweeps.by_hand import restore_by_hand

        with translate_errors("the database"):
            return await restore_by_hand(self._context, selection)

    async def end_grace(self) -> SweepReport:
        """Purge the quarantine, without waiting for its grace; never before its settle."""
        from retentiond.targets.dendrite_media.sweeps.by_hand import end_grace

        with translate_errors("the database"):
            return await end_grace(self._context)

    async def cancel_purge(self) -> CancelledPurge:
        """Restore the grace that was ended by hand, for entries that are not purged yet."""
        from retentiond.targets.dendrite_media.sweeps.by_hand import cancel_purge

        with translate_errors("the database"):
            return await cancel_purge(self._context)

    async def forget(self, media: Sequence[str] | None) -> list[str]:
        """Remove the mark of restored items: of these media, or of all; return the items that had it."""
        from retentiond.targets.dendrite_media.restore.selected import forget

        with translate_errors("the database"):
            if not await self._context.ledger.exists(self._context.pool):
                return []
            return await forget(self._context, media)

    async def accept(self, *, yes: bool) -> Acceptance:
        """Compare the ledger and the disk of a store that do not fit; with `yes` accept the difference."""
        from retentiond.ledger.lease import hold_lease
        from retentiond.targets.dendrite_media.acceptance.accept import accept_store, look_at_store
        from retentiond.targets.dendrite_media.sweeps.sweep import sweep_store

        context = self._context
        with translate_errors("the database"):
            if not yes:
                return await look_at_store(context)
            await context.make_ledger()
            async with hold_lease(context.settings.database, "quarantine accept", patience=10.0) as lease:
                acceptance = await accept_store(context, lease)
            swept = await sweep_store(context, everything=True, purging=False)
            acceptance.returned += swept.returned
            return acceptance

    async def audit(self, options: AuditOptions) -> AuditReport:
        """Compare database and disk, both ways; with `repair`, repair the findings that are safe to repair."""
        from retentiond.ledger.lease import hold_lease
        from retentiond.targets.dendrite_media.audit.auditor import audit
        from retentiond.targets.dendrite_media.passes.ends import end_by_hand
        from retentiond.targets.dendrite_media.repair.run import repair

        with translate_errors("the database"):
            await self._take_leadership(options.command)
            if options.command == "run":
                # The daemon schedules by the time of the last audit, which the ledger holds.
                await self._context.make_ledger()
            if not options.repair:
                return await audit(self._context, options)
            await self._context.make_ledger()
            async with hold_lease(
                self._context.settings.database, options.command, patience=options.patience, stop=options.stop
            ) as lease:
                report = await repair(self._context, options, lease)
            if report.pass_id is not None:
                await end_by_hand(self._context, options, removed=report.repaired.total() > 0)
            return report

    async def statistics(self, progress: Progress) -> StoreStatistics:
        """Collect the statistics for the report; change nothing."""
        from retentiond.targets.dendrite_media.views.statistics import collect_statistics

        with translate_errors("the database"):
            return await collect_statistics(self._context, progress)

    @property
    def divisions(self) -> tuple[UsageBy, ...]:
        """The divisions of media."""
        from retentiond.targets.dendrite_media.views.usage import DIVISIONS

        return DIVISIONS

    async def usage(self, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
        """Divide the stored media; change nothing."""
        from retentiond.targets.dendrite_media.views.usage import read_usage

        with translate_errors("the database"):
            return await read_usage(self._context, by, top, progress)

    async def take_sample(self, command: str, progress: Progress) -> bool:
        """Take the sample of today; False where there is one, or no ledger yet."""
        from retentiond.targets.dendrite_media.views.usage import take_sample

        with translate_errors("the database"):
            if not await self._context.ledger.exists(self._context.pool):
                return False
            await self._take_leadership(command)
            await self._context.make_ledger()
            return await take_sample(self._context, progress)

    async def room_names(self, rooms: Sequence[str]) -> Mapping[str, str]:
        """Return the names of rooms, by room ID."""
        from retentiond.targets.dendrite_media.views.statistics import read_room_names

        with translate_errors("the database"):
            return await read_room_names(self._context, rooms)

    async def status(self) -> TargetStatus:
        """Read the status from the ledger."""
        from retentiond.targets.dendrite_media.views.status import read_status

        with translate_errors("the database"):
            return await read_status(self._context)

    async def check(self) -> Check:
        """Check the requirements of a pass, and count the entries of each policy."""
        from retentiond.targets.dendrite_media.views.check import check

        return await check(self._context)
