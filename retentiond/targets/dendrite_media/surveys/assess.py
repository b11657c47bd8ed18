"""Look at a batch of due rows on the disk, and decide whether each may still be removed.

The same for plans and passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retentiond.targets.dendrite_media.disk.look import look_at_blobs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from retentiond.adapters.disk import DiskWorkers
    from retentiond.model.errors import FailureKind
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.layout import Thumbnail
    from retentiond.targets.dendrite_media.disk.look import BlobLook
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
    from retentiond.targets.dendrite_media.surveys.survey import Due


@dataclass(frozen=True, slots=True)
class Assessed:
    """A due row with the look at its blob.

    `kept` or `failed` is the reason to keep it; without either it may be removed.
    """

    due: Due
    look: BlobLook
    kept: str | None = None
    failed: FailureKind | None = None

    @property
    def goes(self) -> bool:
        """Whether the row may still be removed."""
        return self.kept is None and self.failed is None


async def look_at_batch(
    tree: MediaTree,
    disk: DiskWorkers,
    batch: Sequence[Due],
    freed: Mapping[Hash, Collection[Thumbnail]] | None = None,
) -> list[BlobLook]:
    """Look at each blob of the batch once; the batch is sorted by hash.

    Thumbnails that a plan has `freed` already are ignored.
    """
    return await disk.share(look_at_blobs(tree, freed or {}), sorted({due.blob for due in batch}))


async def assess(
    batch: Sequence[Due], looks: Sequence[BlobLook], accesses: AccessTimes | None = None
) -> list[Assessed]:
    """Judge the rows of a batch by the looks at their blobs, and by access times if they are given."""
    by_blob = {look.blob: look for look in looks}
    accessed = await accesses.accessed(batch, looks) if accesses else ()
    return [_judge(due, by_blob[due.blob], accessed=due.key in accessed) for due in batch]


def _judge(due: Due, look: BlobLook, *, accessed: bool) -> Assessed:
    if look.result == "unsafe":
        return Assessed(due, look, kept="unsafe_path")
    if due.kept is not None:
        return Assessed(due, look, kept=due.kept)
    if look.result == "failed":
        return Assessed(due, look, failed="not_movable")
    if accessed:
        # It was unread in the survey, and has been requested since.
        return Assessed(due, look, kept="changed")
    return Assessed(due, look)
