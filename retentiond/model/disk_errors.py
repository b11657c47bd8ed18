"""Errors of the disk in words: the kernel's text and the next step, by errno."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMOUNT: Final = "the file system is no longer connected to its server: mount it again"
_MEMORY: Final = "the machine is short of memory: see what uses it, then try again"
_NEXT_STEPS: Final[Mapping[int, str]] = {
    errno.EACCES: "run retentiond as the user of dendrite, and check the rights of each directory on the path",
    errno.EPERM: "a file attribute (see `lsattr`), a quota, or a security module such as AppArmor or SELinux forbids it",
    errno.EROFS: "the file system is read-only: see the kernel's log, then mount it read-write",
    errno.EXDEV: "it is on another file system, or on a lower layer of an overlay or mergerfs, from which a directory "
    "cannot be renamed: keep the media on one plain file system",
    errno.ENOSPC: "the file system has no free space or no free inodes: make room",
    errno.EDQUOT: "the disk quota is used up: raise it or make room",
    errno.EIO: "the disk, or its connection, fails: see the kernel's log",
    errno.ESTALE: _REMOUNT,
    errno.ENOTCONN: _REMOUNT,
    errno.EHOSTDOWN: _REMOUNT,
    errno.ETIMEDOUT: _REMOUNT,
    errno.EMFILE: "this process has too many open files: raise its limit (LimitNOFILE= in the unit)",
    errno.ENFILE: "this machine has too many open files: raise fs.file-max",
    errno.ENOMEM: _MEMORY,
    errno.ENOBUFS: _MEMORY,
}


def disk_error(error: OSError) -> str:
    """Return the errno's name, the kernel's text, and the next step."""
    name = errno.errorcode.get(error.errno or 0, "error")
    step = _NEXT_STEPS.get(error.errno or 0, "check the disk and the rights in it")
    return f"{name}: {error.strerror or error}; {step}"
