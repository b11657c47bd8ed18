"""Advisory locks, the session connection that holds them, and the guard that ends our work when it ends.

The server releases an advisory lock when its connection ends; from then on another process may hold it. So code
that touches a file asks the guard first, and the guard fails as soon as the connection does.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import Conn, connect, named_queries
from retentiond.model.errors import LeaseLostError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from retentiond.adapters.postgres import Conn, Db

LEASE: Final = 1380931140
CLAIMANT: Final = 1380931141
DUTY: Final = 1380931142
TRIAL: Final = 1380931143
"""The kinds of locks: the work on a store, the life of a claimant, the duty for a target, a trial that no work minds."""

_FILE: Final = "locks.sql"
_KEYS: Final = named_queries(__package__, _FILE)
SQL: Final = named_queries(__package__, _FILE, key=_KEYS["key"])
_SQL_WITHOUT_LEDGER: Final = named_queries(__package__, _FILE, key=_KEYS["key_without_ledger"])
OF_EVERY_LEDGER: Final = "ledger_version"
"""A table that a ledger has whatever targets use it."""


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A session of the server that holds a lock; values that the server hides from our role are None.

    `own_role`: it is a session of our role; `asking`: it is the session that asked.
    """

    role: str
    process: int
    address: str | None
    since: datetime | None
    name: str | None
    own_role: bool
    asking: bool

    def __str__(self) -> str:
        if self.since is None:
            rest = "its address and start hidden from this role, GRANT pg_read_all_stats shows them"
        else:
            rest = (
                f"from {self.address or 'a local socket'}, connected since {self.since:%Y-%m-%d %H:%M:%S%z}"
            )
        return f"role {printable(self.role)}, process {self.process} of the database server, {rest}"


async def ledger_exists(db: Conn | Db, table: str = OF_EVERY_LEDGER) -> bool:
    """Return whether this database has a ledger with this table."""
    return bool(await db.fetchval(SQL["ledger_exists"], table))


async def try_lock(connection: Conn, kind: int, name: str = "", *, ledger: bool = True) -> bool:
    """Take a lock on this session; return False where another session has it."""
    return bool(await connection.fetchval(_statements(ledger=ledger)["try_lock"], kind, name))


async def holds_lock(connection: Conn, kind: int, name: str = "", *, ledger: bool = True) -> bool:
    """Return whether the backend of this transaction holds a lock: a pooler may have given us another one."""
    return bool(await connection.fetchval(_statements(ledger=ledger)["holds_lock"], kind, name))


async def lock_holder(
    connection: Conn, kind: int, name: str = "", *, ledger: bool = True
) -> LockHolder | None:
    """Return the session that holds a lock; None where it is free."""
    row = await connection.fetchrow(_statements(ledger=ledger)["holder"], kind, name)
    return LockHolder(**dict(row)) if row else None


def _statements(*, ledger: bool) -> Mapping[str, str]:
    return SQL if ledger else _SQL_WITHOUT_LEDGER


_PING_EVERY: Final = 5.0
_PATIENCE: Final = 10.0


class Guard:
    """Whether the locks of a session still stand; threads may ask it between two files."""

    def __init__(self) -> None:
        self._fallen = Event()

    def fall(self) -> None:
        """Note that the session's connection has ended."""
        self._fallen.set()

    @property
    def stands(self) -> bool:
        """Return whether the locks are still ours, as far as we can know."""
        return not self._fallen.is_set()

    def ensure(self) -> None:
        """Raise LeaseLostError once the connection that holds the locks has ended."""
        if self._fallen.is_set():
            raise LeaseLostError(
                "the connection that held our lock has ended; nothing more was touched, the next start goes on"
            )


class Session:
    """One connection for locks alone; its guard falls when the server, the network or an administrator ends it."""

    def __init__(self, connection: Conn, guard: Guard) -> None:
        self.connection = connection
        self.guard = guard
        # The ping and the locks share one connection, which does one thing at a time.
        self.turn = asyncio.Lock()

    async def ask(self, query: str, *arguments: object) -> Any:
        """Return the first value of an answer that must come soon: during the wait there is no watch."""
        async with self.turn:
            return await self.connection.fetchval(query, *arguments, timeout=_PATIENCE)

    async def has_ledger(self) -> bool:
        """Return whether the database has a ledger."""
        return bool(await self.ask(SQL["ledger_exists"], OF_EVERY_LEDGER))

    async def try_lock(self, kind: int, name: str) -> bool:
        """Take a lock; return False where another session has it."""
        return bool(await self.ask(SQL["try_lock"], kind, name))

    async def unlock(self, kind: int, name: str = "") -> None:
        """Release a lock."""
        await self.ask(SQL["unlock"], kind, name)

    async def watch(self) -> None:
        """Ask the server for a sign of life now and then; a network that swallows everything is a loss, too."""
        try:
            while self.guard.stands:
                await asyncio.sleep(_PING_EVERY)
                await self.ask("SELECT 1")
        finally:
            # For any end of the watch: locks without a watch are not relied on.
            self.guard.fall()


@asynccontextmanager
async def open_session(dsn: str) -> AsyncIterator[Session]:
    """Open a session and watch over it; its locks go with it."""
    connection = await connect(dsn, "the database, for a lock")
    guard = Guard()
    connection.add_termination_listener(lambda _connection: guard.fall())
    session = Session(connection, guard)
    watcher = asyncio.create_task(session.watch())
    try:
        yield session
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        guard.fall()
        connection.terminate()
