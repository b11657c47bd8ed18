"""The text of a file that a user named, or the reason why it cannot be read."""

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

LARGEST_FILE: Final = 1024 * 1024
"""The largest configuration that is read, in bytes."""


class UnreadableError(Exception):
    """Why a file cannot be read: the message and the hint are for the user; the line and column, from 1, if known."""

    def __init__(self, message: str, hint: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.line = line
        self.column = column


def read_text(path: Path, *, when_missing: str, largest: int = LARGEST_FILE) -> str:
    """Return the text of a UTF-8 file of at most `largest` bytes; raise UnreadableError if that cannot be had."""
    try:
        with _open(path) as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise UnreadableError("there is no such file", when_missing) from None
    except IsADirectoryError:
        raise UnreadableError("this is a directory", "name a file in it") from None
    except PermissionError:
        raise UnreadableError(
            "this user may not read it",
            f"let the user and group that retentiond runs as, {os.geteuid()}:{os.getegid()}, read it",
        ) from None
    except _NoPlainFileError:
        raise UnreadableError("is not a plain file", "name a plain file") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "the name cannot be a file's"
        raise UnreadableError(f"cannot be read: {reason}", "look at the path and the disk") from None
    if len(data) > largest:
        raise UnreadableError(f"is larger than {largest} bytes", "look whether it is the right file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", errors="replace")) + 1
        raise UnreadableError("is not UTF-8 text", "save it as UTF-8", line, column) from None


class _NoPlainFileError(Exception):
    pass


def _open(path: Path) -> BinaryIO:
    # Opening a named pipe without a writer would block forever, also against signals.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return open(descriptor, "rb")
    if stat.S_ISFIFO(kind) and _is_a_shells(descriptor):
        os.set_blocking(descriptor, True)
        return open(descriptor, "rb")
    os.close(descriptor)
    raise IsADirectoryError if stat.S_ISDIR(kind) else _NoPlainFileError


def _is_a_shells(pipe: int) -> bool:
    """Whether the pipe has no name, such as that of `--config <(…)`: its writer was started with it."""
    try:
        return os.readlink(f"/proc/self/fd/{pipe}").startswith("pipe:")
    except OSError:
        return False
