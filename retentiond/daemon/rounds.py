"""Work beside the passes: sweeps of the quarantine and heartbeats each minute, audits by schedule, a sample each day."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.engine.capabilities import HasAudit, HasSamples
from retentiond.engine.target import AuditOptions, NullProgress, Stop
from retentiond.model.errors import BusyError, RetentiondError, UnreachableError
from retentiond.model.text import without_numbers

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.adapters.clock import Clock
    from retentiond.config.schedule import AuditSchedule
    from retentiond.daemon.status import Reachability, StatusReporter
    from retentiond.engine.target import Target

INTERVAL: Final = 60.0
"""Seconds between two sweeps, and between two heartbeats."""
_SWEEPS_BETWEEN: Final = 59  # two sweeps of everything: an hour

_log = get_logger()
_AUDIT_LOOK_EVERY: Final = 60.0  # the wall clock may be set, or the machine sleep
_TRY_AGAIN: Final = timedelta(hours=1)
SAMPLE_LOOK_EVERY: Final = 3600.0
"""Seconds between two looks; a look where today has a sample reads one row of the ledger."""


class SweepLoop:
    """Sweeps and heartbeats of one opened target. Every error but RetentiondError ends them, and is raised."""

    def __init__(
        self, target: Target, clock: Clock, reachability: Reachability, status: StatusReporter
    ) -> None:
        self._target = target
        self._status = status
        self._clock = clock
        self._reachability = reachability
        self._sweeping = asyncio.Lock()
        self._complaint = ""

    async def sweep(self) -> None:
        """Sweep until cancelled: everything first and once an hour, otherwise new entries."""
        others_left = 0
        while True:
            everything = others_left == 0
            async with self._sweeping:
                done = await self._sweep_once(everything=everything)
            if not everything:
                others_left -= 1
            elif done:
                # A failed full sweep is repeated: the first one finishes work that a crash left open.
                others_left = _SWEEPS_BETWEEN
            await self._clock.sleep(INTERVAL)

    async def beat(self) -> None:
        """Write heartbeats until cancelled, so that commands know whether a daemon runs."""
        while True:
            try:
                await self._target.beat()
                self._status.beaten(self._target.name)
            except RetentiondError as error:
                # The sweeps report the same error.
                _log.debug("beat_failed", target=self._target.name, error=str(error))
            await self._clock.sleep(INTERVAL)

    async def end(self, sweeps: asyncio.Task[None], beats: asyncio.Task[None]) -> None:
        """Let the running sweep finish, end both tasks, and remove the heartbeat."""
        async with self._sweeping:
            sweeps.cancel()
        beats.cancel()
        await asyncio.wait({sweeps, beats})
        try:
            await self._target.end_beat()
        except RetentiondError as error:
            _log.debug("beat_failed", target=self._target.name, error=str(error))

    async def _sweep_once(self, *, everything: bool) -> bool:
        try:
            self._status.swept(self._target.name, await self._target.sweep(everything=everything))
            if self._status.wants_status:
                self._status.stands(await self._target.status())
        except UnreachableError as error:
            self._reachability.lost(error)
        except RetentiondError as error:
            # Once, and not every minute of a night.
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("sweep_refused", target=self._target.name, error=self._complaint)
        else:
            self._complaint = ""
            self._reachability.made()
            return True
        return False


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
                await self._clock.sleep(min(left, _AUDIT_LOOK_EVERY))
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
                await self._clock.sleep(_AUDIT_LOOK_EVERY)
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


async def take_samples(target: Target, clock: Clock, status: StatusReporter) -> None:
    """Take the samples of one opened target until cancelled; an error is a warning, and the next look tries again.

    The newest one goes to the metrics, whoever took it.
    """
    if not isinstance(target, HasSamples):
        return
    complaint = ""
    while True:
        try:
            if await target.take_sample("run", NullProgress()):
                _log.info("sample_taken", target=target.name)
            for sample in await target.samples(1):
                status.measured(target.name, sample.at, sample.stored, sample.free_bytes)
            complaint = ""
        except BusyError:
            # Another daemon works on the target, and takes its samples.
            complaint = ""
        except RetentiondError as error:
            # Once, and not every hour of a week.
            if without_numbers(str(error)) != complaint:
                complaint = without_numbers(str(error))
                _log.warning("sample_not_taken", target=target.name, error=str(error))
        await clock.sleep(SAMPLE_LOOK_EVERY)
