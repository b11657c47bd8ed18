"""Plain files, opened without a wait: any user with write access may have put a pipe or a device in place of one.

A pipe without a writer or reader would block the thread that opens it for ever, deaf to every signal.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress


def open_plain(name: str, directory: int, flags: int = 0) -> int:
    """Open a plain file of a directory to read, and return its descriptor; raise OSError, EINVAL for any other file."""
    ours = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, ours | flags, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def make_plain(name: str, directory: int) -> int:
    """Make a new file to write, in place of one of the same name, and return its descriptor; raise OSError."""
    # The existing file may be a pipe, or a second name of a file that must stay as it is.
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=directory)
