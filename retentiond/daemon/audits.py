"""Audits at their interval; one that was due while the daemon was down runs at its start."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.engine.capabilities import HasAudit
from retentiond.engine.target import AuditOptions, Stop
from retentiond.model.errors import BusyError, RetentiondError, UnreachableError

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from retentiond.adapters.clock import Clock
    from retentiond.config.schedule import AuditSchedule
    from retentiond.daemon.status import Reachability, StatusReporter
    from retentiond.engine.target import Target

_LOOK_EVERY: Final = 60.0  # the wall clock may be set, or the machine sleep
_TRY_AGAIN: Final = timedelta(hours=1)

_log = get_logger()


class Audits:
    """The audits of one opened target. Every error but RetentiondError ends them, and is raised."""

    def __init__(
        self,
        target: Target,
        schedule: AuditSchedule | None,
        clock: Clock,
        reachability: Reachability,
        status: StatusReporter,
    ) -> None:
        self._target = target
        self._schedule = schedule
        self._clock = clock
        self._reachability = reachability
        self._status = status
        self._stop = Stop()
        self._auditing = False
        self._complaint = ""

    async def run(self) -> None:
        """Audit until ended; a store without an audit is due at once."""
        if self._schedule is None or not isinstance(self._target, HasAudit):
            return
        every = self._schedule.every
        due = await self._first_due(every)
        while not self._stop.asked:
            left = (due - self._clock.now()).total_seconds()
            if left > 0:
                await self._clock.sleep(min(left, _LOOK_EVERY))
                continue
            started = self._clock.now()
            done = await self._audit(self._target)
            due = started + (every if done else min(every, _TRY_AGAIN))

    def end(self, audits: asyncio.Task[None]) -> None:
        """Stop the running audit early, and start no other."""
        self._stop.ask()
        if not self._auditing:
            audits.cancel()

    async def _first_due(self, every: timedelta) -> datetime:
        while True:
            try:
                last = (await self._target.status()).last_audit
            except RetentiondError as error:
                # The sweeps report the same error.
                _log.debug("last_audit_unknown", target=self._target.name, error=str(error))
                await self._clock.sleep(_LOOK_EVERY)
                continue
            now = self._clock.now()
            # A time in the future is from another clock, and must not delay the next audit.
            return min(last["started_at"], now) + every if last else now

    async def _audit(self, target: HasAudit) -> bool:
        self._auditing = True
        try:
            report = await target.audit(AuditOptions("run", patience=0.0, stop=self._stop))
            self._status.audited(report)
        except BusyError:
            # Another daemon works on the target, and audits it.
            return False
        except UnreachableError as error:
            self._reachability.lost(error)
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
