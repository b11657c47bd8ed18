"""A session connection that holds advisory locks, and the guard that ends our work when it ends.

The server releases an advisory lock when its connection ends; from then on another process may hold it. So code
that touches a file asks the guard first, and the guard fails as soon as the connection does.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import Conn, connect
from retentiond.model.errors import LeaseLostError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PING_EVERY: Final = 5.0
_PATIENCE: Final = 10.0


class Guard:
    """Whether the locks of a session still stand; threads may ask it between two files."""

    def __init__(self) -> None:
        self._fallen = Event()

    def fall(self) -> None:
        """Say that the session's connection has ended."""
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
