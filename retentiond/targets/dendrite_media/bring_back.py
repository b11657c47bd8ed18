"""Bring a blob back from the quarantine to where dendrite looks for it.

What dendrite has made there meanwhile stays, when it is whole. A directory is built aside, with its owner and
mode, and renamed into place: dendrite panics on one that it may not search, however briefly.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from retentiond.targets.dendrite_media.layout import (
    FILE,
    OWN,
    QUARANTINE,
    STAGING,
    EntryPath,
    Thumbnail,
    blob_parts,
    parse_thumbnail,
    shelf,
)
from retentiond.targets.dendrite_media.moves import named_error, regular_file
from retentiond.targets.dendrite_media.tree import MediaTree, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from retentiond.ledger.session import Guard
    from retentiond.model.media import Hash

Back = Literal["returned", "whole_already", "no_copy", "failed"]
"""`returned`: something was put back. `whole_already`: the live file needed nothing. `no_copy`: nothing to put."""


@dataclass(frozen=True, slots=True)
class Return:
    """An entry whose blob is wanted, with the thumbnails that rows know (None: all that lie there)."""

    entry: EntryPath
    thumbnails: Collection[Thumbnail] | None


@dataclass(frozen=True, slots=True)
class LiveBlob:
    """What stands where dendrite looks for a content: sizes in bytes; no size where no file stands."""

    blob: Hash
    size: int | None
    thumbnails: Mapping[Thumbnail, int]


@dataclass(frozen=True, slots=True)
class ReturnResult:
    """What became of it, and what stands live afterwards."""

    entry: EntryPath
    outcome: Back
    live: LiveBlob
    error: str = ""


def bring_back(tree: MediaTree, guard: Guard) -> Callable[[Sequence[Return]], list[ReturnResult]]:
    """Return the way back for a thread's share of entries; the copies in quarantine stay where they are."""

    def bring_all(returns: Sequence[Return]) -> list[ReturnResult]:
        return [_bring_one(tree, guard, wanted) for wanted in returns]

    return bring_all


def _bring_one(tree: MediaTree, guard: Guard, wanted: Return) -> ReturnResult:
    guard.ensure()
    entry = wanted.entry
    try:
        with tree.directory(OWN, QUARANTINE, str(entry.pass_id), shelf(entry.hash), entry.name) as copy:
            names = _names_to_link(copy, wanted.thumbnails)
            if FILE not in names and live_blob(tree, entry.hash).size is None:
                # Thumbnails without their content serve nobody.
                names = []
            changed = bool(names) and _put_in_place(tree, copy, entry, names)
    except FileNotFoundError:
        changed = False
    except OSError as error:
        return ReturnResult(entry, "failed", live_blob(tree, entry.hash), named_error(error))
    live = live_blob(tree, entry.hash)
    if live.size is None:
        return ReturnResult(entry, "no_copy", live)
    return ReturnResult(entry, "returned" if changed else "whole_already", live)


def live_blob(tree: MediaTree, blob: Hash) -> LiveBlob:
    """Return what stands live of a content; what cannot be read counts as not there."""
    thumbnails = {}
    try:
        with tree.directory(*blob_parts(blob)) as live:
            found = regular_file(live, FILE)
            for name in os.listdir(live):
                thumbnail = parse_thumbnail(name)
                file = regular_file(live, name) if thumbnail else None
                if thumbnail and file:
                    thumbnails[thumbnail] = file.size
    except OSError:
        return LiveBlob(blob, None, {})
    return LiveBlob(blob, found.size if found else None, thumbnails)


def live_blobs(tree: MediaTree) -> Callable[[Sequence[Hash]], list[LiveBlob]]:
    """Return the look at live contents for a thread's share of hashes."""

    def look_at(blobs: Sequence[Hash]) -> list[LiveBlob]:
        return [live_blob(tree, blob) for blob in blobs]

    return look_at


def _names_to_link(copy: int, wanted: Collection[Thumbnail] | None) -> list[str]:
    names = []
    for name in sorted(os.listdir(copy)):
        thumbnail = parse_thumbnail(name)
        if name == FILE or (thumbnail is not None and (wanted is None or thumbnail in wanted)):
            names.append(name)
    return names


def _put_in_place(tree: MediaTree, copy: int, entry: EntryPath, names: list[str]) -> bool:
    first, second, rest = blob_parts(entry.hash)
    with _staging(tree) as staging:
        # dendrite's upper levels, should they be gone, are like the directory we hold.
        _ensure_directory(tree, staging, tree.root, first, os.fstat(copy))
        with inside(tree.root, first) as upper:
            _ensure_directory(tree, staging, upper, second, os.fstat(copy))
            with inside(upper, second) as parent:
                if _place_whole(tree, staging, copy, names, parent, rest):
                    return True
                with inside(parent, rest) as live:
                    changed = [_place_one(staging, copy, live, name) for name in names]
                    os.fsync(live)
                return any(changed)


@contextmanager
def _staging(tree: MediaTree) -> Iterator[int]:
    descriptor = tree.own_directory(STAGING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _ensure_directory(tree: MediaTree, staging: int, parent: int, name: str, like: os.stat_result) -> None:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=parent, follow_symlinks=False)
        return
    made = _make_aside(tree, staging, like)
    _move_or_drop(staging, made, parent, name)
    os.fsync(parent)


def _make_aside(tree: MediaTree, staging: int, like: os.stat_result) -> str:
    name = secrets.token_hex(8)
    os.mkdir(name, 0o700, dir_fd=staging)
    with inside(staging, name) as descriptor:
        tree.adopt(descriptor, (like.st_uid, like.st_gid), stat.S_IMODE(like.st_mode))
    return name


def _move_or_drop(staging: int, made: str, parent: int, name: str) -> bool:
    """Rename what was made aside to where nothing (or an empty directory) stands; drop it where something does."""
    try:
        os.rename(made, name, src_dir_fd=staging, dst_dir_fd=parent)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        with inside(staging, made) as descriptor:
            for inner in os.listdir(descriptor):
                os.unlink(inner, dir_fd=descriptor)
        os.rmdir(made, dir_fd=staging)
        return False
    return True


def _place_whole(tree: MediaTree, staging: int, copy: int, names: list[str], parent: int, rest: str) -> bool:
    made = _make_aside(tree, staging, os.fstat(copy))
    with inside(staging, made) as descriptor:
        for name in names:
            _link(staging, copy, name, descriptor)
        os.fsync(descriptor)
    placed = _move_or_drop(staging, made, parent, rest)
    if placed:
        os.fsync(parent)
    return placed


def _place_one(staging: int, copy: int, live: int, name: str) -> bool:
    ours = regular_file(copy, name)
    theirs = regular_file(live, name)
    if ours is None or (theirs is not None and theirs.size == ours.size):
        return False
    if theirs is None:
        with suppress(FileExistsError):
            _link(staging, copy, name, live)
            return True
        return False
    # One of another size is no copy of this content: dendrite would refuse to serve it, and every upload of it.
    aside = _second_name(staging, copy, name)
    os.rename(aside, name, src_dir_fd=staging, dst_dir_fd=live)
    return True


def _link(staging: int, source: int, name: str, target: int) -> None:
    """Give a file a second name in another directory, which never replaces, and is whole when it appears."""
    aside = _second_name(staging, source, name)
    try:
        os.link(aside, name, src_dir_fd=staging, dst_dir_fd=target, follow_symlinks=False)
    finally:
        os.unlink(aside, dir_fd=staging)


def _second_name(staging: int, source: int, name: str) -> str:
    aside = secrets.token_hex(8)
    try:
        os.link(name, aside, src_dir_fd=source, dst_dir_fd=staging, follow_symlinks=False)
    except OSError as error:
        # protected_hardlinks forbids links to files of another owner, and a file may have only so many names.
        if error.errno not in {errno.EPERM, errno.EMLINK}:
            raise
        _copy(source, name, staging, aside)
    return aside


def _copy(source: int, name: str, target: int, new_name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source), "rb") as ours:
        about = os.fstat(ours.fileno())
        with open(os.open(new_name, flags, 0o600, dir_fd=target), "wb") as copied:
            shutil.copyfileobj(ours, copied)
            copied.flush()
            os.fchmod(copied.fileno(), stat.S_IMODE(about.st_mode))
            os.utime(copied.fileno(), ns=(about.st_atime_ns, about.st_mtime_ns))
            os.fsync(copied.fileno())


def dispensable(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[bool]]:
    """Return, for a thread's share of entries, whether the live file is whole without the copy in quarantine."""

    def all_dispensable(entries: Sequence[EntryPath]) -> list[bool]:
        return [_dispensable(tree, entry) for entry in entries]

    return all_dispensable


def _dispensable(tree: MediaTree, entry: EntryPath) -> bool:
    live = live_blob(tree, entry.hash)
    try:
        with tree.directory(OWN, QUARANTINE, str(entry.pass_id), shelf(entry.hash), entry.name) as copy:
            ours = regular_file(copy, FILE)
    except FileNotFoundError:
        return live.size is not None
    except OSError:
        return False
    return live.size is not None and (ours is None or ours.size == live.size)


def standing(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[bool]]:
    """Return, for a thread's share of entries, whether their directory stands in quarantine."""

    def all_standing(entries: Sequence[EntryPath]) -> list[bool]:
        return [_standing(tree, entry) for entry in entries]

    return all_standing


def _standing(tree: MediaTree, entry: EntryPath) -> bool:
    try:
        with tree.directory(OWN, QUARANTINE, str(entry.pass_id), shelf(entry.hash), entry.name):
            return True
    except FileNotFoundError:
        return False
