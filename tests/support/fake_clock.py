"""A clock that only the test moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

# So far off that APScheduler, which looks at the machine's clock, never finds anything due by itself.
NOON = datetime(2100, 6, 1, 12, 0, tzinfo=UTC)


async def settle() -> None:
    """Let every task go on until it waits for something from outside."""
    for _ in range(100):
        await asyncio.sleep(0)


class FakeClock:
    """Waits end when the test moves the time past them; `pauses` are all that were asked for, in seconds."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._waits: list[tuple[datetime, asyncio.Future[None]]] = []
        self.pauses: list[float] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wait = (self._now + timedelta(seconds=seconds), ended)
        self._waits.append(wait)
        try:
            await ended
        finally:
            self._waits.remove(wait)

    async def advance(self, seconds: float) -> None:
        """Move the time, stopping at each wait's end so that its task can begin the next."""
        await settle()
        end = self._now + timedelta(seconds=seconds)
        while due := [wait for wait in self._waits if wait[0] <= end and not wait[1].done()]:
            moment, ended = min(due, key=lambda wait: wait[0])
            self._now = max(self._now, moment)
            ended.set_result(None)
            await settle()
        self._now = end
        await settle()
