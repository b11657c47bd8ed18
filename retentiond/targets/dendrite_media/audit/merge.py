"""The merge: the database's contents and the directories on the disk, both in the order of the hashes, side by side.

Shelves are scanned by threads some way ahead; of each side only what is near is in memory. What does not fit at the
first sight is a suspect, and nothing more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.targets.dendrite_media.audit.scan import scan_shelves

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from retentiond.adapters.disk import DiskWorkers
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.audit.database import Contents, Expected
    from retentiond.targets.dendrite_media.audit.scan import OddPath, ScannedShelf, Shelf
    from retentiond.targets.dendrite_media.tree import MediaTree


_SHELVES_A_CALL: Final = 8
_CALLS_AHEAD: Final = 8


@dataclass(slots=True)
class Compared:
    """A stretch of the merge: contents that are as they should be, suspects, and what the scan told beside."""

    contents: int = 0
    blobs: int = 0
    fitting: list[Hash] = field(default_factory=list)
    suspects: list[Hash] = field(default_factory=list)
    odd: list[OddPath] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


async def merge(
    tree: MediaTree, disk: DiskWorkers, shelves: Sequence[Shelf], contents: Contents
) -> AsyncGenerator[Compared]:
    """Go through both sides to their ends."""
    async with aclosing(_scan_ahead(tree, disk, shelves)) as scans:
        async for scanned in scans:
            there = dict(scanned.blobs)
            unreadable = scanned.unreadable + [blob for blob, files in scanned.blobs if files is None]
            blobs = sum(files != "" for files in there.values())
            yield Compared(blobs=blobs, odd=scanned.odd, unreadable=unreadable)
            async for page in contents.up_to(scanned.shelf.prefix):
                yield _compare(page, there)
            # What is left has no row; an empty directory holds nothing that could be an orphan.
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


async def _scan_ahead(
    tree: MediaTree, disk: DiskWorkers, shelves: Sequence[Shelf]
) -> AsyncGenerator[ScannedShelf]:
    scan = scan_shelves(tree)
    waiting: deque[asyncio.Task[list[ScannedShelf]]] = deque()
    starts = iter(range(0, len(shelves), _SHELVES_A_CALL))

    def send_next() -> None:
        start = next(starts, None)
        if start is not None:
            share = shelves[start : start + _SHELVES_A_CALL]
            waiting.append(asyncio.ensure_future(disk.call(lambda: scan(share))))

    try:
        for _ in range(_CALLS_AHEAD):
            send_next()
        while waiting:
            for scanned in await waiting.popleft():
                yield scanned
            send_next()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
