"""The merge: the database's blobs and the directories on the disk, both in the order of the hashes, side by side.

Threads scan some directories ahead; only the near part of each side is in memory. A difference at the first look
makes a suspect, and nothing more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from retentiond.targets.dendrite_media.audit.scan import scan_shelves

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from retentiond.adapters.disk import DiskWorkers
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.audit.database import Contents, Expected
    from retentiond.targets.dendrite_media.audit.scan import OddPath, ScannedShelf, Shelf
    from retentiond.targets.dendrite_media.disk.tree import MediaTree


_SHELVES_A_CALL: Final = 8
_CALLS_AHEAD: Final = 8
# About 20 MB; the database sorts for some seconds before it returns the first blob.
_BLOBS_AHEAD: Final = 50_000


@dataclass(slots=True)
class Compared:
    """A stretch of the merge: equal blobs, suspects, and other findings of the scan."""

    contents: int = 0
    blobs: int = 0
    fitting: list[Hash] = field(default_factory=list)
    suspects: list[Hash] = field(default_factory=list)
    odd: list[OddPath] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


async def merge(scans: ScansAhead, contents: Contents) -> AsyncGenerator[Compared, None]:
    """Merge both sides to their ends."""
    while (scanned := await scans.next()) is not None:
        there = dict(scanned.blobs)
        unreadable = scanned.unreadable + [blob for blob, files in scanned.blobs if files is None]
        blobs = sum(files != "" for files in there.values())
        yield Compared(blobs=blobs, odd=scanned.odd, unreadable=unreadable)
        async for page in contents.up_to(scanned.shelf.prefix):
            yield _compare(page, there)
        # The rest has no row; an empty directory holds nothing that could be an orphan.
        yield Compared(suspects=[blob for blob, files in there.items() if files])
    async for page in contents.up_to(None):
        yield _compare(page, {})


def _compare(page: Sequence[Expected], there: dict[Hash, str | None]) -> Compared:
    compared = Compared(contents=len(page))
    for expected in page:
        files = there.pop(expected.blob, "")
        if files is not None:
            (compared.fitting if files == expected.files else compared.suspects).append(expected.blob)
    return compared


class ScansAhead:
    """The scan, running in the background while the database still sorts; it waits when enough is scanned ahead."""

    def __init__(self, tree: MediaTree, disk: DiskWorkers, shelves: Sequence[Shelf]) -> None:
        self._scan = scan_shelves(tree)
        self._disk = disk
        self._shelves = shelves
        self._scanned: deque[ScannedShelf] = deque()
        self._blobs = 0
        self._changed = asyncio.Event()
        self._ended = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._task.cancel()
        # Its error was raised by `next`, where it mattered.
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Scan all shelves in their order, several calls at a time."""
        calls: deque[asyncio.Task[list[ScannedShelf]]] = deque()
        starts = iter(range(0, len(self._shelves), _SHELVES_A_CALL))
        try:
            while True:
                while len(calls) < _CALLS_AHEAD and (start := next(starts, None)) is not None:
                    share = self._shelves[start : start + _SHELVES_A_CALL]
                    calls.append(asyncio.create_task(self._disk.call(partial(self._scan, share))))
                if not calls:
                    return
                while self._blobs > _BLOBS_AHEAD:
                    self._changed.clear()
                    await self._changed.wait()
                for scanned in await calls.popleft():
                    self._scanned.append(scanned)
                    self._blobs += len(scanned.blobs)
                self._changed.set()
        finally:
            self._ended = True
            self._changed.set()
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def next(self) -> ScannedShelf | None:
        """Return the next directory, once it is scanned; None after the last. Raise the error that ended the scan."""
        while not self._scanned:
            if self._ended:
                await self._task
                return None
            self._changed.clear()
            await self._changed.wait()
        scanned = self._scanned.popleft()
        self._blobs -= len(scanned.blobs)
        self._changed.set()
        return scanned
