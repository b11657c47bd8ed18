"""A configuration that is written for the first time: never over a file, and never half of one."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from retentiond.model.errors import UnreachableError, UsageError
from retentiond.model.text import printable

_MODE: Final = 0o640
_LIMIT: Final = 300


def check_new(path: Path) -> None:
    """Raise UsageError if a file cannot be made new at this path."""
    name = printable(str(path), _LIMIT)
    if os.path.lexists(path):
        raise UsageError(
            f"{name} is there already, and is not overwritten; check it with `retentiond --config {name} check-config --connect`, "
            "or write another one with --output FILE"
        )
    if not path.parent.is_dir() and not path.parent.parent.is_dir():
        raise UsageError(
            f"{name} cannot be made: there is no directory {printable(str(path.parent.parent), _LIMIT)}; make it, or name another "
            "with --output FILE"
        )


def may_write(path: Path) -> bool:
    """Return whether this user may make the file, with its directory if that is not there."""
    directory = path.parent if path.parent.is_dir() else path.parent.parent
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=True)


def write_new(path: Path, text: str, group: int | None = None) -> None:
    """Write a new file that its owner and its group alone can read, in a directory that is made if it is not there.

    Raise UsageError if the path exists, UnreachableError if the file cannot be written; then nothing is left of it.
    """
    made = False
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o755)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, _MODE), "w", encoding="utf-8") as file:
            made = True
            # Root's umask may take the group's right.
            os.fchmod(file.fileno(), _MODE)
            if group is not None:
                os.fchown(file.fileno(), -1, group)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        check_new(path)
        raise
    except OSError as error:
        if made:
            path.unlink(missing_ok=True)
        raise UnreachableError(
            f"{printable(str(path), _LIMIT)} cannot be written: {error.strerror}; name another file with --output FILE"
        ) from error
