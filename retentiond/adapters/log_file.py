"""Follow a log file that another program writes and rotates, a block at a time, without repeats or omissions.

A position in a log is identified by the start of the file, not by its name or its inode: names move with each rotation,
and an inode number is reused as soon as a file is compressed and removed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK: Final = 1 << 20
"""The most that is read at once; a longer line is skipped."""
_HEAD: Final = 256
_TAIL: Final = 256
_TURN: Final = r"(?:[-._]\d[\dT:._-]*(?:-(?:size|time))?)?"
"""The part of a name that rotation adds: a number, a date, a time; since caddy 2.11 its reason, too."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The start of the file read last, the offset reached, and the bytes before that offset.

    Both ends distinguish it from the logs of other hosts, independent of its name, its inode and its host's name.
    """

    head: bytes
    offset: int
    tail: bytes


@dataclass(frozen=True, slots=True)
class LogBlock:
    """Whole lines, and the position after them; `gap` if the file read last is gone, so that lines may be missing.

    `last`: the end of the log for now.
    """

    lines: list[bytes]
    position: LogPosition | None
    gap: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: Path
    changed: int
    size: int


def read_block(path: Path, position: LogPosition | None) -> LogBlock:
    """Read the next lines after a position (None: from the log's beginning); raises OSError.

    A rotated file is finished before the next one is begun.
    """
    if position is None:
        return _read(path, 0)
    candidates = _candidates(path)
    current = next((one for one in candidates if _continues(one, position)), None)
    if current is None:
        block = _read(path, 0)
        return LogBlock(block.lines, block.position, gap=True, last=block.last)
    block = _read(current.path, position.offset)
    if block.lines or not block.last or current.path == path:
        return LogBlock(block.lines, block.position or position, last=block.last and current.path == path)
    later = [one for one in candidates if one.changed >= current.changed and one.path != current.path]
    # A file has begun only with its first whole line; until then its predecessor may still be written to.
    for one in sorted(later, key=lambda one: (one.changed, one.path == path)):
        block = _read(one.path, 0)
        # It may begin with a line that is longer than a block.
        if block.lines or not block.last:
            return LogBlock(block.lines, block.position, last=block.last and one.path == path)
    return LogBlock([], position, last=True)


def positions_in(path: Path, positions: Sequence[LogPosition]) -> list[LogPosition]:
    """Return those of these positions at which the log, or a rotated file of it, continues; raise OSError."""
    candidates = _candidates(path)
    return [place for place in positions if any(_continues(one, place) for one in candidates)]


def _candidates(path: Path) -> list[_Candidate]:
    """Return the log and its rotated, uncompressed files, the log first. Its directory may have other logs, too."""
    found = _files_of(path)
    lies_at = Path(os.path.realpath(path))
    if lies_at != path:
        # It is rotated in its directory; an unlisted file leaves a gap.
        with suppress(PermissionError):
            found += _files_of(lies_at)
    return sorted(found, key=lambda one: (one.path != path, -one.changed))


def _files_of(path: Path) -> list[_Candidate]:
    of_this = re.compile(f"{re.escape(path.stem)}{_TURN}{re.escape(path.suffix)}{_TURN}", re.ASCII)
    found = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if of_this.fullmatch(entry.name) and entry.is_file():
                about = entry.stat()
                found.append(_Candidate(path.parent / entry.name, about.st_mtime_ns, about.st_size))
    return found


def _continues(candidate: _Candidate, position: LogPosition) -> bool:
    if candidate.size < position.offset:
        return False
    try:
        with _open(candidate.path) as file:
            if file.read(len(position.head)) != position.head:
                return False
            file.seek(position.offset - len(position.tail))
            return file.read(len(position.tail)) == position.tail
    except (FileNotFoundError, PermissionError):
        # It was renamed or packed just now, or is one of others' time: that may leave a gap, and is no reason to stop.
        return False


def _read(path: Path, offset: int) -> LogBlock:
    with _open(path) as file:
        head = file.read(_HEAD)
        file.seek(max(0, offset - _TAIL))
        before = file.read(min(offset, _TAIL))
        block = file.read(BLOCK)
    whole = block.rfind(b"\n") + 1
    if not whole and len(block) == BLOCK:
        return LogBlock([], LogPosition(head, offset + BLOCK, block[-_TAIL:]))
    if not whole:
        return LogBlock([], None, last=True)
    return LogBlock(
        block[: whole - 1].split(b"\n"),
        LogPosition(head, offset + whole, (before + block[:whole])[-_TAIL:]),
        last=len(block) < BLOCK,
    )


def _open(path: Path) -> BinaryIO:
    # A pipe in its place must neither block nor pass for a log.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(descriptor, "rb")
