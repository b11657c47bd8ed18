"""A PostgreSQL for the run, and a fresh clone of dendrite's tables for each test that asks."""

from __future__ import annotations

import os
import secrets
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import asyncpg

if TYPE_CHECKING:
    from types import TracebackType


_STRATEGIES_SINCE: Final = 150_000
_MEMORY: Final = Path("/dev/shm")
_LEAST_ROOM: Final = 1 << 30


def directory_in_memory() -> Path | None:
    """Return a file system in memory that may hold a server, its programs too; None where there is none with room."""
    try:
        about = os.statvfs(_MEMORY)
    except FileNotFoundError:
        return None
    fits = not about.f_flag & os.ST_NOEXEC and about.f_bavail * about.f_frsize >= _LEAST_ROOM
    return _MEMORY if fits and os.access(_MEMORY, os.W_OK) else None


def remove_dead_servers(parent: Path) -> None:
    """Remove the directories of servers whose run was killed: those in memory take room until the next boot."""
    for pid_file in parent.glob("retentiond-*/data/postmaster.pid"):
        try:
            process = int(pid_file.read_text(encoding="ascii").partition("\n")[0])
            if process < 0:
                continue  # of initdb's single-user server: the directory is just being made
            os.kill(process, 0)
        except ProcessLookupError:
            shutil.rmtree(pid_file.parents[1], ignore_errors=True)
        except (OSError, ValueError):
            continue  # of another user, or just being made


class DatabaseServer:
    """A server to make databases on: `dsn` names any database of it, for a role that may create others.

    Its names hold a random word, so that several runs may share one server. An async context manager,
    which makes the template, and removes it.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._template = f"retentiond_test_{secrets.token_hex(6)}"
        self._clones = 0
        self._has_strategies = False
        self.version = ""

    async def __aenter__(self) -> Self:
        self.version = (await self._value("SHOW server_version")).split()[0]
        self._has_strategies = int(await self._value("SHOW server_version_num")) >= _STRATEGIES_SINCE
        await self._make(self._template, "ENCODING 'UTF8'")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drop(self.dsn(self._template))

    def dsn(self, database: str) -> str:
        """The URL of another database of the server."""
        return urlsplit(self._dsn)._replace(path=f"/{database}").geturl()

    async def clone(self, original: str | None = None) -> str:
        """Copy a database without connections, by default the empty tables of dendrite; return the copy's URL."""
        name = self._next_name()
        template = _name_of(original) if original else self._template
        # The default writes each page to the log as well, at twice the processor time.
        strategy = " STRATEGY FILE_COPY" if self._has_strategies else ""
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}{strategy}")
        return self.dsn(name)

    async def make(self, encoding: str) -> str:
        """Make a database with dendrite's tables, empty, of another encoding and locale, and return its URL."""
        name = self._next_name()
        await self._make(name, encoding)
        return self.dsn(name)

    def _next_name(self) -> str:
        self._clones += 1
        return f"{self._template}_{self._clones}"

    async def _make(self, name: str, encoding: str) -> None:
        await self._execute(f"CREATE DATABASE {name} TEMPLATE template0 {encoding}")
        connection = await asyncpg.connect(self.dsn(name))
        try:
            await connection.execute(files("retentiond.demo").joinpath("dendrite.sql").read_text())
        finally:
            await connection.close()

    async def drop(self, dsn: str) -> None:
        """Remove a database, whoever is still connected to it."""
        await self._execute(f"DROP DATABASE {_name_of(dsn)} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _value(self, statement: str) -> str:
        connection = await asyncpg.connect(self._dsn)
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()


def _name_of(dsn: str) -> str:
    return urlsplit(dsn).path.removeprefix("/")
