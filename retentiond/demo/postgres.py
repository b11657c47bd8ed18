"""A private PostgreSQL for the life of this process, on binaries from pip or the system.

It serves the demo and the tests: each start creates its data, and the stop removes them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from retentiond.demo.programs import Programs, tail
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

POLL_SECONDS: Final = 0.01
"""The interval for polls of states that the system does not notify."""


def kill_family(parent: int) -> list[int]:
    """Kill a process and its children at once (SIGKILL); return their IDs."""
    # A stopped parent starts no more children while they are counted.
    os.kill(parent, signal.SIGSTOP)
    _wait_until_stopped(parent)
    family = [parent, *(child for child, (_, whose) in _processes().items() if whose == parent)]
    for process in family:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return family


def wait_until_gone(processes: list[int]) -> None:
    """Wait until all of them have ended."""
    while any(_processes().get(process, ("Z", 0))[0] not in "ZX" for process in processes):
        time.sleep(POLL_SECONDS)


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
        time.sleep(POLL_SECONDS)


_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_PORT_ATTEMPTS: Final = 5
_STATUS_LINE: Final = 7  # counted from 0: the eighth of postmaster.pid
_SCRAM_ITERATIONS_SINCE: Final = 16
_SOCKET_PATH_LIMIT: Final = 100  # the kernel takes some 107 bytes


class EmbeddedPostgres:
    """A server on 127.0.0.1 with a password of its own; a context manager that starts, stops and cleans up.

    `settings` are server settings by name (`{"fsync": "off"}`); `binaries` is the directory of `initdb` and
    `postgres`, else `find_binaries` decides; its files are in a directory of its own below `parent`, by default the
    temporary directory. It runs without root's rights. It ends when the *thread* that started it does, for any
    reason, also after a `kill -9` of this process; in that case only that directory stays behind. Raise
    UnreachableError if it cannot be started.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        binaries: Path | None = None,
        parent: Path | None = None,
    ) -> None:
        self.port = 0
        self.directory: Path | None = None
        """The directory of its data, its log and its socket; None while it does not run."""
        self._settings = dict(settings or {})
        self._parent = parent
        self._programs = Programs(binaries)
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
    def version(self) -> str:
        """The version by `postgres --version`, as `18.1`; empty before the first start."""
        return self._programs.version

    @property
    def programs(self) -> Path:
        """The directory of the binaries that it runs; empty before the first start."""
        return self._programs.directory

    @property
    def process_id(self) -> int:
        """The postmaster's process ID; 0 while it does not run."""
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
        """End the server, its connections too, and remove all its files; a second call has no effect."""
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
        killed = kill_family(self._process.pid) if self._process.poll() is None else []
        self._process.wait()
        self._process = None
        # The next start finds its shared memory in use until the last of them is gone.
        wait_until_gone(killed)

    def _start_anew(self, directory: Path) -> None:
        for _ in range(_PORT_ATTEMPTS):
            self.port = _free_port()
            if self._launch(directory, self.port):
                return
        raise UnreachableError("no free port on 127.0.0.1 for PostgreSQL; try again")

    def _make_data(self) -> Path:
        parent = self._parent or _short_temporary_directory()
        directory = Path(tempfile.mkdtemp(prefix="retentiond-", dir=parent))
        self.directory = directory
        directory.chmod(0o711)
        for name in ("data", "socket"):
            (directory / name).mkdir(mode=0o700)
            self._programs.give(directory / name)
        self._programs.try_out(directory)
        password_file = directory / "password"
        with open(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            self._programs.give(file.fileno())
            file.write(self._password)
        options = ["-D", str(directory / "data"), "-U", "postgres", "-E", "UTF8"]
        options += ["--locale=C", "--no-sync", "-A", "trust"]
        # The socket's directory is ours alone; a port is open to every user of this machine, and a superuser of the
        # server can run programs as its user.
        options += ["--auth-host=password", f"--pwfile={password_file}"]
        if self._programs.major >= _SCRAM_ITERATIONS_SINCE:
            # Iterations are for passwords that can be guessed, and cost more than the rest of a connection.
            options += ["-c", "scram_iterations=1"]
        made = self._programs.run("initdb", options)
        if made.returncode:
            raise UnreachableError(
                f"initdb failed: {tail(made.stdout)}; see that {directory.parent} has room and is open to every"
                " user, or set TMPDIR to a directory that is"
            )
        password_file.unlink()
        return directory

    def _launch(self, directory: Path, port: int) -> bool:
        """Start the postmaster and wait until it is ready; False where the port was taken by another."""
        options = ["-D", str(directory / "data")]
        options += ["-h", "127.0.0.1", "-p", str(port), "-k", str(directory / "socket")]
        for name, value in self._settings.items():
            options += ["-c", f"{name}={value}"]
        log = directory / "log"
        with log.open("wb") as output:
            self._process = self._programs.spawn("postgres", options, output)
        deadline = time.monotonic() + _START_SECONDS
        while not _is_ready(directory / "data" / "postmaster.pid", self._process.pid):
            if self._process.poll() is not None:
                self._process = None
                if b"Address already in use" in log.read_bytes():
                    return False
                raise UnreachableError(
                    f"PostgreSQL ended at its start: {tail(log.read_bytes())}; see its settings"
                )
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"PostgreSQL was not ready after {_START_SECONDS:.0f} s: {tail(log.read_bytes())}; try again"
                )
            time.sleep(POLL_SECONDS)
        return True


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
    # After a crash the file exists already, and describes the dead server.
    return (
        len(lines) > _STATUS_LINE and lines[0] == str(process_id) and lines[_STATUS_LINE].strip() == "ready"
    )
