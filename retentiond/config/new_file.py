"""A configuration that is written for the first time: never over a file, and never half of one."""

import os
import pwd
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from retentiond.config.dendrite_paths import UNITS
from retentiond.model.errors import UnreachableError, UsageError
from retentiond.model.text import printable

_MODE: Final = 0o640
_LIMIT: Final = 300
NAME: Final = "retentiond.service"
DROP_IN: Final = Path("etc/systemd/system", f"{NAME}.d", "store.conf")
_ONCE: Final = Path("etc/systemd/system", "retentiond-once.service.d", "store.conf")
_USER: Final = re.compile(r"(?m)^User=[ \t]*(\S+)[ \t]*$")
_PROTECTED: Final = ("/home/", "/root", "/run/user/")
_PATH: Final = re.compile(r"/[A-Za-z0-9/._@+:,=-]*")
"""A path that a unit takes as it is, without quotes or specifiers."""


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


def has_service(root: Path) -> bool:
    """Return whether the unit is installed."""
    return any((root / directory / NAME).is_file() for directory in UNITS)


def service_user(root: Path) -> pwd.struct_passwd | None:
    """Return the account of the unit and its drop-in; None if there is no unit, or no such account."""
    texts = [*(root / directory / NAME for directory in reversed(UNITS)), root / DROP_IN]
    name = None
    for path in texts:
        with suppress(OSError, UnicodeDecodeError):
            name = ([name, *_USER.findall(path.read_text(encoding="utf-8"))])[-1]
    with suppress(KeyError):
        return pwd.getpwnam(name) if name else None
    return None


def drop_in(root: Path, owner: int, group: int, media_path: Path) -> str | None:
    """Return the drop-in for the owner of this media directory.

    None if the unit or a drop-in for it is not to be written: there is no unit, there is one drop-in already, or the path has
    letters that a unit would misread.
    """
    if not has_service(root) or os.path.lexists(root / DROP_IN) or not _PATH.fullmatch(str(media_path)):
        return None
    home = ""
    try:
        account = pwd.getpwuid(owner)
        # Without a group of its own the service has the user's.
        user, own_group = account.pw_name, ""
        if account.pw_dir.startswith(_PROTECTED):
            home = "# ProtectHome= hides the user's own, where a client of PostgreSQL looks for certificates.\nEnvironment=HOME=/nonexistent\n"
    except KeyError:
        user, own_group = str(owner), str(group)
    return f"""\
# Whose media, and where. Written by `retentiond init`.
[Unit]
After=dendrite.service
RequiresMountsFor={media_path}
[Service]
User={user}
Group={own_group}
{home}ReadWritePaths=
ReadWritePaths={media_path}
"""


def write_drop_in(root: Path, text: str) -> None:
    """Write the drop-in of the service, and name it in the drop-ins of the timer's service."""
    path, once = root / DROP_IN, root / _ONCE
    for directory in (path.parent, once.parent):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(path, "x", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
    with suppress(FileExistsError):
        once.symlink_to(Path("..", path.parent.name, path.name))


@contextmanager
def as_account(owner: int | None, group: int | None) -> Iterator[None]:
    """Let root act as another user for a while: what that user may read and connect to is what counts."""
    if not owner or group is None or os.geteuid() != 0:
        yield
        return
    groups, home = os.getgroups(), os.environ.get("HOME")
    try:
        account = pwd.getpwuid(owner)
        os.initgroups(account.pw_name, account.pw_gid)
        own_group, os.environ["HOME"] = account.pw_gid, account.pw_dir
    except KeyError:
        os.setgroups([])
        own_group, os.environ["HOME"] = group, "/nonexistent"
    try:
        os.setegid(own_group)
        os.seteuid(owner)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        if home is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = home
