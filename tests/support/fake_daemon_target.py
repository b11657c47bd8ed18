"""A store that is not there: its passes go on until the test lets them end, and it remembers what was asked of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from retentiond.model.audit import AuditReport
from retentiond.model.check import Check
from retentiond.model.errors import UnreachableError
from retentiond.model.records import Chain, Verified
from retentiond.model.report import (
    CancelledPurge,
    PassReport,
    RestoreReport,
    SweepReport,
    Tally,
    TargetStatus,
)
from retentiond.model.statistics import StoreStatistics
from tests.support.targets import as_media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import timedelta

    from retentiond.config.media import MediaTarget
    from retentiond.config.schema import TargetConfig
    from retentiond.engine.capabilities import Holds
    from retentiond.engine.target import AuditOptions, PassOptions, Progress, Selection
    from retentiond.model.acceptance import Acceptance
    from retentiond.model.explanation import Explanation
    from retentiond.model.report import Item, Released
    from retentiond.model.request import Request


class FakeStore:
    """What lasts while a target is opened and closed: its orders, and what shall become of them."""

    def __init__(self) -> None:
        self.configs: list[MediaTarget] = []
        self.open = 0
        self.down = False
        self.opening_held: asyncio.Event | None = None
        self.let_opening_end = asyncio.Event()
        self.let_opening_end.set()
        self.last_pass: dict[str, Any] | None = None
        self.last_audit: dict[str, Any] | None = None
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

    def down_error(self) -> UnreachableError:
        return UnreachableError("the database cannot be reached; check that it runs")


class FakeTarget:
    """A Target on a FakeStore."""

    kind = "dendrite_media"

    def __init__(self, name: str, config: MediaTarget, store: FakeStore) -> None:
        self.name = name
        self._config = config
        self._store = store

    def _report(self, **fields: Any) -> PassReport:
        return PassReport(self.name, self.kind, False, datetime(2026, 1, 1, tzinfo=UTC), **fields)

    @property
    def holds(self) -> Holds:
        raise NotImplementedError

    async def plan(
        self,
        listen: Callable[[Item], None] | None,
        progress: Progress,
        request: Request | None = None,
        keep: timedelta | None = None,
    ) -> PassReport:
        self._store.planned.append(self._config)
        return self._report(removed={policy.name: self._store.removed for policy in self._config.policies})

    async def explain(self, media: str, progress: Progress) -> Explanation:
        raise NotImplementedError

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
        return self._report(pass_id=len(store.orders), state=state, removed={"remote": store.removed})

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

    async def verify_records(self) -> Verified:
        return Chain().result()

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

    async def forget(self, media: Sequence[str] | None) -> list[str]:
        raise NotImplementedError

    async def accept(self, *, yes: bool) -> Acceptance:
        raise NotImplementedError

    async def picture(self, progress: Progress) -> StoreStatistics:
        """Draw an empty store."""
        del progress
        return StoreStatistics(self.name, self.kind, datetime.now(UTC), Tally())

    async def status(self) -> TargetStatus:
        store = self._store
        return TargetStatus(
            self.name, self.kind, ledger=True, last_pass=store.last_pass, last_audit=store.last_audit
        )

    async def check(self) -> Check:
        return Check([])

    async def released(self) -> AsyncIterator[Released]:
        for item in self._store.released:
            yield item

    async def restore(self, selection: Selection) -> RestoreReport:
        return RestoreReport()

    async def cancel_purge(self) -> CancelledPurge:
        return CancelledPurge()

    async def end_grace(self) -> SweepReport:
        return SweepReport()


class FakeStores:
    """Opens targets by their names; each name has a store of its own."""

    def __init__(self) -> None:
        self._stores: dict[str, FakeStore] = {}

    def __getitem__(self, name: str) -> FakeStore:
        return self._stores.setdefault(name, FakeStore())

    @asynccontextmanager
    async def open(self, name: str, config: TargetConfig) -> AsyncIterator[FakeTarget]:
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
            yield FakeTarget(name, as_media(config), store)
        finally:
            store.open -= 1
