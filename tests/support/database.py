"""A PostgreSQL for the run, and a fresh clone of dendrite's tables for each test that asks."""

from __future__ import annotations

import secrets
from importlib.resources import files
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import asyncpg

if TYPE_CHECKING:
    from types import TracebackType


class DatabaseServer:
    """A server to make databases on: `dsn` names any database of it, for a role that may create others.

    Its names hold a random word, so that several runs may share one server. An async context manager,
    which makes the template, and removes it.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._template = f"retentiond_test_{secrets.token_hex(6)}"
        self._clones = 0
        self.version = ""

    async def __aenter__(self) -> Self:
        self.version = (await self._value("SHOW server_version")).split()[0]
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
        """Make a database as another one is, and return its URL; else one that holds dendrite's tables, empty."""
        self._clones += 1
        name = f"{self._template}_{self._clones}"
        template = _name_of(original) if original else self._template
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.dsn(name)

    async def make(self, encoding: str) -> str:
        """Make a database with dendrite's tables, empty, of another encoding and locale, and return its URL."""
        self._clones += 1
        name = f"{self._template}_{self._clones}"
        await self._make(name, encoding)
        return self.dsn(name)

    async def _make(self, name: str, encoding: str) -> None:
        await self._execute(f"CREATE DATABASE {name} TEMPLATE template0 {encoding}")
        connection = await asyncpg.connect(self.dsn(name))
        try:
            await connection.execute(files("retentiond.demo").joinpath("dendrite.sql").read_text())
        finally:
            await connection.close()

    async def copy(self, dsn: str) -> str:
        """Make a copy of a database that nobody is connected to, as a backup would have it, and return its URL."""
        self._clones += 1
        name = f"{self._template}_{self._clones}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {urlsplit(dsn).path.removeprefix('/')}")
        return self.dsn(name)

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
