"""Two calls of Linux that Python's `os` lacks: the sync of a whole file system, and a bare read of a directory.

`os.listdir` of a descriptor makes seven calls of the kernel; a batch reads thousands of small directories.
"""

from __future__ import annotations

import ctypes
import os
import struct
from threading import local
from typing import Any, Final

_LIBC: Final[Any] = ctypes.CDLL(None, use_errno=True)
_ROOM: Final = 16_384
_HEAD: Final = struct.Struct("=QqHB")
"""The head of an entry: inode, offset, length of the entry, kind; then its name, which ends with a zero byte."""
_own: Final = local()


def sync_file_system(descriptor: int) -> None:
    """Write everything that was changed on the file system of an open file to its disk; raise OSError."""
    if _LIBC.syncfs(descriptor):
        _raise()


def some_names(descriptor: int) -> list[str]:
    """Return the next names in an open directory; an empty list is its end. Raise OSError."""
    if not hasattr(_LIBC, "getdents64"):
        # An older libc; the directory is read whole, and the second list is empty.
        names = [] if os.lseek(descriptor, 0, os.SEEK_CUR) else os.listdir(descriptor)
        os.lseek(descriptor, 1, os.SEEK_SET)
        return names
    if not hasattr(_own, "room"):
        _own.room = ctypes.create_string_buffer(_ROOM)
    names = []
    while not names:
        size = _LIBC.getdents64(descriptor, _own.room, _ROOM)
        if size < 0:
            _raise()
        if not size:
            break
        read = ctypes.string_at(_own.room, size)
        at = 0
        while at < size:
            length = _HEAD.unpack_from(read, at)[2]
            name = read[at + _HEAD.size : read.index(0, at + _HEAD.size)]
            if name not in {b".", b".."}:
                names.append(os.fsdecode(name))
            at += length
    return names


def all_names(descriptor: int) -> list[str]:
    """Return the names in a directory that was just opened; raise OSError."""
    names: list[str] = []
    while more := some_names(descriptor):
        names += more
    return names


def _raise() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
