"""Threads for the disk: whole batches of file work go to them, so that no call of it blocks the event loop.

One awaited call a file costs several times the file work itself; a batch a thread does not.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Final, TypeVar

import aiofiles.os

from retentiond.model.disk_errors import disk_error
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

_SLOW: Final = 0.000_2
"""Seconds that a thread waits for one item, from which on the disk is what is waited for: ext4 lets an unlink wait, and
a network each call. Two busy threads wait for the interpreter, for less. Half of it keeps a slow disk slow.
"""


class DiskWorkers:
    """A bounded pool of threads for file work; `concurrency` is how many calls may wait for the disk at once.

    The work that a thread has begun is waited for, also by a cancelled caller: a caller that closes a descriptor
    afterwards must not close it while a thread uses it. Threads hand the interpreter's lock to each other at every call,
    which costs more than most calls, so a batch is cut into shares only once the same work has waited for the disk. An OSError that the work did not expect is raised as an
    UnreachableError, so that it is not taken for the database's.
    """

    def __init__(self, concurrency: int, clock: Callable[[], float] = monotonic) -> None:
        self._concurrency = concurrency
        self._clock = clock
        self._slow: set[str] = set()
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="disk")

    def close(self) -> None:
        """Wait for the work under way and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def call(self, work: Callable[[], R]) -> R:
        """Do one piece of file work in a thread."""
        (result,) = await self._all([work])
        return result

    async def share(self, work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
        """Do the work in a thread, on a slow disk in several with a share each, and return the results in order.

        Every share runs to its end, also when another fails: no work continues after the return.
        """
        if not items:
            return []
        kind = getattr(work, "__qualname__", "")
        size = -(-len(items) // (self._concurrency if kind in self._slow else 1))
        shares = [items[start : start + size] for start in range(0, len(items), size)]
        results = await self._all([partial(self._timed, work, share) for share in shares])
        # Shares wait for each other as well.
        waited = sum(seconds for _, seconds in results) / len(items) / len(shares)
        limit = _SLOW / 2 if kind in self._slow else _SLOW
        (self._slow.add if waited > limit else self._slow.discard)(kind)
        return [result for share, _ in results for result in share]

    def _timed(self, work: Callable[[Sequence[T]], list[R]], share: Sequence[T]) -> tuple[list[R], float]:
        began, used = self._clock(), thread_time()
        results = work(share)
        return results, self._clock() - began - (thread_time() - used)

    async def _all(self, pieces: Sequence[Callable[[], R]]) -> list[R]:
        under_way = asyncio.gather(
            *(aiofiles.os.wrap(piece)(executor=self._threads) for piece in pieces), return_exceptions=True
        )
        try:
            done = await asyncio.shield(under_way)
        except asyncio.CancelledError:
            while not under_way.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({under_way})
            raise
        results: list[R] = []
        for outcome in done:
            if isinstance(outcome, OSError):
                raise UnreachableError(f"the media directory: {disk_error(outcome)}") from outcome
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        return results
