"""What goes on beside the passes, every minute: sweeps of the quarantine, and the daemon's sign of life."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.model.errors import RetentiondError, UnreachableError

if TYPE_CHECKING:
    from retentiond.daemon.board import Board
    from retentiond.daemon.clock import Clock
    from retentiond.daemon.contact import Contact
    from retentiond.engine.target import Target

INTERVAL: Final = 60.0
"""Seconds from one sweep, and from one sign of life, to the next."""
_SWEEPS_BETWEEN: Final = 59  # two sweeps of everything: an hour

_log = get_logger()


class Rounds:
    """The rounds of one opened target. What is no RetentiondError ends them, and is raised."""

    def __init__(self, target: Target, clock: Clock, contact: Contact, board: Board) -> None:
        self._target = target
        self._board = board
        self._clock = clock
        self._contact = contact
        self._sweeping = asyncio.Lock()
        self._complaint = ""

    async def sweep(self) -> None:
        """Sweep until cancelled: everything at first and once an hour, else what is new."""
        others_left = 0
        while True:
            everything = others_left == 0
            async with self._sweeping:
                done = await self._sweep_once(everything=everything)
            if not everything:
                others_left -= 1
            elif done:
                # One that failed is tried again as it was: the first finishes what a crash left open.
                others_left = _SWEEPS_BETWEEN
            await self._clock.sleep(INTERVAL)

    async def beat(self) -> None:
        """Give signs of life until cancelled, so that commands know who sweeps."""
        while True:
            try:
                await self._target.beat()
            except RetentiondError as error:
                # The sweeps meet the same, and say so.
                _log.debug("beat_failed", target=self._target.name, error=str(error))
            await self._clock.sleep(INTERVAL)

    async def end(self, sweeps: asyncio.Task[None], beats: asyncio.Task[None]) -> None:
        """Let the sweep under way finish, end both, and take the sign of life back."""
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
            self._board.swept(self._target.name, await self._target.sweep(everything=everything))
            if self._board.wants_status:
                self._board.stands(await self._target.status())
        except UnreachableError as error:
            self._contact.lost(error)
        except RetentiondError as error:
            # Once, and not every minute of a night.
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("sweep_refused", target=self._target.name, error=self._complaint)
        else:
            self._complaint = ""
            self._contact.made()
            return True
        return False
