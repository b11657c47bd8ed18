"""Restore a blob from the quarantine to its path in dendrite's media directory.

A whole file that dendrite has written there meanwhile stays. A directory is built aside, with its owner and mode, and
renamed into place: dendrite panics on a directory that it may not search, however briefly.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.disk.kernel import all_names
from retentiond.targets.dendrite_media.disk.layout import (
    FILE,
    EntryPath,
    Thumbnail,
    blob_parts,
    parse_thumbnail,
)
from retentiond.targets.dendrite_media.disk.moves import regular_file
from retentiond.targets.dendrite_media.disk.shelves import Shelves, stands
from retentiond.targets.dendrite_media.disk.staging import Staging
from retentiond.targets.dendrite_media.disk.tree import DirectoryCache, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from retentiond.ledger.claims import ClaimOwner
    from retentiond.ledger.session import Guard
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.tree import MediaTree

Back = Literal["returned", "whole_already", "no_copy", "failed"]
"""`returned`: files were restored. `whole_already`: the live file needed nothing. `no_copy`: nothing to restore."""


@dataclass(frozen=True, slots=True)
class Return:
    """An entry whose blob is to be restored, with the thumbnails that rows know (None: all in the entry)."""

    entry: EntryPath
    thumbnails: Collection[Thumbnail] | None


@dataclass(frozen=True, slots=True)
class LiveBlob:
    """The live files of a blob: sizes in bytes; no size without a file.

    `error`: the disk could not be read, and whether a file exists is unknown.
    """

    blob: Hash
    size: int | None
    thumbnails: Mapping[Thumbnail, int]
    error: str = ""


@dataclass(frozen=True, slots=True)
class ReturnResult:
    """The outcome of a restore, and the live files afterwards."""

    entry: EntryPath
    outcome: Back
    live: LiveBlob
    error: str = ""


def bring_back(tree: MediaTree, claimant: ClaimOwner) -> Callable[[Sequence[Return]], list[ReturnResult]]:
    """Return the restore for a thread's share of entries; the copies in quarantine stay in place."""

    def bring_all(returns: Sequence[Return]) -> list[ReturnResult]:
        with (
            tree.synced(),
            Staging(tree, claimant.claimant_id) as staging,
            Shelves(tree) as shelves,
            DirectoryCache(tree, changes=True) as live,
        ):
            results = [_bring_one(staging, shelves, live, claimant.guard, wanted) for wanted in returns]
            live.sync()
            return results

    return bring_all


def _bring_one(
    staging: Staging, shelves: Shelves, parents: DirectoryCache, guard: Guard, wanted: Return
) -> ReturnResult:
    guard.ensure()
    entry = wanted.entry
    try:
        with shelves.inside(entry) as copy:
            names = _names_to_link(copy, wanted.thumbnails)
            if FILE not in names and _live_blob(parents, entry.hash).size is None:
                # Thumbnails without their blob are of no use.
                names = []
            changed = bool(names) and _put_in_place(staging, parents, copy, entry, names)
    except FileNotFoundError:
        changed = False
    except OSError as error:
        return ReturnResult(entry, "failed", _live_blob(parents, entry.hash), disk_error(error))
    live = _live_blob(parents, entry.hash)
    if live.size is None:
        return ReturnResult(entry, "no_copy", live)
    return ReturnResult(entry, "returned" if changed else "whole_already", live)


def live_blobs(tree: MediaTree) -> Callable[[Sequence[Hash]], list[LiveBlob]]:
    """Return the read of live blobs for a thread's share of hashes; sorted hashes share their parent directories."""

    def look_at(blobs: Sequence[Hash]) -> list[LiveBlob]:
        with DirectoryCache(tree) as parents:
            return [_live_blob(parents, blob) for blob in blobs]

    return look_at


def _live_blob(parents: DirectoryCache, blob: Hash) -> LiveBlob:
    first, second, rest = blob_parts(blob)
    size, thumbnails = None, {}
    try:
        with inside(parents.get(first, second), rest) as live:
            for name in all_names(live):
                thumbnail = parse_thumbnail(name)
                file = regular_file(live, name) if thumbnail or name == FILE else None
                if thumbnail and file:
                    thumbnails[thumbnail] = file.size
                elif file:
                    size = file.size
    except FileNotFoundError:
        return LiveBlob(blob, None, {})
    except OSError as error:
        return LiveBlob(blob, None, {}, disk_error(error))
    return LiveBlob(blob, size, thumbnails)


def _names_to_link(copy: int, wanted: Collection[Thumbnail] | None) -> list[str]:
    names = []
    for name in sorted(all_names(copy)):
        thumbnail = parse_thumbnail(name)
        if name == FILE or (thumbnail is not None and (wanted is None or thumbnail in wanted)):
            names.append(name)
    return names


def _put_in_place(
    staging: Staging, parents: DirectoryCache, copy: int, entry: EntryPath, names: list[str]
) -> bool:
    first, second, rest = blob_parts(entry.hash)
    about = os.fstat(copy)
    try:
        parent = parents.get(first, second)
    except FileNotFoundError:
        # dendrite's upper levels, if they are missing, get the owner and mode of the directory that we hold.
        _ensure_directory(staging, staging.tree.root, first, about)
        with inside(staging.tree.root, first) as upper:
            _ensure_directory(staging, upper, second, about)
        parent = parents.get(first, second)
    if _place_whole(staging, copy, about, names, parent, rest):
        return True
    with inside(parent, rest) as live:
        changed = [_place_one(staging, copy, live, name) for name in names]
        staging.tree.sync_alone(live)
    return any(changed)


def _ensure_directory(staging: Staging, parent: int, name: str, like: os.stat_result) -> None:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=parent, follow_symlinks=False)
        return
    staging.move_or_drop(staging.directory_like(like), parent, name)
    staging.tree.sync_alone(parent)


def _place_whole(
    staging: Staging, copy: int, about: os.stat_result, names: list[str], parent: int, rest: str
) -> bool:
    if stands(parent, rest):
        return False
    made = staging.directory_like(about)
    with inside(staging.descriptor, made) as descriptor:
        for name in names:
            staging.link_unseen(copy, name, descriptor)
        staging.tree.sync_alone(descriptor)
    return staging.move_or_drop(made, parent, rest)


def _place_one(staging: Staging, copy: int, live: int, name: str) -> bool:
    ours = regular_file(copy, name)
    theirs = regular_file(live, name)
    if ours is None or (theirs is not None and theirs.size == ours.size):
        return False
    if theirs is None:
        with suppress(FileExistsError):
            staging.link(copy, name, live)
            return True
        return False
    # A file of another size is no copy of this blob: dendrite would refuse to serve it, and every upload of it.
    staging.replace(copy, name, live)
    return True


@dataclass(frozen=True, slots=True)
class SizesAtHand:
    """The sizes of a blob's files, live and in quarantine; `error` if the disk did not show one of them."""

    sizes: list[int]
    error: str = ""


def sizes_at_hand(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[SizesAtHand]]:
    """Return, for a thread's share of entries, the sizes of the blob's files: the copy's and the live one's."""

    def all_sizes(entries: Sequence[EntryPath]) -> list[SizesAtHand]:
        with Shelves(tree) as shelves, DirectoryCache(tree) as parents:
            return [_sizes_at_hand(shelves, parents, entry) for entry in entries]

    return all_sizes


def _sizes_at_hand(shelves: Shelves, parents: DirectoryCache, entry: EntryPath) -> SizesAtHand:
    live = _live_blob(parents, entry.hash)
    sizes = [] if live.size is None else [live.size]
    try:
        with shelves.inside(entry) as directory:
            copy = regular_file(directory, FILE)
    except FileNotFoundError:
        copy = None
    except OSError as error:
        return SizesAtHand(sizes, disk_error(error))
    return SizesAtHand(sizes + ([copy.size] if copy else []), live.error)


def dispensable(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[bool]]:
    """Return, for a thread's share of entries, whether the live file is whole without the copy in quarantine."""

    def all_dispensable(entries: Sequence[EntryPath]) -> list[bool]:
        with Shelves(tree) as shelves, DirectoryCache(tree) as parents:
            return [_dispensable(shelves, parents, entry) for entry in entries]

    return all_dispensable


def _dispensable(shelves: Shelves, parents: DirectoryCache, entry: EntryPath) -> bool:
    live = _live_blob(parents, entry.hash)
    try:
        with shelves.inside(entry) as copy:
            ours = regular_file(copy, FILE)
    except FileNotFoundError:
        return live.size is not None
    except OSError:
        return False
    return live.size is not None and (ours is None or ours.size == live.size)


def standing(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[bool | None]]:
    """Return, for a thread's share of entries, whether their directory is in quarantine; None: unknown."""

    def all_standing(entries: Sequence[EntryPath]) -> list[bool | None]:
        with Shelves(tree) as shelves:
            return [_standing(shelves, entry) for entry in entries]

    return all_standing


def _standing(shelves: Shelves, entry: EntryPath) -> bool | None:
    try:
        with shelves.inside(entry):
            return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
