"""Move blobs: into the quarantine, back, and out for good. Each effect can be repeated; threads run it by the batch.

The caller has recorded the intent in the ledger before, and records the outcome after. Directories on both sides of a
rename are on the disk before a function returns, so that a commit may rely on it: by one sync of the file system for
all of a thread's share, or by a sync of each directory where that call may do nothing.
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
from retentiond.targets.dendrite_media.disk.kernel import all_names, some_names
from retentiond.targets.dendrite_media.disk.layout import (
    FILE,
    OWN,
    PURGING,
    QUARANTINE,
    EntryPath,
    blob_parts,
)
from retentiond.targets.dendrite_media.disk.shelves import Shelves, stands
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
        with (
            tree.synced(),
            DirectoryCache(tree, changes=True) as live,
            Shelves(tree, changes=True) as shelves,
        ):
            done = [_quarantine(tree, guard, live, shelves, entry) for entry in entries]
            live.sync()
            shelves.sync()
            sync_shelves_parents(tree, entries)
            return done

    return rename_all


def _quarantine(
    tree: MediaTree, guard: Guard, live: DirectoryCache, shelves: Shelves, entry: EntryPath
) -> MoveResult:
    guard.ensure()
    try:
        try:
            return MoveResult(entry, _rename_in(live, shelves, entry))
        except FileNotFoundError:
            if shelves.holding(entry) is not None:
                return MoveResult(entry, "already")
            # The source is gone, or a concurrent purge has just removed the empty directory that we hold open.
            shelves.begin_anew()
            return MoveResult(entry, _rename_in(live, shelves, entry))
    except FileNotFoundError as error:
        return _judge_missing(tree, shelves, entry, error)
    except OSError as error:
        return _judge_refused(shelves, entry, error)


def _judge_missing(tree: MediaTree, shelves: Shelves, entry: EntryPath, error: OSError) -> MoveResult:
    """Report a blob as missing only if its parent directory proves it; otherwise as refused by the disk."""
    first, second, rest = blob_parts(entry.hash)
    try:
        with tree.directory(first, second) as parent:
            present = stands(parent, rest)
    except FileNotFoundError:
        present = False
    except OSError as unreadable:
        return _judge_refused(shelves, entry, unreadable)
    return _judge_refused(shelves, entry, error) if present else MoveResult(entry, "missing")


def _judge_refused(shelves: Shelves, entry: EntryPath, error: OSError) -> MoveResult:
    """Check whether a refused rename had an effect: a network file system may refuse a rename that was done."""
    try:
        done = shelves.holding(entry) is not None
    except OSError:
        return MoveResult(entry, "failed", disk_error(error))
    return MoveResult(entry, "already") if done else MoveResult(entry, "stayed", disk_error(error))


def _rename_in(live: DirectoryCache, shelves: Shelves, entry: EntryPath) -> Moved:
    if shelves.older(entry) is not None:
        return "already"
    shelf = shelves.make(entry)
    first, second, rest = blob_parts(entry.hash)
    # Where the entry is on its shelf already, the kernel refuses: a rename replaces no directory with files.
    os.rename(rest, entry.name, src_dir_fd=live.get(first, second), dst_dir_fd=shelf)
    return "moved"


def sync_shelves_parents(tree: MediaTree, entries: Sequence[EntryPath]) -> None:
    """Sync the parents of shelves, unless the file system is synced whole: a move may have made any of them."""
    if tree.synced_whole:
        return
    with DirectoryCache(tree) as parents:
        parents.get(QUARANTINE, own=True)
        for pass_id in {entry.pass_id for entry in entries}:
            parents.get(QUARANTINE, str(pass_id), own=True)
        parents.sync()


class Freed(NamedTuple):
    """The files, without those that have another name, and bytes that a purge of an entry deletes for good."""

    files: int
    bytes: int


def measure_entries(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[Freed | None]]:
    """Return, for a thread's share of entries, the bytes that a purge of them in order frees; None: unknown."""

    def measure_all(entries: Sequence[EntryPath]) -> list[Freed | None]:
        names: Counter[int] = Counter()
        with Shelves(tree) as shelves:
            return [_measure(shelves, entry, names) for entry in entries]

    return measure_all


def _measure(shelves: Shelves, entry: EntryPath, names: Counter[int]) -> Freed | None:
    sizes = []
    try:
        with shelves.inside(entry) as directory:
            for name in all_names(directory):
                about = os.stat(name, dir_fd=directory, follow_symlinks=False)
                names[about.st_ino] += 1
                if names[about.st_ino] == about.st_nlink:
                    sizes.append(about.st_size)
    except FileNotFoundError:
        return Freed(0, 0)
    except OSError:
        return None
    return Freed(len(sizes), sum(sizes))


def linked_elsewhere(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[bool]]:
    """Return, for a thread's share of entries, whether their files may have other names, or are not all in place.

    Where the blob's own file has one name, nobody restored it, and the ledger's sizes are what its purge frees.
    """

    def ask_all(entries: Sequence[EntryPath]) -> list[bool]:
        with Shelves(tree) as shelves:
            return [_linked_elsewhere(shelves, entry) for entry in entries]

    return ask_all


def _linked_elsewhere(shelves: Shelves, entry: EntryPath) -> bool:
    for shelf in shelves.search(entry):
        with suppress(OSError):
            return os.stat(f"{entry.name}/{FILE}", dir_fd=shelf, follow_symlinks=False).st_nlink != 1
    return True


def purge_entries(tree: MediaTree, guard: Guard) -> Callable[[Sequence[EntryPath]], list[MoveResult]]:
    """Return the removal for good of claimed entries for a thread's share.

    Each is first renamed out of the quarantine, whole, so that half an entry is never taken for a copy.
    """

    def purge_all(entries: Sequence[EntryPath]) -> list[MoveResult]:
        with (
            tree.synced(),
            Shelves(tree, changes=True) as shelves,
            DirectoryCache(tree, changes=True) as purging,
        ):
            done = [_purge(guard, shelves, purging, entry) for entry in entries]
            shelves.sync()
            purging.sync()
        _drop_empty_shelves(tree, entries)
        return done

    return purge_all


def _purge(guard: Guard, shelves: Shelves, purging: DirectoryCache, entry: EntryPath) -> MoveResult:
    guard.ensure()
    try:
        grave = purging.get(PURGING, own=True)
        moved = _rename_away(shelves, grave, entry)
        gone = unlink_directory(grave, entry.purging_name)
    except OSError as error:
        return MoveResult(entry, "failed", disk_error(error))
    return MoveResult(entry, "moved" if moved or gone else "already")


def take_purges_back(tree: MediaTree, guard: Guard) -> Callable[[Sequence[EntryPath]], list[MoveResult]]:
    """Return the way back to the quarantine for a thread's share of entries whose purge was not finished.

    A file is whole until it is unlinked, so the rest of an entry is a copy. `missing`: nothing is left.
    """

    def rename_all(entries: Sequence[EntryPath]) -> list[MoveResult]:
        with (
            tree.synced(),
            Shelves(tree, changes=True) as shelves,
            DirectoryCache(tree, changes=True) as purging,
        ):
            done = [_take_purge_back(guard, shelves, purging, entry) for entry in entries]
            shelves.sync()
            purging.sync()
            sync_shelves_parents(tree, entries)
            return done

    return rename_all


def _take_purge_back(guard: Guard, shelves: Shelves, purging: DirectoryCache, entry: EntryPath) -> MoveResult:
    guard.ensure()
    try:
        grave = purging.get(PURGING, own=True)
        if not _anything_left(grave, entry):
            return MoveResult(entry, "missing")
        try:
            os.rename(entry.purging_name, entry.name, src_dir_fd=grave, dst_dir_fd=shelves.make(entry))
        except FileNotFoundError:
            # A concurrent purge has just removed the empty shelf that we hold open.
            shelves.begin_anew()
            os.rename(entry.purging_name, entry.name, src_dir_fd=grave, dst_dir_fd=shelves.make(entry))
    except OSError as error:
        return MoveResult(entry, "failed", disk_error(error))
    return MoveResult(entry, "moved")


def _anything_left(grave: int, entry: EntryPath) -> bool:
    try:
        with inside(grave, entry.purging_name) as directory:
            return bool(all_names(directory))
    except FileNotFoundError:
        return False


def _rename_away(shelves: Shelves, grave: int, entry: EntryPath) -> bool:
    for shelf in shelves.search(entry):
        with suppress(FileNotFoundError):
            os.rename(entry.name, entry.purging_name, src_dir_fd=shelf, dst_dir_fd=grave)
            return True
    return False


def unlink_directory(parent: int, name: str) -> bool:
    """Unlink a directory that holds files only; return whether it existed. Raise OSError."""
    try:
        with inside(parent, name) as directory:
            # The first answer is all of a small directory; whether there was more the rmdir tells.
            _unlink(directory, some_names(directory))
            with suppress(OSError):
                os.rmdir(name, dir_fd=parent)
                return True
            os.lseek(directory, 0, os.SEEK_SET)
            _unlink(directory, all_names(directory))
    except FileNotFoundError:
        return False
    os.rmdir(name, dir_fd=parent)
    return True


def _unlink(directory: int, names: Sequence[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)


def _drop_empty_shelves(tree: MediaTree, entries: Sequence[EntryPath]) -> None:
    # Only our own directories; dendrite's first two levels are never removed, since an upload may be using them.
    for pass_id in {entry.pass_id for entry in entries}:
        with suppress(OSError):
            with tree.directory(OWN, QUARANTINE, str(pass_id)) as parent:
                of_pass = [entry for entry in entries if entry.pass_id == pass_id]
                shelves = {parts[-1] for entry in of_pass for parts in (entry.shelf, entry.older_shelf)}
                for name in sorted(shelves.intersection(os.listdir(parent))):
                    with suppress(OSError):
                        os.rmdir(name, dir_fd=parent)
            with tree.directory(OWN, QUARANTINE) as parent:
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
