"""Work beside the passes, every minute: sweeps of the quarantine, and the heartbeat of the daemon."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.model.errors import RetentiondError, UnreachableError

if TYPE_CHECKING:
    from retentiond.adapters.clock import Clock
    from retentiond.daemon.status import Reachability, StatusReporter
    from retentiond.engine.target import Target

INTERVAL: Final = 60.0
"""Seconds between two sweeps, and between two heartbeats."""
_SWEEPS_BETWEEN: Final = 59  # two sweeps of everything: an hour

_log = get_logger()


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
