"""Pace: the items that may be deleted in a second, so that a pass leaves the server room to work."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Pace:
    """Holds a stream of batches to a rate; clock and sleep may be a test's own."""

    def __init__(
        self,
        items_per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = items_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    async def take(self, items: int) -> None:
        """Wait until these items may go; an idle time is not saved up for a burst."""
        now = self._clock()
        if self._free_at > now:
            await self._sleep(self._free_at - now)
        self._free_at = max(self._free_at, now) + items / self._rate
