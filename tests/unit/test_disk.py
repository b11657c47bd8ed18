"""Threads for the disk: what they have begun they end, whoever is cancelled, and a disk's error is no database's."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from itertools import count
from typing import TYPE_CHECKING

import pytest

from retentiond.adapters.disk import DiskWorkers
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence


@pytest.fixture
def disk() -> Iterator[DiskWorkers]:
    workers = DiskWorkers(2)
    yield workers
    workers.close()


@pytest.fixture
async def slow_disk() -> AsyncIterator[DiskWorkers]:
    """Workers that wait a second for each share, by a clock that only goes on when it is asked."""
    workers = DiskWorkers(2, clock=count().__next__)
    yield workers
    workers.close()


async def test_a_batch_on_a_fast_disk_is_one_piece_of_work() -> None:
    pieces: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        pieces.append(len(items))
        return list(items)

    still = DiskWorkers(2, clock=lambda: 0.0)
    try:
        for _ in range(2):
            await still.share(work, range(1000))
    finally:
        still.close()
    assert pieces == [1000, 1000]


async def test_only_the_work_that_waits_for_the_disk_is_cut_into_shares(slow_disk: DiskWorkers) -> None:
    pieces: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        pieces.append(len(items))
        return list(items)

    await slow_disk.share(list, range(4))
    for _ in range(2):
        await slow_disk.share(work, range(4))
    # A second for 20,000 items is no wait.
    await slow_disk.share(work, range(40_000))
    await slow_disk.share(work, range(4))
    assert sorted(pieces, reverse=True) == [20_000, 20_000, 4, 4, 2, 2]


async def test_results_come_in_the_order_of_the_items(disk: DiskWorkers) -> None:
    assert await disk.share(lambda items: [2 * item for item in items], range(1000)) == list(
        range(0, 2000, 2)
    )


async def test_who_is_cancelled_still_waits_for_what_a_thread_has_in_its_hands(disk: DiskWorkers) -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        begun.set()
        go_on.wait(20)
        done.extend(items)
        return list(items)

    waiting = asyncio.create_task(disk.share(work, [1, 2, 3, 4]))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.sleep(0.01)
    # Whoever closes the descriptors after it must not close them under the thread's hands.
    assert not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sorted(done) == [1, 2, 3, 4]


async def test_every_share_ends_also_when_another_fails(slow_disk: DiskWorkers) -> None:
    done: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise ValueError(items)
        done.extend(items)
        return list(items)

    await slow_disk.share(work, [0])
    with pytest.raises(ValueError, match="1"):
        await slow_disk.share(work, [1, 2, 3, 4])
    assert done == [0, 3, 4]


async def test_an_error_of_the_disk_is_not_taken_for_one_of_the_database(disk: DiskWorkers) -> None:
    def work() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(UnreachableError, match="the media directory: EIO: Input/output error"):
        await disk.call(work)
