"""The target `dendrite_media`: what the verbs and the daemon ask of it, put together from its parts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from asyncpg import InsufficientPrivilegeError

from retentiond.adapters.disk import DiskWorkers
from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, connect, pool, reaching
from retentiond.config.resolve import resolve
from retentiond.engine.passes import conclude, run_eviction, run_steps
from retentiond.ledger.desk import RecordsDesk
from retentiond.ledger.duty import Duty
from retentiond.ledger.host import actor
from retentiond.ledger.lease import Lease, hold_lease
from retentiond.ledger.ledger import SQL as LEDGER_SQL
from retentiond.ledger.ledger import Ledger
from retentiond.ledger.records import Record, add_record
from retentiond.model.errors import BusyError, RefusedError, UnreachableError, UsageError
from retentiond.model.report import PassReport, Released, SweepReport
from retentiond.model.text import printable
from retentiond.targets.dendrite_media.acceptance.accept import accept_store, look_at_store
from retentiond.targets.dendrite_media.audit.repair import repair
from retentiond.targets.dendrite_media.audit.run import audit
from retentiond.targets.dendrite_media.database.rows import SCHEMA, SQL
from retentiond.targets.dendrite_media.holds.holds import MediaHolds
from retentiond.targets.dendrite_media.passes.steps import MediaSteps, note_unreachable, record_end
from retentiond.targets.dendrite_media.quotas.space import fits_at_a_glance
from retentiond.targets.dendrite_media.references.copies import References
from retentiond.targets.dendrite_media.references.of_holds import HoldReferences
from retentiond.targets.dendrite_media.references.sources import Sources
from retentiond.targets.dendrite_media.restore.listing import released
from retentiond.targets.dendrite_media.restore.media import forget, restore
from retentiond.targets.dendrite_media.store.mark import refuse_ahead
from retentiond.targets.dendrite_media.store.workplace import Place, open_workplace
from retentiond.targets.dendrite_media.surveys.access_log import follow_access_log
from retentiond.targets.dendrite_media.surveys.accesses import notice_mount
from retentiond.targets.dendrite_media.sweeps.sweep import sweep
from retentiond.targets.dendrite_media.thumbnails.survey import SQL as THUMBNAIL_SQL
from retentiond.targets.dendrite_media.views.check import check
from retentiond.targets.dendrite_media.views.picture import draw
from retentiond.targets.dendrite_media.views.plan import plan
from retentiond.targets.dendrite_media.views.status import read_status
from retentiond.targets.dendrite_media.views.story import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from retentiond.config.media import MediaTarget
    from retentiond.engine.target import AuditOrder, Order, Progress, Selection
    from retentiond.model.acceptance import Acceptance
    from retentiond.model.audit import AuditReport
    from retentiond.model.errors import RetentiondError
    from retentiond.model.picture import Picture
    from retentiond.model.report import Item, RestoreReport, TargetStatus
    from retentiond.model.request import Request
    from retentiond.model.story import Story

KIND: Final = "dendrite_media"
LAST_SWEEP_AFTER: Final = timedelta(seconds=60)
"""Without a daemon, a pass by hand sweeps once more after this time: dendrite's uploads may take as long."""


@asynccontextmanager
async def open_dendrite_media(name: str, config: MediaTarget) -> AsyncIterator[DendriteMedia]:
    """Open the target: reach its database. Nothing is changed before something is asked of it."""
    settings = resolve(config)
    disk = DiskWorkers(config.pace.concurrency)
    try:
        async with pool(settings.database) as opened, Duty(settings.database, name) as duty:
            sources = Sources.of(settings)
            references = References(sources, settings.protections, settings.sources)
            held = HoldReferences(sources)
            place = Place(name, config, settings, opened, disk, Ledger(), references, held)
            yield DendriteMedia(place, duty)
    finally:
        disk.close()


class DendriteMedia(RecordsDesk):
    """A dendrite server's media, as the engine's Protocol wants a target."""

    def __init__(self, place: Place, duty: Duty) -> None:
        super().__init__(place)
        self._place = place
        self._duty = duty
        self._mount_noticed = False

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._place.name

    @property
    def kind(self) -> str:
        """What it is."""
        return KIND

    @property
    def holds(self) -> MediaHolds:
        """What must stay because somebody said so."""
        return MediaHolds(self._place)

    async def plan(
        self,
        listen: Callable[[Item], None] | None,
        progress: Progress,
        request: Request | None = None,
        keep: timedelta | None = None,
    ) -> PassReport:
        """Say what a pass, or a request, would do now, changing nothing."""
        place = self._place if keep is None else self._place.keeping(keep)
        return await plan(place, listen, progress, request)

    async def explain(self, media: str, progress: Progress) -> Story:
        """Tell one item's whole story, changing nothing."""
        return await explain(self._place, media, progress)

    async def run_pass(self, order: Order) -> PassReport:
        """Do one pass, and what belongs to its end."""
        place = self._place
        report = PassReport(place.name, KIND, dry_run=False, started_at=datetime.now(UTC))
        with reaching("the database"):
            await self._take_duty(order.command)
            await self._under_lease(order, report, lambda steps: run_steps(steps, order, report))
            if report.pass_id is not None and report.state != "interrupted" and order.command != "run":
                await self._end_by_hand(order, removed=report.removed_items > 0)
        return report

    async def _take_duty(self, command: str) -> None:
        """See that no other daemon looks after the target, where it is a daemon that asks; commands need the lease only."""
        if command == "run":
            await self._duty.take()

    async def _make_ledger(self) -> None:
        async with self._place.pool.acquire() as connection:
            await self._place.ledger.make(connection, SCHEMA)

    async def check_quotas(self, order: Order) -> PassReport | None:
        """Keep to the quotas; None where nothing had to go."""
        place = self._place
        if not place.settings.quotas:
            return None
        report = PassReport(place.name, KIND, dry_run=False, started_at=datetime.now(UTC))
        with reaching("the database"):
            await self._take_duty(order.command)
            if await fits_at_a_glance(place, place.pool):
                return None
            await self._under_lease(order, report, lambda steps: run_eviction(steps, report))
        return report if report.is_worth_telling else None

    async def _under_lease(
        self, order: Order, report: PassReport, run: Callable[[MediaSteps], Awaitable[None]]
    ) -> None:
        place = self._place
        try:
            await self._make_ledger()
            async with hold_lease(place.settings.database, order.command, patience=order.patience) as lease:
                await self._work(order, lease, report, run)
        except RefusedError as error:
            # A server that nothing can be written to, a pooler: there is nothing to record it in.
            report.refused = error.refusal
            conclude(report)
            get_logger(target=place.name).warning("pass_refused", **asdict(error.refusal))

    async def _work(
        self, order: Order, lease: Lease, report: PassReport, run: Callable[[MediaSteps], Awaitable[None]]
    ) -> None:
        place = self._place
        connection = await connect(place.settings.database)
        try:
            report.started_at = now = await connection.fetchval("SELECT clock_timestamp()")
            async with open_workplace(place) as work:
                steps = MediaSteps(work, connection, lease, order, now)
                try:
                    await run(steps)
                except (*LOST, InsufficientPrivilegeError) as error:
                    # The batch under way was rolled back, or its intents stand: the next pass goes on from there.
                    report.state, report.error = "interrupted", f"the database: {printable(str(error))}"
                    conclude(report)
                    await record_end(place, report)
        except RefusedError as error:
            # The store is not the one: there is nothing to take steps on.
            report.refused = error.refusal
            conclude(report)
            await record_end(place, report)
        except UnreachableError as error:
            await note_unreachable(place, error)
            raise
        finally:
            connection.terminate()

    async def _end_by_hand(self, order: Order | AuditOrder, *, removed: bool) -> None:
        """Purge what waits for nothing, or, where no daemon will, sweep once more after dendrite's time-outs."""
        place = self._place
        if place.config.settle == timedelta(0):
            # What a dead pass had released is purged as well.
            await self._sweep(everything=True, fresh=True)
        elif (
            removed
            and place.config.settle >= LAST_SWEEP_AFTER
            and not await place.pool.fetch(LEDGER_SQL["daemons"])
        ):
            order.progress.stage("wait", None)
            await order.stop.wait(LAST_SWEEP_AFTER.total_seconds())
            await self._sweep(everything=False)

    async def sweep(self, *, everything: bool) -> SweepReport:
        """Look after the quarantine."""
        with reaching("the database"):
            if not self._mount_noticed:
                await notice_mount(self._place)
                self._mount_noticed = True
            async with self._place.pool.acquire() as connection:
                if not await self._place.ledger.exists(connection):
                    return SweepReport()
            await self._make_ledger()
            await follow_access_log(self._place, tell=everything)
            try:
                await self._duty.take()
            except BusyError:
                # The other one sweeps.
                return SweepReport()
            return await self._sweep(everything=everything)

    async def _sweep(self, *, everything: bool, fresh: bool = False) -> SweepReport:
        async with open_workplace(self._place) as work:
            return await sweep(work, everything=everything, fresh=fresh)

    async def released(self) -> AsyncIterator[Released]:
        """Stream what can be brought back, by release."""
        async for item in released(self._place):
            yield item

    async def restore(self, selection: Selection) -> RestoreReport:
        """Bring back what was selected; a pass that is under way is not taken from behind its back."""
        with reaching("the database"):
            await self._existing_ledger()
            async with open_workplace(self._place) as work:
                await self._refuse_running(selection)
                # Nothing is purged under the hands of somebody who wants it back.
                await sweep(work, everything=True, purging=False)
                return await restore(work, selection)

    async def _existing_ledger(self) -> None:
        if not await self._place.ledger.exists(self._place.pool):
            raise UsageError(
                "there is no quarantine: no pass has run on this database; see `retentiond status`"
            )
        await self._make_ledger()

    async def _refuse_running(self, selection: Selection) -> None:
        if selection.pass_id is None:
            return
        row = await self._place.pool.fetchrow(LEDGER_SQL["pass_state"], selection.pass_id)
        if row is None:
            raise UsageError(
                f"there was no pass {selection.pass_id}; `retentiond quarantine list` names them"
            )
        if row["state"] != "running":
            return
        # It may have died without a word; then its lock is free.
        async with (
            hold_lease(self._place.settings.database, "quarantine restore", patience=0.0),
            self._place.pool.acquire() as connection,
            connection.transaction(),
        ):
            await self._place.ledger.interrupt_passes(connection)

    async def end_grace(self) -> SweepReport:
        """Purge what is in quarantine, without waiting for its grace; never before its settle."""
        with reaching("the database"):
            await self._existing_ledger()
            async with open_workplace(self._place) as work:
                if work.fit == "ahead":
                    raise refuse_ahead(self._place.name)
                async with self._place.pool.acquire() as connection, connection.transaction():
                    for statement in ("end_grace", "end_grace_of_entries", "end_grace_of_thumbnails"):
                        await connection.execute(SQL[statement])
                    await connection.execute(THUMBNAIL_SQL["end_thumbnail_grace"])
                    await add_record(connection, Record("grace_ended", self.name, body={"by": actor()}))
                return await sweep(work, everything=True, fresh=True)

    async def forget(self, media: Sequence[str] | None) -> list[str]:
        """End the mark of what was restored: of these media, or of all; return those that had it."""
        with reaching("the database"):
            if not await self._place.ledger.exists(self._place.pool):
                return []
            return await forget(self._place, media)

    async def accept(self, *, yes: bool) -> Acceptance:
        """Show what ledger and disk know, where they do not fit; with `yes` go on from there."""
        place = self._place
        with reaching("the database"):
            if not yes:
                return await look_at_store(place)
            await self._make_ledger()
            async with hold_lease(place.settings.database, "quarantine accept", patience=10.0):
                acceptance = await accept_store(place)
            async with open_workplace(place) as work:
                swept = await sweep(work, everything=True, purging=False)
            acceptance.returned += swept.returned
            return acceptance

    async def audit(self, order: AuditOrder) -> AuditReport:
        """Hold the database against the disk, both ways; with `repair`, mend what is safe to mend."""
        with reaching("the database"):
            await self._take_duty(order.command)
            if order.command == "run":
                # The daemon goes by the last audit's time, which must be somewhere.
                await self._make_ledger()
            if not order.repair:
                return await audit(self._place, order)
            await self._make_ledger()
            async with hold_lease(
                self._place.settings.database, order.command, patience=order.patience
            ) as lease:
                report = await repair(self._place, order, lease)
            if report.pass_id is not None:
                await self._end_by_hand(order, removed=report.repaired.total() > 0)
            return report

    async def picture(self, progress: Progress) -> Picture:
        """Draw the store for the report, changing nothing."""
        with reaching("the database"):
            return await draw(self._place, progress)

    async def status(self) -> TargetStatus:
        """Tell what the ledger knows."""
        with reaching("the database"):
            return await read_status(self._place)

    async def check(self) -> list[RetentiondError]:
        """Try what a pass needs, and return the problems found."""
        return await check(self._place)
