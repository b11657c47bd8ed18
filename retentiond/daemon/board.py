"""How the targets are, for `systemctl status` and for the metrics."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from retentiond.adapters.metrics import Hindrance, Metrics
    from retentiond.adapters.systemd import Notifier
    from retentiond.daemon.clock import Clock
    from retentiond.model.audit import AuditReport
    from retentiond.model.errors import PassLimit, StoreLimit
    from retentiond.model.report import PassReport, SweepReport, TargetStatus

# A pass counts thousands of items a second; nobody reads that fast.
_LEAST_PAUSE: Final = timedelta(seconds=1)


class Board:
    """Knows what each target is at, and tells systemd and the metrics. `next_times` says when passes are due."""

    def __init__(
        self,
        notifier: Notifier,
        metrics: Metrics,
        clock: Clock,
        next_times: Callable[[], Mapping[str, datetime]],
    ) -> None:
        self._notifier = notifier
        self._metrics = metrics
        self._clock = clock
        self._next_times = next_times
        self._lost: dict[str, datetime] = {}
        self._at_work: dict[str, str] = {}
        self._last = ""
        self._stopping = False
        self._shown: tuple[str, datetime] | None = None

    def lost(self, name: str, since: datetime) -> None:
        """Say that a target cannot be reached."""
        self._lost[name] = since
        self._metrics.reachable(name, yes=False)
        self.refresh()

    def found(self, name: str) -> None:
        """Say that a target can be reached."""
        self._lost.pop(name, None)
        self._metrics.reachable(name, yes=True)
        self.refresh()

    def working(self, name: str, stage: str, done: int, total: int | None) -> None:
        """Say how far a pass is."""
        of_all = "" if total is None else f" of {total}"
        self._at_work[name] = f"{name}: {stage}, {done}{of_all} items"
        if self._shown is None or not timedelta(0) <= self._clock.now() - self._shown[1] < _LEAST_PAUSE:
            self.refresh()

    def begun(self, name: str) -> None:
        """Say that a pass begins."""
        self._at_work[name] = f"{name}: a pass begins"
        self.refresh()

    def ended(self, name: str, report: PassReport | None) -> None:
        """Say that a pass is over; no report where it could not begin."""
        self._at_work.pop(name, None)
        if report is not None:
            self._metrics.passed(report)
        if report is not None and report.pass_id is not None:
            self._last = f"{name}: pass {report.pass_id}, {report.removed_items} items removed"
        self.refresh()

    def expect(self, name: str, rules: Iterable[str]) -> None:
        """Prepare for a target, whose passes follow these rules."""
        self._metrics.expect(name, rules)

    def refused(self, name: str, reason: PassLimit | StoreLimit | Hindrance) -> None:
        """Say that a pass could not begin."""
        self._metrics.refused(name, reason)

    def swept(self, name: str, report: SweepReport) -> None:
        """Say what a sweep did."""
        self._metrics.swept(name, report)

    def audited(self, report: AuditReport) -> None:
        """Say what an audit found."""
        self._metrics.audited(report)

    @property
    def wants_status(self) -> bool:
        """Whether anybody asks how targets stand between their passes."""
        return self._metrics.served

    def stands(self, status: TargetStatus) -> None:
        """Say how a target stands."""
        self._metrics.stands(status)

    def forget(self, name: str) -> None:
        """Say no more of a target."""
        self._metrics.forget(name)
        self._lost.pop(name, None)
        self._at_work.pop(name, None)
        self.refresh()

    def stopping(self) -> str:
        """Return the text for the shutdown, and go on from there."""
        self._stopping = True
        return self.text()

    def refresh(self) -> None:
        """Tell systemd, where there is anything new."""
        text = self.text()
        if self._shown is None or self._shown[0] != text:
            self._shown = (text, self._clock.now())
            self._notifier.status(text)

    def text(self) -> str:
        """Return the line: what is wrong, what is going on, what was last, what comes next."""
        parts = [f"{name} cannot be reached since {_moment(since)}" for name, since in self._lost.items()]
        parts += self._at_work.values()
        if self._stopping:
            return "; ".join(["stopping", *parts])
        parts = parts or ["idle"]
        if self._last:
            parts.append(f"last {self._last}")
        times = self._next_times()
        if times:
            name = min(times, key=lambda name: times[name])
            parts.append(f"next pass of {name} at {_moment(times[name])}")
        return "; ".join(parts)


def _moment(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")
