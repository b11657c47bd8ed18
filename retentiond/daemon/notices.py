"""The notices of the daemon and of `once`: which are sent of each target, and by which channels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from retentiond.config.units import format_duration
from retentiond.ledger.host import host_name
from retentiond.model.notices import History, Notice

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from retentiond.adapters.announcer import Announcer
    from retentiond.adapters.clock import Clock
    from retentiond.config.notify import Notify
    from retentiond.model.audit import AuditReport
    from retentiond.model.notices import Sent
    from retentiond.model.report import PassReport, TargetStatus

CLOSING: Final = 2.0
"""Seconds that queued notices have when the daemon stops."""
_PAUSE: Final = 5.0  # seconds before the second attempt
_SHORT_PAUSE: Final = 1.0
_FAILED: Final = frozenset({"refused", "finished_with_failures"})


class Notices:
    """The notices of each target; without a section `notify` nothing is sent.

    A command sends `at_once`: it ends before the quiet hours do.
    """

    def __init__(self, clock: Clock, *, at_once: bool = False) -> None:
        self._clock = clock
        self._at_once = at_once
        self._notify: Notify | None = None
        self._announcer: Announcer | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._histories: dict[str, History] = {}
        self._succeeded: dict[str, datetime] = {}

    def adopt(self, notify: Notify | None) -> None:
        """Use the channels of this section; notices queued for other channels have a moment to be sent."""
        if notify == self._notify:
            return
        self._leave(CLOSING)
        self._notify = notify
        failing = {name for name, history in self._histories.items() if history.failing}
        self._histories = {}
        if notify is not None:
            # The client of HTTP takes as long to import as all else of `once`, which mostly sends nothing.
            from retentiond.adapters.announcer import Announcer  # noqa: PLC0415
            from retentiond.adapters.channels import channels_of  # noqa: PLC0415

            self._announcer = Announcer(
                channels_of(notify, host_name()),
                self._clock,
                quiet=None if self._at_once else notify.quiet,
                pause=_SHORT_PAUSE if self._at_once else _PAUSE,
            )
            for name in failing:
                self._history(name, notify).failing = True

    async def close(self, within: float = CLOSING) -> None:
        """Send the queued notices within so many seconds, and no later ones."""
        self._leave(within)
        await asyncio.gather(*self._closing)

    def last_sent(self, name: str) -> Sent | None:
        """Return the last notice about a target that these channels have sent."""
        return self._announcer.sent.get(name) if self._announcer is not None else None

    def opened(self, name: str, status: TargetStatus) -> None:
        """Take over the time of the last success, and a failure since, from the ledger."""
        now = self._clock.now()
        # A time in the future is another clock's.
        self._succeeded[name] = min(status.last_success or self._succeeded.get(name, now), now)
        failed = status.last_pass is not None and status.last_pass["state"] in _FAILED
        if failed and self._notify is not None:
            self._history(name, self._notify).failing = True

    def forget(self, name: str) -> None:
        """Forget a target."""
        self._histories.pop(name, None)
        self._succeeded.pop(name, None)

    def begun(self, name: str) -> None:
        """Send the start of a pass."""
        self._send([Notice("start", name, "", self._clock.now())])

    def ended(self, name: str, report: PassReport, *, stopped: bool, scheduled: bool) -> None:
        """Send the end of a pass; a success is only that of a scheduled one, which deletes all that is due."""
        now = self._clock.now()
        if report.state == "finished" and scheduled:
            self._succeeded[name] = now
        if self._notify is not None:
            history = self._history(name, self._notify)
            notices = history.of_pass(report, self._notify.inconsistencies_above, now, stopped=stopped)
            self._send(notice for notice in notices if scheduled or notice.occasion != "success")

    def failed(self, name: str, message: str, *, refused: bool = False) -> None:
        """Send that a pass did not begin, or that a target cannot be reached."""
        if self._notify is not None:
            history = self._history(name, self._notify)
            self._send(history.trouble("refusal" if refused else "failure", name, message, self._clock.now()))

    def audited(self, report: AuditReport) -> None:
        """Send the inconsistencies of an audit."""
        if self._notify is not None:
            history = self._history(report.target, self._notify)
            self._send(history.of_audit(report, self._notify.inconsistencies_above, self._clock.now()))

    def look_for_overdue(self, scheduled: Iterable[str]) -> None:
        """Send which of the scheduled targets have had no finished pass for too long."""
        if self._notify is None:
            return
        now, after = self._clock.now(), self._notify.overdue_after
        for name in scheduled:
            last = self._succeeded.setdefault(name, now)
            if now - last > after:
                message = (
                    f"no pass has finished since {last:%Y-%m-%d %H:%M} UTC, for more than {format_duration(after)}; "
                    f"`retentiond status {name}` shows why"
                )
                self._send(self._history(name, self._notify).trouble("overdue", name, message, now))

    def _history(self, name: str, notify: Notify) -> History:
        return self._histories.setdefault(name, History(notify.at_most_every))

    def _send(self, notices: Iterable[Notice]) -> None:
        if self._announcer is not None:
            self._announcer.queue(notices)

    def _leave(self, within: float) -> None:
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            task = asyncio.get_running_loop().create_task(announcer.close(within), name="last notices")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
