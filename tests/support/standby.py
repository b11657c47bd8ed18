"""Real replicas of an embedded PostgreSQL: hot standbys, and archives of its WAL, which can be synchronous as well."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import asyncpg

from tests.support.ports import free_port

if TYPE_CHECKING:
    import subprocess
    from types import TracebackType

    from retentiond.demo.postgres import EmbeddedPostgres


class _Replica:
    """A program that streams from the primary, by its application name, for as long as the block lasts."""

    def __init__(self, primary: EmbeddedPostgres, name: str) -> None:
        self.name = name
        self._primary = primary
        self._programs = primary._programs
        self._directory = Path(tempfile.mkdtemp(prefix="replica-"))
        self._directory.chmod(0o711)
        self._data = self._directory / "data"
        self._data.mkdir(mode=0o700)
        self._programs.give(self._data)
        self._process: subprocess.Popen[bytes] | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        shutil.rmtree(self._directory)

    async def stop(self) -> None:
        """End it, and wait until the primary has noticed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            await asyncio.to_thread(self._process.wait)
            self._process = None

    def _url(self) -> str:
        return f"{self._primary.dsn()}?application_name={self.name}"

    def _spawn(self, program: str, *options: str) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = self._programs.spawn(program, options, log)

    async def _until_streaming(self) -> None:
        connection = await asyncpg.connect(self._primary.dsn())
        statement = "SELECT state FROM pg_stat_replication WHERE application_name = $1"
        try:
            while await connection.fetchval(statement, self.name) != "streaming":
                assert self._process is not None
                assert self._process.poll() is None, (self._directory / "log").read_text()
                await asyncio.sleep(0.01)
        finally:
            await connection.close()


class Standby(_Replica):
    """A hot standby; `dsn` is its own URL."""

    async def __aenter__(self) -> Self:
        copied = await asyncio.to_thread(
            self._programs.run,
            "pg_basebackup",
            ["-d", self._url(), "-D", str(self._data), "-R", "-X", "stream", "-c", "fast", "--no-sync"],
        )
        assert not copied.returncode, copied.stdout
        port = free_port()
        self.dsn = urlsplit(self._primary.dsn())._replace(netloc=self._netloc(port)).geturl()
        sockets = str(self._data)
        self._spawn(
            "postgres",
            *("-D", str(self._data), "-h", "127.0.0.1", "-p", str(port), "-k", sockets),
            *("-c", f"cluster_name={self.name}", "-c", "fsync=off"),
            *("-c", "wal_receiver_status_interval=1s"),
        )
        await self._until_streaming()
        return self

    def _netloc(self, port: int) -> str:
        return f"{urlsplit(self._primary.dsn()).netloc.rpartition(':')[0]}:{port}"


class WalArchive(_Replica):
    """An archive that confirms what it has written; it is a synchronous standby where its name is among those."""

    async def __aenter__(self) -> Self:
        self._spawn("pg_receivewal", "-d", self._url(), "-D", str(self._data), "--synchronous")
        await self._until_streaming()
        return self
