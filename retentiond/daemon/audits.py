"""Audits beside the passes, one every so often; what was missed while the daemon was down is caught up with."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.engine.target import AuditOrder, Stop
from retentiond.model.errors import BusyError, RetentiondError, UnreachableError

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from retentiond.config.schedule import AuditSchedule
    from retentiond.daemon.board import Board
    from retentiond.daemon.clock import Clock
    from retentiond.daemon.contact import Contact
    from retentiond.engine.target import Target

_LOOK_EVERY: Final = 60.0  # the wall clock may be set, or the machine sleep
_TRY_AGAIN: Final = timedelta(hours=1)

_log = get_logger()


class Audits:
    """The audits of one opened target. What is no RetentiondError ends them, and is raised."""

    def __init__(
        self,
        target: Target,
        schedule: AuditSchedule | None,
        clock: Clock,
        contact: Contact,
        board: Board,
    ) -> None:
        self._target = target
        self._schedule = schedule
        self._clock = clock
        self._contact = contact
        self._board = board
        self._stop = Stop()
        self._auditing = False
        self._complaint = ""

    async def run(self) -> None:
        """Audit until ended; a store that never was audited is due at once."""
        if self._schedule is None:
            return
        every = self._schedule.every
        due = await self._first_due(every)
        while not self._stop.asked:
            left = (due - self._clock.now()).total_seconds()
            if left > 0:
                await self._clock.sleep(min(left, _LOOK_EVERY))
                continue
            started = self._clock.now()
            done = await self._audit()
            due = started + (every if done else min(every, _TRY_AGAIN))

    def end(self, audits: asyncio.Task[None]) -> None:
        """Let the audit under way end before its time, and no other begin."""
        self._stop.ask()
        if not self._auditing:
            audits.cancel()

    async def _first_due(self, every: timedelta) -> datetime:
        while True:
            try:
                last = (await self._target.status()).last_audit
            except RetentiondError as error:
                # The sweeps meet the same, and say so.
                _log.debug("last_audit_unknown", target=self._target.name, error=str(error))
                await self._clock.sleep(_LOOK_EVERY)
                continue
            now = self._clock.now()
            # One in the future is another clock's; it must not put off the next.
            return min(last["started_at"], now) + every if last else now

    async def _audit(self) -> bool:
        self._auditing = True
        try:
            report = await self._target.audit(AuditOrder("run", patience=0.0, stop=self._stop))
            self._board.audited(report)
        except BusyError:
            # Another daemon looks after the target, and audits it.
            return False
        except UnreachableError as error:
            self._contact.lost(error)
        except RetentiondError as error:
            # Once, and not every hour of a week.
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("audit_refused", target=self._target.name, error=self._complaint)
        else:
            self._complaint = ""
            return True
        finally:
            self._auditing = False
        return False
