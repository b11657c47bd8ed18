"""Move blobs: into the quarantine, back, and out for good. Each effect can be repeated; threads run it by the batch.

The caller has recorded the intent in the ledger before, and records the outcome after. Directories on both sides of a
rename are synced before a function returns, so that a commit may rely on it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.disk.layout import (
    OWN,
    PURGING,
    QUARANTINE,
    EntryPath,
    blob_parts,
    shelf,
)
from retentiond.targets.dendrite_media.disk.tree import DirectoryCache, MediaTree, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.ledger.session import Guard

Moved = Literal["moved", "already", "missing", "stayed", "failed"]
"""The outcome of a move.

`moved`: by us. `already`: the destination exists. `missing`: neither source nor destination exists. `stayed`: the
disk refused, and the destination does not exist. `failed`: the disk refused, and the outcome is unknown.
"""


@dataclass(frozen=True, slots=True)
class MoveResult:
    """The outcome of one entry's move; `error` is the disk's error in words."""

    entry: EntryPath
    outcome: Moved
    error: str = ""


def quarantine_blobs(tree: MediaTree, guard: Guard) -> Callable[[Sequence[EntryPath]], list[MoveResult]]:
    """Return the renaming of blobs into the quarantine for a thread's share of entries."""

    def rename_all(entries: Sequence[EntryPath]) -> list[MoveResult]:
        with DirectoryCache() as live, DirectoryCache() as held:
            done = [_quarantine(tree, guard, live, held, entry) for entry in entries]
            live.sync()
            held.sync()
            sync_shelves_parents(tree, entries)
            return done

    return rename_all


def _quarantine(
    tree: MediaTree, guard: Guard, live: DirectoryCache, held: DirectoryCache, entry: EntryPath
) -> MoveResult:
    guard.ensure()
    try:
        try:
            return MoveResult(entry, _rename_in(tree, live, held, entry))
        except FileNotFoundError:
            # The source is gone, or a concurrent purge has just removed the empty directory that we hold open.
            held.sync()
            held.close()
            return MoveResult(entry, _rename_in(tree, live, held, entry))
    except FileNotFoundError as error:
        return _judge_missing(tree, entry, error)
    except OSError as error:
        return _judge_refused(tree, entry, error)


def _judge_missing(tree: MediaTree, entry: EntryPath, error: OSError) -> MoveResult:
    """Report a blob as missing only if its parent directory proves it; otherwise as refused by the disk."""
    first, second, rest = blob_parts(entry.hash)
    try:
        with tree.directory(first, second) as parent:
            stands = _stands(parent, rest)
    except FileNotFoundError:
        stands = False
    except OSError as unreadable:
        return _judge_refused(tree, entry, unreadable)
    return _judge_refused(tree, entry, error) if stands else MoveResult(entry, "missing")


def _judge_refused(tree: MediaTree, entry: EntryPath, error: OSError) -> MoveResult:
    """Check whether a refused rename had an effect: a network file system may refuse a rename that was done."""
    try:
        with tree.directory(OWN, QUARANTINE, str(entry.pass_id), shelf(entry.hash)) as target:
            done = _stands(target, entry.name)
    except FileNotFoundError:
        done = False
    except OSError:
        return MoveResult(entry, "failed", disk_error(error))
    return MoveResult(entry, "already") if done else MoveResult(entry, "stayed", disk_error(error))


def _rename_in(tree: MediaTree, live: DirectoryCache, held: DirectoryCache, entry: EntryPath) -> Moved:
    target = held.get(tree, QUARANTINE, str(entry.pass_id), shelf(entry.hash), own=True)
    if _stands(target, entry.name):
        return "already"
    first, second, rest = blob_parts(entry.hash)
    os.rename(rest, entry.name, src_dir_fd=live.get(tree, first, second), dst_dir_fd=target)
    return "moved"


def sync_shelves_parents(tree: MediaTree, entries: Sequence[EntryPath]) -> None:
    """Sync the parents of entries' directories, except the grouping ones: a move may have made any of them."""
    with DirectoryCache() as parents:
        parents.get(tree, QUARANTINE, own=True)
        for pass_id in {entry.pass_id for entry in entries}:
            parents.get(tree, QUARANTINE, str(pass_id), own=True)
        parents.sync()


def _stands(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class Freed(NamedTuple):
    """The files, without those that have another name, and bytes that a purge of an entry deletes for good."""

    files: int
    bytes: int


def measure_entries(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[Freed | None]]:
    """Return, for a thread's share of entries, the bytes that a purge of them in order frees; None: unknown."""

    def measure_all(entries: Sequence[EntryPath]) -> list[Freed | None]:
        names: Counter[int] = Counter()
        return [_measure(tree, entry, names) for entry in entries]

    return measure_all


def _measure(tree: MediaTree, entry: EntryPath, names: Counter[int]) -> Freed | None:
    sizes = []
    try:
        context = (OWN, QUARANTINE, str(entry.pass_id), shelf(entry.hash), entry.name)
        with tree.directory(*context) as directory, os.scandir(directory) as found:
            for one in found:
                about = one.stat(follow_symlinks=False)
                names[about.st_ino] += 1
                if names[about.st_ino] == about.st_nlink:
                    sizes.append(about.st_size)
    except FileNotFoundError:
        return Freed(0, 0)
    except OSError:
        return None
    return Freed(len(sizes), sum(sizes))


def purge_entries(tree: MediaTree, guard: Guard) -> Callable[[Sequence[EntryPath]], list[MoveResult]]:
    """Return the removal for good of claimed entries for a thread's share.

    Each is first renamed out of the quarantine, whole, so that half an entry is never taken for a copy.
    """

    def purge_all(entries: Sequence[EntryPath]) -> list[MoveResult]:
        with DirectoryCache() as held, DirectoryCache() as purging:
            done = [_purge(tree, guard, held, purging, entry) for entry in entries]
            held.sync()
            purging.sync()
        _drop_empty_shelves(tree, entries)
        return done

    return purge_all


def _purge(
    tree: MediaTree, guard: Guard, held: DirectoryCache, purging: DirectoryCache, entry: EntryPath
) -> MoveResult:
    guard.ensure()
    try:
        grave = purging.get(tree, PURGING, own=True)
        moved = _rename_away(tree, held, grave, entry)
        gone = unlink_directory(grave, entry.purging_name)
    except OSError as error:
        return MoveResult(entry, "failed", disk_error(error))
    return MoveResult(entry, "moved" if moved or gone else "already")


def take_purges_back(tree: MediaTree, guard: Guard) -> Callable[[Sequence[EntryPath]], list[MoveResult]]:
    """Return the way back to the quarantine for a thread's share of entries whose purge was not finished.

    A file is whole until it is unlinked, so the rest of an entry is a copy. `missing`: nothing is left.
    """

    def rename_all(entries: Sequence[EntryPath]) -> list[MoveResult]:
        with DirectoryCache() as held, DirectoryCache() as purging:
            done = [_take_purge_back(tree, guard, held, purging, entry) for entry in entries]
            held.sync()
            purging.sync()
            return done

    return rename_all


def _take_purge_back(
    tree: MediaTree, guard: Guard, held: DirectoryCache, purging: DirectoryCache, entry: EntryPath
) -> MoveResult:
    guard.ensure()
    try:
        grave = purging.get(tree, PURGING, own=True)
        with inside(grave, entry.purging_name) as directory:
            left = bool(os.listdir(directory))
        if left:
            target = held.get(tree, QUARANTINE, str(entry.pass_id), shelf(entry.hash), own=True)
            os.rename(entry.purging_name, entry.name, src_dir_fd=grave, dst_dir_fd=target)
    except FileNotFoundError:
        return MoveResult(entry, "missing")
    except OSError as error:
        return MoveResult(entry, "failed", disk_error(error))
    return MoveResult(entry, "moved" if left else "missing")


def _rename_away(tree: MediaTree, held: DirectoryCache, grave: int, entry: EntryPath) -> bool:
    try:
        source = held.get(tree, OWN, QUARANTINE, str(entry.pass_id), shelf(entry.hash))
        os.rename(entry.name, entry.purging_name, src_dir_fd=source, dst_dir_fd=grave)
    except FileNotFoundError:
        return False
    return True


def unlink_directory(parent: int, name: str) -> bool:
    """Unlink a directory that holds files only; return whether it existed. Raise OSError."""
    try:
        with inside(parent, name) as directory:
            for inner in os.listdir(directory):
                with suppress(FileNotFoundError):
                    os.unlink(inner, dir_fd=directory)
    except FileNotFoundError:
        return False
    os.rmdir(name, dir_fd=parent)
    return True


def _drop_empty_shelves(tree: MediaTree, entries: Sequence[EntryPath]) -> None:
    # Only our own directories; dendrite's first two levels are never removed, since an upload may be using them.
    for pass_id, name in sorted({(entry.pass_id, shelf(entry.hash)) for entry in entries}):
        with suppress(OSError), tree.directory(OWN, QUARANTINE, str(pass_id)) as parent:
            os.rmdir(name, dir_fd=parent)
    for pass_id in {entry.pass_id for entry in entries}:
        with suppress(OSError), tree.directory(OWN, QUARANTINE) as parent:
            os.rmdir(str(pass_id), dir_fd=parent)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file's size in bytes and when it last changed, in seconds since the epoch."""

    size: int
    changed: float


def regular_file(parent: int, name: str) -> FoundFile | None:
    """Return the size and time of a regular file; None if there is no file. Raise OSError for all errors but ENOENT."""
    try:
        about = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", name)
    return FoundFile(about.st_size, max(about.st_mtime, about.st_ctime))
