"""A store in memory for the daemon: its passes, audits and sweeps last until the test lets them end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from retentiond.model.audit import AuditReport
from retentiond.model.errors import UnreachableError
from retentiond.model.report import (
    PassReport,
    SweepReport,
    Tally,
    TargetStatus,
)
from retentiond.model.statistics import StoreStatistics
from tests.support.fake_target import FakeTarget
from tests.support.media_target import as_media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import timedelta

    from retentiond.config.media import MediaTarget
    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import AuditOptions, PassOptions, Progress
    from retentiond.model.report import Item, Released
    from retentiond.model.request import Request
    from retentiond.model.usage import UsageBy, UsageRow


class FakeStore:
    """The state of a store over several openings: the calls so far, and the results of the next ones."""

    def __init__(self) -> None:
        self.configs: list[MediaTarget] = []
        self.open = 0
        self.down = False
        self.opening_held: asyncio.Event | None = None
        self.let_opening_end = asyncio.Event()
        self.let_opening_end.set()
        self.last_pass: dict[str, Any] | None = None
        self.last_audit: dict[str, Any] | None = None
        self.more: dict[str, Any] = {}  # of the status
        self.audits: list[AuditOptions] = []
        self.audit_error: BaseException | None = None
        self.let_audit = asyncio.Event()
        self.let_audit.set()
        self.orders: list[PassOptions] = []
        self.rules: list[MediaTarget] = []
        self.running = 0
        self.most_running = 0
        self.pass_error: BaseException | None = None
        self.let_pass = asyncio.Event()
        self.let_pass.set()
        self.heeds_stop = True
        self.cancelled = 0
        self.removed = Tally(3, 30)
        self.sweeps: list[bool] = []
        self.sweeping = 0
        self.most_sweeping = 0
        self.sweep_error: BaseException | None = None
        self.let_sweep = asyncio.Event()
        self.let_sweep.set()
        self.beats = 0
        self.ended_beats = 0
        self.planned: list[MediaTarget] = []
        self.released: list[Released] = []
        self.quota_checks: list[int] = []
        self.records: list[dict[str, Any]] = []
        self.drawn = 0
        self.drawing_cancelled = 0
        self.statistics_error: BaseException | None = None
        self.let_draw = asyncio.Event()
        self.let_draw.set()
        self.servers: tuple[UsageRow, ...] = ()

    def down_error(self) -> UnreachableError:
        return UnreachableError("the database cannot be reached; check that it runs")


class DaemonTarget(FakeTarget):
    """A target on a FakeStore."""

    def __init__(self, name: str, config: MediaTarget, store: FakeStore) -> None:
        super().__init__(name)
        self._config = config
        self._store = store

    def _report(self, **fields: Any) -> PassReport:
        return PassReport(self.name, self.kind, False, datetime(2026, 1, 1, tzinfo=UTC), **fields)

    async def plan(
        self,
        listen: Callable[[Item], None] | None,
        progress: Progress,
        request: Request | None = None,
        keep: timedelta | None = None,
    ) -> PassReport:
        self._store.planned.append(self._config)
        return self._report(removed={policy.name: self._store.removed for policy in self._config.policies})

    async def run_pass(self, order: PassOptions) -> PassReport:
        store = self._store
        store.orders.append(order)
        store.rules.append(self._config)
        if store.pass_error is not None:
            raise store.pass_error
        store.running += 1
        store.most_running = max(store.most_running, store.running)
        order.progress.stage("remove", 50)
        order.progress.advance(20)
        try:
            while not store.let_pass.is_set() and not (store.heeds_stop and order.stop.asked):
                await asyncio.sleep(0)  # a batch
        except asyncio.CancelledError:
            store.cancelled += 1
            raise
        finally:
            store.running -= 1
        state = "interrupted" if order.stop.asked else "finished"
        ended = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
        return self._report(
            pass_id=len(store.orders), state=state, finished_at=ended, removed={"remote": store.removed}
        )

    async def check_quotas(self, order: PassOptions) -> PassReport | None:
        self._store.quota_checks.append(self._store.running)
        return None

    async def sweep(self, *, everything: bool) -> SweepReport:
        store = self._store
        store.sweeping += 1
        store.most_sweeping = max(store.most_sweeping, store.sweeping)
        try:
            await store.let_sweep.wait()
        finally:
            store.sweeping -= 1
        store.sweeps.append(everything)
        if store.sweep_error is not None:
            raise store.sweep_error
        return SweepReport()

    async def records(self) -> AsyncIterator[dict[str, Any]]:
        for record in self._store.records:
            yield record

    async def beat(self) -> None:
        self._store.beats += 1

    async def end_beat(self) -> None:
        self._store.ended_beats += 1

    async def audit(self, order: AuditOptions) -> AuditReport:
        store = self._store
        store.audits.append(order)
        if store.audit_error is not None:
            raise store.audit_error
        while not store.let_audit.is_set() and not order.stop.asked:
            await asyncio.sleep(0)  # a stretch
        report = AuditReport(self.name, datetime(2026, 1, 1, tzinfo=UTC))
        report.error = "it was asked to stop" if order.stop.asked else None
        return report

    async def statistics(self, progress: Progress) -> StoreStatistics:
        store = self._store
        store.drawn += 1
        if store.statistics_error is not None:
            raise store.statistics_error
        try:
            await store.let_draw.wait()
        except asyncio.CancelledError:
            store.drawing_cancelled += 1
            raise
        return StoreStatistics(
            self.name, self.kind, datetime.now(UTC), Tally(5, 2**20), usage={"server": store.servers}
        )

    divisions: tuple[UsageBy, ...] = ("server", "user")

    async def usage(self, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
        return list(self._store.servers)

    async def status(self) -> TargetStatus:
        store = self._store
        return TargetStatus(
            self.name,
            self.kind,
            ledger=True,
            last_pass=store.last_pass,
            last_audit=store.last_audit,
            **store.more,
        )

    async def released(self) -> AsyncIterator[Released]:
        for item in self._store.released:
            yield item


class FakeStores:
    """Opens targets by name; each name has its own store."""

    def __init__(self) -> None:
        self._stores: dict[str, FakeStore] = {}

    def __getitem__(self, name: str) -> FakeStore:
        return self._stores.setdefault(name, FakeStore())

    @asynccontextmanager
    async def open(self, name: str, config: TargetConfig) -> AsyncIterator[DaemonTarget]:
        store = self[name]
        store.configs.append(as_media(config))
        if store.opening_held is not None:
            try:
                await store.opening_held.wait()
            finally:
                # A stalled server answers the cancellation late, too.
                await store.let_opening_end.wait()
        if store.down:
            raise store.down_error()
        store.open += 1
        try:
            yield DaemonTarget(name, as_media(config), store)
        finally:
            store.open -= 1
