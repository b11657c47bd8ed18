"""A target in memory: it answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from retentiond.model.acceptance import Acceptance
from retentiond.model.audit import AuditReport
from retentiond.model.check import Check
from retentiond.model.errors import MissingRightError, UnreachableError
from retentiond.model.explanation import Explanation
from retentiond.model.holds import Coverage, HeldMembers, Hold
from retentiond.model.records import Chain, Link, Verified
from retentiond.model.report import (
    CancelledPurge,
    PassReport,
    RestoreReport,
    SweepReport,
    Tally,
    TargetStatus,
)
from retentiond.model.statistics import StoreStatistics
from tests.support.media_target import as_media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from datetime import timedelta

    from retentiond.config.media import MediaTarget
    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import AuditOptions, PassOptions, Progress, Selection
    from retentiond.model.audit import Finding
    from retentiond.model.check import PolicyCount, StoreOverview
    from retentiond.model.errors import PassState, RetentiondError
    from retentiond.model.holds import HoldRequest, HoldSubject
    from retentiond.model.report import Item, Released
    from retentiond.model.request import Request
    from retentiond.model.usage import UsageBy, UsageRow

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_report(
    target: str = "media", state: PassState = "finished", *, dry_run: bool = False, pass_id: int | None = 7
) -> PassReport:
    """Make the account of a pass that took three items and kept two."""
    report = PassReport(target, "dendrite_media", dry_run, STARTED, pass_id, state, STARTED)
    report.remove("remote", 3, 3 * 1024 * 1024)
    report.kept.update(not_due=1, profile_avatars=1)
    return report


@dataclass
class FakeTarget:
    """What the engine's Target asks for, from memory."""

    name: str = "media"
    kind: str = "dendrite_media"
    report: PassReport | None = None
    planned: PassReport | None = None
    story: Explanation | None = None
    items: tuple[Item, ...] = ()
    in_quarantine: tuple[Released, ...] = ()
    restored: RestoreReport = field(default_factory=RestoreReport)
    swept: SweepReport = field(default_factory=SweepReport)
    cancelled: CancelledPurge = field(default_factory=CancelledPurge)
    standing: TargetStatus | None = None
    audited: AuditReport | None = None
    findings: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = ()
    policy_counts: tuple[PolicyCount, ...] = ()
    missing_rights: tuple[str, ...] = ()
    stores: tuple[StoreOverview, ...] = ()
    marked: list[str] = field(default_factory=list)
    acceptance: Acceptance = field(default_factory=lambda: Acceptance("media"))
    recorded: tuple[dict[str, Any], ...] = ()
    divisions: tuple[UsageBy, ...] = ("server", "room", "user", "type", "age", "file")
    used: tuple[UsageRow, ...] = ()
    verified: Verified = field(default_factory=Chain().result)
    coverage: Coverage = field(default_factory=lambda: Coverage(2, 1))
    members: HeldMembers = field(default_factory=HeldMembers)
    holds_on_record: list[Hold] = field(default_factory=list)
    unreachable: Exception | None = None
    during: Callable[[PassOptions | None], Awaitable[None]] | None = None
    asked: list[str] = field(default_factory=list)
    orders: list[PassOptions] = field(default_factory=list)
    requests: list[Request | None] = field(default_factory=list)
    selections: list[Selection] = field(default_factory=list)
    audit_orders: list[AuditOptions] = field(default_factory=list)

    @property
    def holds(self) -> FakeTarget:
        """The holds are kept in here."""
        return self

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Put one on, in force."""
        number = len(self.holds_on_record) + 1
        hold = Hold(number, request.subject, "in_force", request.until, request.reason, STARTED, "ann@here")
        if request.with_members:
            hold = replace(hold, with_members=True, members=self.members)
        self.holds_on_record.append(hold)
        return hold, self.coverage

    async def on_record(self, *, closed: bool) -> AsyncIterator[Hold]:
        """Stream them."""
        for hold in self.holds_on_record:
            if closed or hold.state == "in_force":
                yield hold

    async def release(self, hold_ids: list[int], subject: HoldSubject | None, reason: str) -> list[Hold]:
        """Release those in force that are meant."""
        released = []
        for place, hold in enumerate(self.holds_on_record):
            if hold.state == "in_force" and (hold.hold_id in hold_ids or hold.subject == subject):
                released.append(
                    replace(
                        hold,
                        state="released",
                        released_at=STARTED,
                        released_by="bob@here",
                        release_reason=reason,
                    )
                )
                self.holds_on_record[place] = released[-1]
        return released

    async def plan(
        self,
        listen: Callable[[Item], None] | None,
        progress: Progress,
        request: Request | None = None,
        keep: timedelta | None = None,
    ) -> PassReport:
        """Tell of each item, and return the report."""
        self.asked.append("plan")
        self.requests.append(request)
        if keep is not None:
            # A day of age, an item.
            report = make_report(self.name, "planned", dry_run=True, pass_id=None)
            report.removed = {"remote": Tally(keep.days, keep.days * 1024)}
            return report
        progress.stage("judging", len(self.items))
        if self.during:
            await self.during(None)
        for item in self.items:
            if listen:
                listen(item)
            progress.advance(1)
        return self.planned or self.report or make_report(self.name, "planned", dry_run=True, pass_id=None)

    async def explain(self, media: str, progress: Progress) -> Explanation:
        """Tell the story that was given."""
        del progress
        self.asked.append(f"explain {media}")
        return self.story or Explanation(self.name, media, STARTED)

    async def run_pass(self, order: PassOptions) -> PassReport:
        """Return the report; an order to stop makes it an interrupted one."""
        self.asked.append("run_pass")
        self.orders.append(order)
        order.progress.stage("removing", 3)
        order.progress.advance(3)
        if self.during:
            await self.during(order)
        return self.report or make_report(self.name, "interrupted" if order.stop.asked else "finished")

    async def check_quotas(self, order: PassOptions) -> PassReport | None:
        """Find that all fits."""
        self.asked.append(f"check_quotas {order.command}")
        return None

    async def sweep(self, *, everything: bool) -> SweepReport:
        """Return the counts."""
        self.asked.append(f"sweep everything={everything}")
        return self.swept

    async def released(self) -> AsyncIterator[Released]:
        """Stream what lies in quarantine."""
        self.asked.append("released")
        for released in self.in_quarantine:
            yield released

    async def restore(self, selection: Selection) -> RestoreReport:
        """Return the account."""
        self.asked.append("restore")
        self.selections.append(selection)
        return self.restored

    async def cancel_purge(self) -> CancelledPurge:
        """Return the account."""
        self.asked.append("cancel_purge")
        return self.cancelled

    async def end_grace(self) -> SweepReport:
        """Return the counts."""
        self.asked.append("end_grace")
        return self.swept

    async def records(self) -> AsyncIterator[dict[str, Any]]:
        """Stream the records."""
        self.asked.append("records")
        for record in self.recorded:
            yield record

    async def verify_records(self) -> Verified:
        """Return the account."""
        self.asked.append("verify_records")
        return self.verified

    async def newest_record(self) -> Link | None:
        """Return the end of the chain."""
        return self.verified.last if self.verified.records else None

    async def forget(self, media: Sequence[str] | None) -> list[str]:
        """Forget those that are marked."""
        gone = [uri for uri in self.marked if media is None or uri in media]
        self.marked = [uri for uri in self.marked if uri not in gone]
        return gone

    async def accept(self, *, yes: bool) -> Acceptance:
        """Return the account."""
        self.asked.append(f"accept yes={yes}")
        return replace(self.acceptance, accepted=yes)

    async def audit(self, order: AuditOptions) -> AuditReport:
        """Tell of each finding, and return the report of them."""
        self.asked.append("audit")
        self.audit_orders.append(order)
        report = self.audited or AuditReport(self.name, STARTED, STARTED, rows=5, blobs=4)
        order.progress.stage("audit", 5)
        order.progress.advance(5)
        for finding in self.findings:
            report.add(finding)
            if order.listen:
                order.listen(finding)
        return report

    async def statistics(self, progress: Progress) -> StoreStatistics:
        """Draw an empty store."""
        del progress
        return StoreStatistics(self.name, self.kind, datetime.now(UTC), Tally())

    async def usage(self, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
        """Return the rows, and remember the question."""
        del progress
        self.asked.append(f"usage {by} {top}")
        return list(self.used)

    async def status(self) -> TargetStatus:
        """Return the standing, which is that of a new store unless told otherwise."""
        self.asked.append("status")
        return self.standing or TargetStatus(self.name, self.kind, ledger=False)

    async def check(self) -> Check:
        """Return the problems, and the counts of the policies."""
        self.asked.append("check")
        problems: list[RetentiondError] = [UnreachableError(problem) for problem in self.problems]
        if self.missing_rights:
            problems.append(MissingRightError("the role lacks rights; run:", self.missing_rights))
        return Check(problems, self.policy_counts, stores=self.stores)

    async def beat(self) -> None:
        """Count a sign of life."""
        self.asked.append("beat")

    async def end_beat(self) -> None:
        """Count the last one."""
        self.asked.append("end_beat")


@dataclass
class FakeTargets:
    """The factory: opens the target of that name, or fails as its `unreachable` says."""

    targets: dict[str, FakeTarget]
    configs: dict[str, MediaTarget] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, name: str, config: TargetConfig) -> AsyncIterator[FakeTarget]:
        """Open one."""
        self.configs[name] = as_media(config)
        target = self.targets[name]
        if target.unreachable is not None:
            raise target.unreachable
        try:
            yield target
        finally:
            self.closed.append(name)
