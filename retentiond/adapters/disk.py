"""Threads for the disk: whole batches of file work go to them, so that no call of it blocks the event loop.

One awaited call a file costs several times the file work itself; a batch a thread does not.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import aiofiles.os

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

_LARGEST_SHARE = 256


class DiskWorkers:
    """A bounded pool of threads for file work; `concurrency` is how many calls may wait for the disk at once."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="disk")

    def close(self) -> None:
        """Wait for the work under way and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def call(self, work: Callable[[], R]) -> R:
        """Do one piece of file work in a thread."""
        result: R = await aiofiles.os.wrap(work)(executor=self._threads)
        return result

    async def share(self, work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
        """Cut the items into consecutive shares, do each share in a thread, and return the results in order.

        Every share runs to its end, also when another fails: nothing goes on behind the caller's back.
        """
        size = max(1, min(_LARGEST_SHARE, -(-len(items) // self._concurrency)))
        wrapped = aiofiles.os.wrap(work)
        shares = [items[start : start + size] for start in range(0, len(items), size)]
        done = await asyncio.gather(
            *(wrapped(share, executor=self._threads) for share in shares), return_exceptions=True
        )
        results: list[R] = []
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome
            results.extend(outcome)
        return results
