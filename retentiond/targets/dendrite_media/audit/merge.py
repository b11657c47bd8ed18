"""The merge: the database's blobs and the directories on the disk, both in the order of the hashes, side by side.

A thread scans some directories ahead; only the near part of each side is in memory. A difference at the first look
makes a suspect, and nothing more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from retentiond.targets.dendrite_media.audit.scan import scan_run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from retentiond.adapters.disk import DiskWorkers
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.audit.database import Contents, Expected
    from retentiond.targets.dendrite_media.audit.scan import OddPath, ScannedRun, Shelf
    from retentiond.targets.dendrite_media.disk.tree import MediaTree


_BLOBS_A_RUN: Final = 4000
# About 20 MB; the database sorts for some seconds before it returns the first blob.
_RUNS_AHEAD: Final = 12


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
        there = scanned.blobs
        unreadable = scanned.unreadable + [blob for blob, files in there.items() if files is None]
        blobs = sum(files != "" for files in there.values())
        yield Compared(blobs=blobs, odd=scanned.odd, unreadable=unreadable)
        async for page in contents.up_to(scanned.last):
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
        self._tree = tree
        self._disk = disk
        self._shelves = shelves
        self._scanned: asyncio.Queue[ScannedRun | Exception | None] = asyncio.Queue(_RUNS_AHEAD)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Scan all shelves in their order, a run at a time."""
        start = 0
        try:
            while start < len(self._shelves):
                scan = partial(scan_run, self._tree, self._shelves, start, _BLOBS_A_RUN)
                scanned = await self._disk.call(scan)
                start += scanned.shelves
                await self._scanned.put(scanned)
        except Exception as error:  # noqa: BLE001 - `next` raises it
            await self._scanned.put(error)
        else:
            await self._scanned.put(None)

    async def next(self) -> ScannedRun | None:
        """Return the next run, once it is scanned; None after the last. Raise the error that ended the scan."""
        scanned = await self._scanned.get()
        if isinstance(scanned, Exception):
            raise scanned
        return scanned
