"""PostgreSQL's own programs, run as a user other than root; each ends with this process."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from retentiond.demo import exec_with_death_signal
from retentiond.demo.binaries import copy_install, find_binaries
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS: Final = 60.0
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "PATH": os.defpath,
    "TZ": "UTC",
}  # nothing of ours: no PGHOST, no secrets


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
        self.directory = Path()
        """Where they lie; empty before they were tried."""
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
            # A Ctrl-C at the terminal is for us alone: the server goes when we have put things in order.
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
