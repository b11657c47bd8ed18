"""Move thumbnails of a live blob into the quarantine, while the blob stays in place.

The caller has recorded the intent before, as for blobs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.disk.layout import OWN, EntryPath, Thumbnail, blob_parts
from retentiond.targets.dendrite_media.disk.moves import MoveResult, sync_shelves_parents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.ledger.session import Guard
    from retentiond.targets.dendrite_media.disk.tree import MediaTree


class ThumbnailMove(NamedTuple):
    """Thumbnails of a live blob, and their entry."""

    entry: EntryPath
    thumbnails: Sequence[Thumbnail]


def quarantine_thumbnails(
    tree: MediaTree, guard: Guard
) -> Callable[[Sequence[ThumbnailMove]], list[MoveResult]]:
    """Return the renaming of thumbnails into the quarantine for a thread's share of entries."""

    def move_all(moves: Sequence[ThumbnailMove]) -> list[MoveResult]:
        with tree.synced():
            results = []
            for entry, thumbnails in moves:
                guard.ensure()
                results.append(_try_to_move(tree, entry, thumbnails))
            sync_shelves_parents(tree, [entry for entry, _ in moves])
            return results

    return move_all


def _try_to_move(tree: MediaTree, entry: EntryPath, thumbnails: Sequence[Thumbnail]) -> MoveResult:
    """Move thumbnails as `move_thumbnails` does; an error of the disk is in the result, and some may have moved."""
    try:
        moved = move_thumbnails(tree, entry, thumbnails)
    except OSError as error:
        # If nothing was moved, the entry's directory is empty, and is removed.
        with suppress(OSError), tree.directory(OWN, *entry.shelf) as parent:
            os.rmdir(entry.name, dir_fd=parent)
        return MoveResult(entry, "failed", disk_error(error))
    return MoveResult(entry, "moved" if moved else "missing")


def move_thumbnails(tree: MediaTree, entry: EntryPath, thumbnails: Sequence[Thumbnail]) -> bool:
    """Rename thumbnails of a live blob into the quarantine; return whether any existed. Raise OSError.

    The caller syncs the parents of the shelf, or the file system.
    """
    target = tree.own_directory(*entry.shelf, entry.name)
    moved = False
    try:
        with tree.directory(*blob_parts(entry.hash)) as live:
            for thumbnail in thumbnails:
                try:
                    os.rename(thumbnail.name, thumbnail.name, src_dir_fd=live, dst_dir_fd=target)
                    moved = True
                except FileNotFoundError:
                    continue
            tree.sync_alone(target)
            tree.sync_alone(live)
    except FileNotFoundError:
        pass
    finally:
        os.close(target)
    with tree.directory(OWN, *entry.shelf) as parent:
        if not moved:
            os.rmdir(entry.name, dir_fd=parent)
        tree.sync_alone(parent)
    return moved
