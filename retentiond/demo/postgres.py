"""A PostgreSQL of our own for as long as we live, on binaries that pip or the system brought.

It is for the demo and the tests: its data are made anew, and are gone when it stops.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self
from urllib.parse import quote

from retentiond.demo import tether
from retentiond.demo.binaries import copy_install, find_binaries
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.01
_PORT_ATTEMPTS: Final = 5
_STATUS_LINE: Final = 7  # counted from 0: the eighth of postmaster.pid
_SOCKET_PATH_LIMIT: Final = 100  # the kernel takes some 107 bytes
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "PATH": os.defpath,
    "TZ": "UTC",
}  # nothing of ours: no PGHOST, no secrets


class _Account(NamedTuple):
    """The user that the server runs as; `name` is None where it is our own."""

    uid: int
    gid: int
    name: str | None


class EmbeddedPostgres:
    """A server on 127.0.0.1 with a password of its own; a context manager that starts, stops and clears up.

    `settings` are server settings by name (`{"fsync": "off"}`); `binaries` is the directory of `initdb` and
    `postgres`, else `find_binaries` decides. Started by root it runs as `nobody`. It ends when the *thread*
    that started it does, however that comes about, a `kill -9` of this process too; after such a death only
    its directory in the temporary directory stays behind. Raises UnreachableError where it cannot be had.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, *, binaries: Path | None = None) -> None:
        self.version = ""
        """What `postgres --version` says, as `18.1`; empty before the first start."""
        self.port = 0
        self.directory: Path | None = None
        """Where its data, its log and its socket lie; None while there are none."""
        self._settings = dict(settings or {})
        self._binaries = binaries
        self.programs = Path()
        """The directory of the binaries that it runs; empty before the first start."""
        self._account = _Account(os.geteuid(), os.getegid(), None)
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process_id(self) -> int:
        """The postmaster's process ID; 0 while there is none."""
        return self._process.pid if self._process else 0

    def dsn(self, database: str = "postgres") -> str:
        """Return the URL of a database on this server, for its superuser; it holds the password."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Start the server and wait until it takes connections; after `crash`, on the same data and port."""
        if self._process is not None:
            raise RuntimeError("this server has been started already")
        if self.directory is not None:
            if not self._launch(self.directory, self.port):
                raise UnreachableError(f"port {self.port} was taken by another program; start a new server")
            return
        try:
            self._start_anew(self._make_data())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, its connections too, and remove all that it wrote; done twice, it does nothing."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.crash()
        self._process = None
        if self.directory is not None:
            shutil.rmtree(self.directory)
            self.directory = None

    def crash(self) -> None:
        """Kill the whole server in the midst of its work (SIGKILL) and leave its data for the next `start`."""
        if self._process is None:
            return
        processes = [self._process.pid]
        if self._process.poll() is None:
            # A stopped postmaster starts no more children while they are counted.
            self._process.send_signal(signal.SIGSTOP)
            _wait_until_stopped(self._process.pid)
            processes += [child for child, (_, parent) in _processes().items() if parent == self._process.pid]
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        self._process.wait()
        self._process = None
        # The next start finds its shared memory in use until the last of them is gone.
        while any(_processes().get(process, ("Z", 0))[0] not in "ZX" for process in processes):
            time.sleep(_POLL_SECONDS)

    def _start_anew(self, directory: Path) -> None:
        for _ in range(_PORT_ATTEMPTS):
            self.port = _free_port()
            if self._launch(directory, self.port):
                return
        raise UnreachableError("no free port on 127.0.0.1 for PostgreSQL; try again")

    def _make_data(self) -> Path:
        if os.geteuid() == 0:
            self._account = _unprivileged_account()
        directory = Path(tempfile.mkdtemp(prefix="retentiond-", dir=_short_temporary_directory()))
        self.directory = directory
        directory.chmod(0o711)
        for name in ("data", "socket"):
            (directory / name).mkdir(mode=0o700)
            os.chown(directory / name, self._account.uid, self._account.gid)
        self.programs = self._reachable(self._binaries or find_binaries(), directory)
        password_file = directory / "password"
        with open(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            os.fchown(file.fileno(), self._account.uid, self._account.gid)
            file.write(self._password)
        command = [
            str(self.programs / "initdb"),
            "-D",
            str(directory / "data"),
            "-U",
            "postgres",
            "-E",
            "UTF8",
        ]
        command += ["--locale=C", "--no-sync", "-A", "trust"]
        # The socket's directory is ours alone; a port is open to every user of this machine, and who is the
        # superuser of a server can run programs as its user.
        command += ["--auth-host=password", f"--pwfile={password_file}"]
        made = self._run(command)
        if made.returncode:
            raise UnreachableError(
                f"initdb failed: {_tail(made.stdout)}; see that {directory.parent} has room and is open to every"
                " user, or set TMPDIR to a directory that is"
            )
        password_file.unlink()
        return directory

    def _reachable(self, binaries: Path, directory: Path) -> Path:
        """Return a directory of binaries that the server's user can run: the given one, or a copy of it."""
        complaint = self._complaint(binaries)
        if complaint is not None and self._account.name and (binaries.parent / "share").is_dir():
            # Below a home of mode 0700 nobody else sees them.
            binaries = copy_install(binaries, directory / "install")
            complaint = self._complaint(binaries)
        if complaint is not None:
            raise UnreachableError(
                f"the PostgreSQL in {binaries} does not run: {complaint}; name the directory of another one's"
                " binaries in RETENTIOND_POSTGRES_BIN"
            )
        return binaries

    def _complaint(self, binaries: Path) -> str | None:
        """Take the version of what can be run; else return what it says."""
        for program in ("initdb", "postgres"):
            tried = self._run([str(binaries / program), "--version"])
            if tried.returncode:
                return _tail(tried.stdout)
        found = re.search(rb"\d[\w.]*", tried.stdout)
        self.version = found[0].decode() if found else "unknown"
        return None

    def _launch(self, directory: Path, port: int) -> bool:
        """Start the postmaster and wait until it is ready; False where the port was taken by another."""
        command = [str(self.programs / "postgres"), "-D", str(directory / "data")]
        command += ["-h", "127.0.0.1", "-p", str(port), "-k", str(directory / "socket")]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        log = directory / "log"
        with log.open("wb") as output:
            self._process = self._spawn(command, output)
        deadline = time.monotonic() + _START_SECONDS
        while not _is_ready(directory / "data" / "postmaster.pid", self._process.pid):
            if self._process.poll() is not None:
                self._process = None
                if b"Address already in use" in log.read_bytes():
                    return False
                raise UnreachableError(
                    f"PostgreSQL ended at its start: {_tail(log.read_bytes())}; see its settings"
                )
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"PostgreSQL was not ready after {_START_SECONDS:.0f} s: {_tail(log.read_bytes())}; try again"
                )
            time.sleep(_POLL_SECONDS)
        return True

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        with tempfile.TemporaryFile() as output, self._spawn(command, output) as process:
            try:
                status = process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                raise UnreachableError(
                    f"{command[0]} did not end in {_START_SECONDS:.0f} s; try again"
                ) from None
            finally:
                # It must not go on writing where the directory is being removed.
                process.kill()
            output.seek(0)
            return subprocess.CompletedProcess(command, status, output.read())

    def _spawn(self, command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        rope = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid())]
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


def _unprivileged_account() -> _Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise UnreachableError(
            "PostgreSQL does not run as root, and there is no user 'nobody' to run it as; start this as another user"
        ) from None
    return _Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _short_temporary_directory() -> str:
    chosen = tempfile.gettempdir()
    longest = os.path.join(chosen, "retentiond-01234567", "socket", ".s.PGSQL.65535.lock")
    return chosen if len(os.fsencode(longest)) < _SOCKET_PATH_LIMIT else "/tmp"  # noqa: S108 - mkdtemp comes next


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_ready(pid_file: Path, process_id: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    # After a crash the file is there already, and tells of the server that was.
    return (
        len(lines) > _STATUS_LINE and lines[0] == str(process_id) and lines[_STATUS_LINE].strip() == "ready"
    )


def _processes() -> dict[int, tuple[str, int]]:
    """Return each process's state (a letter) and its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end while we look
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            found[int(path.parent.name)] = (state, int(parent))
    return found


def _wait_until_stopped(process_id: int) -> None:
    while _processes().get(process_id, ("Z", 0))[0] not in "TtZX":
        time.sleep(_POLL_SECONDS)


def _tail(output: bytes) -> str:
    return " ".join(output[-2000:].decode(errors="replace").split()) or "it said nothing"
