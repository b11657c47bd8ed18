"""The status of the targets, for `systemctl status`, the metrics and the notices, and whether each can be reached."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from retentiond.adapters.clock import Clock
    from retentiond.adapters.metrics import Hindrance, Metrics
    from retentiond.adapters.systemd import Notifier
    from retentiond.daemon.notices import Notices
    from retentiond.daemon.quiet import QuietTimes
    from retentiond.daemon.states import TargetStates
    from retentiond.model.audit import AuditReport
    from retentiond.model.errors import PassLimit, RetentiondError, StoreLimit
    from retentiond.model.limits import Headroom
    from retentiond.model.notices import Sent
    from retentiond.model.report import PassReport, SweepReport, Tally, TargetStatus

_log = get_logger()


# A pass counts thousands of items a second.
_LEAST_PAUSE: Final = timedelta(seconds=1)


class StatusReporter:
    """Collects the status of each target, for systemd, the metrics and the notices. `next_times` returns when passes are due."""

    def __init__(
        self,
        notifier: Notifier,
        metrics: Metrics,
        clock: Clock,
        next_times: Callable[[], Mapping[str, datetime]],
        notices: Notices,
        states: TargetStates,
        quiet: QuietTimes,
    ) -> None:
        self._notifier = notifier
        self._metrics = metrics
        self._clock = clock
        self._next_times = next_times
        self._notices = notices
        self._states = states
        self._quiet = quiet
        self._lost: dict[str, datetime] = {}
        self._at_work: dict[str, str] = {}
        self._last = ""
        self._stopping = False
        self._shown: tuple[str, datetime] | None = None

    def lost(self, name: str, since: datetime, error: str) -> None:
        """Record that a target cannot be reached."""
        self._lost[name] = since
        self._notices.failed(name, error)
        self._metrics.reachable(name, yes=False)
        self._states.lost(name, error)
        self.refresh()

    def found(self, name: str) -> None:
        """Record that a target can be reached."""
        self._lost.pop(name, None)
        self._metrics.reachable(name, yes=True)
        self.refresh()

    def working(self, name: str, stage: str, done: int, total: int | None) -> None:
        """Record the progress of a pass."""
        of_all = "" if total is None else f" of {total}"
        self._at_work[name] = f"{name}: {stage}, {done}{of_all} items"
        if self._shown is None or not timedelta(0) <= self._clock.now() - self._shown[1] < _LEAST_PAUSE:
            self.refresh()

    def last_notice(self, name: str) -> Sent | None:
        """Return the last notice about a target that was sent."""
        return self._notices.last_sent(name)

    def opened(self, name: str, status: TargetStatus) -> None:
        """Record the state in which a target was opened."""
        self._notices.opened(name, status)
        self._states.stands(status)

    def begun(self, name: str) -> None:
        """Record the start of a pass."""
        self._notices.begun(name)
        self._quiet.begun(name)
        self._at_work[name] = f"{name}: a pass begins"
        self.refresh()

    def ended(self, name: str, report: PassReport | None, *, stopped: bool, scheduled: bool) -> None:
        """Record the end of a pass; `report` is None if it did not begin."""
        self._at_work.pop(name, None)
        self._quiet.ended(name)
        if report is not None:
            self._metrics.passed(report)
            self._notices.ended(name, report, stopped=stopped, scheduled=scheduled)
        if report is not None and report.pass_id is not None:
            self._last = f"{name}: pass {report.pass_id}, {report.removed_items} items removed"
        self.refresh()

    def expect(self, name: str, rules: Iterable[str]) -> None:
        """Prepare the metrics of a target with these rules."""
        self._metrics.expect(name, rules)

    def refused(self, name: str, reason: PassLimit | StoreLimit | Hindrance, error: str) -> None:
        """Record a refused pass."""
        self._metrics.refused(name, reason)
        # Another process works on the target, and sends its own notices.
        if reason != "busy":
            self._notices.failed(name, error, refused=reason not in ("unreachable", "error"))

    def swept(self, name: str, report: SweepReport) -> None:
        """Record a sweep; trouble that stops the target is sent, too."""
        self._metrics.swept(name, report)
        if report.stopped is not None:
            self._notices.failed(name, str(report.stopped), refused=True)

    def audited(self, report: AuditReport) -> None:
        """Record an audit."""
        self._metrics.audited(report)
        self._notices.audited(report)

    @property
    def wants_status(self) -> bool:
        """Whether the status between passes is served."""
        return self._metrics.served

    def stands(self, status: TargetStatus) -> None:
        """Record the status of a target."""
        self._metrics.stands(status)
        self._states.stands(status)

    def measured(self, name: str, at: datetime, stored: Tally, free_bytes: int | None = None) -> None:
        """Record the size of a store."""
        self._metrics.measured(name, at, stored, free_bytes)

    def surveyed(self, name: str, limits: Iterable[Headroom]) -> None:
        """Record how much of each limit a survey left."""
        self._metrics.surveyed(name, limits)

    def beaten(self, name: str) -> None:
        """Record a heartbeat that was written to the ledger."""
        self._states.beaten(name)

    def forget(self, name: str) -> None:
        """Remove a target."""
        self._quiet.ended(name)
        self._metrics.forget(name)
        self._notices.forget(name)
        self._lost.pop(name, None)
        self._at_work.pop(name, None)
        self.refresh()

    def stopping(self) -> str:
        """Switch to the text of the shutdown, and return it."""
        self._stopping = True
        return self.text()

    def refresh(self) -> None:
        """Send the text to systemd if it has changed, and the times of the next passes to the metrics."""
        self._metrics.next_passes(self._next_times())
        text = self.text()
        if self._shown is None or self._shown[0] != text:
            self._shown = (text, self._clock.now())
            self._notifier.status(text)

    def text(self) -> str:
        """Return the line: problems, running work, the last pass, and the next one."""
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


class Reachability:
    """Whether one target can be reached, after the last attempt."""

    def __init__(self, name: str, clock: Clock, status: StatusReporter) -> None:
        self._name = name
        self._clock = clock
        self._status = status
        self._since: datetime | None = None

    def lost(self, error: RetentiondError) -> None:
        """Record a failed attempt."""
        if self._since is None:
            self._since = self._clock.now()
            _log.error("target_unreachable", target=self._name, error=str(error))
            self._status.lost(self._name, self._since, str(error))

    def made(self) -> None:
        """Record a successful attempt."""
        if self._since is not None:
            _log.info("target_reached", target=self._name, unreachable_since=self._since)
            self._since = None
        self._status.found(self._name)
