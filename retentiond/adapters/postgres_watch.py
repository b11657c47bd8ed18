"""A watch over all connections of this process to one database: a wait for the server ends, and the log names it.

Keepalives see a host that is gone. They do not see a server that receives data and never answers (a stopped
process, a hung disk, a silent proxy), nor a COMMIT that waits for a synchronous standby. So while a database is in use,
one more connection asks the server for the wait events of our sessions.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakSet

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres_errors import LOST, SilentServerError, StandbyWaitError
from retentiond.config.connection import described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from asyncpg import Connection, Record

_WAITS: Final = """
SELECT a.pid, a.wait_event, a.wait_event_type, a.query_start,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) a.query_start) AS seconds,
       pg_catalog.left(a.query, 60) AS statement
FROM pg_catalog.pg_stat_activity a
WHERE a.pid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[])
  AND a.usename OPERATOR(pg_catalog.=) CURRENT_USER AND a.state OPERATOR(pg_catalog.=) 'active'
"""
"""Wait events of those sessions of ours that run a statement. The texts are our own: values are parameters."""
_CANCEL: Final = "SELECT pg_catalog.pg_cancel_backend($1::pg_catalog.int4)"
_STANDBY: Final = "SyncRep"


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """The interval of the questions, and the time limits, in seconds.

    A server is silent after `silent_rounds` questions in a row without an answer: after a single one, this process
    may have been stopped instead.
    """

    every: float = 5.0
    answer: float = 10.0
    silent_rounds: int = 2
    standby_noted: float = 5.0
    standby: float = 60.0
    statement_noted: float = 600.0


LIMITS: WatchLimits = WatchLimits()
_WATCHES: Final[dict[str, Watch]] = {}


class Watch:
    """The watch over the connections to one database, by its name. `open_connection` opens the one that asks."""

    def __init__(self, name: str, open_connection: Callable[[], Awaitable[Connection[Record]]]) -> None:
        self.users = 0
        self._log = get_logger(database=name)
        self._open = open_connection
        self._openings: set[asyncio.Timeout] = set()
        self._connections: WeakSet[Connection[Record]] = WeakSet()
        self._own: Connection[Record] | None = None
        self._unanswered = 0
        self._noted: set[tuple[object, ...]] = set()
        # Why new connections would only wait; None once the server answers again.
        self._reason: str | None = None
        self._task = asyncio.create_task(self._run(), name="watch over a database")

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[None]:
        """Raise SilentServerError where a connection that the block opens would only wait, now or later."""
        if self._reason is not None:
            raise SilentServerError(self._reason)
        bound = asyncio.timeout(None)
        try:
            async with bound:
                self._openings.add(bound)
                yield
        except TimeoutError as error:
            if not bound.expired():
                raise
            raise SilentServerError(self._reason) from error
        finally:
            self._openings.discard(bound)

    def add(self, connection: Connection[Record]) -> None:
        """Watch over a connection until it is closed."""
        self._connections.add(connection)

    def cut(self, reason: str) -> None:
        """Close all connections at once, without a message to the server: each wait ends with a SilentServerError."""
        self._reason = reason
        for opening in self._openings:
            if opening.when() is None:
                opening.reschedule(0)
        for connection in list(self._connections):
            _close(connection, SilentServerError(reason))
        self._close_own()

    async def end(self) -> None:
        """End the watch."""
        self._task.cancel()
        await asyncio.wait({self._task})
        self._close_own()
        if not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LIMITS.every)
            watched = [connection for connection in self._connections if not connection.is_closed()]
            if not watched and self._reason is None:
                continue
            await self._look(watched)

    async def _look(self, watched: list[Connection[Record]]) -> None:
        try:
            async with asyncio.timeout(LIMITS.answer):
                if self._own is None or self._own.is_closed():
                    self._own = await self._open()
                # While that was opened, others may have been closed.
                pids = [one.get_server_pid() for one in watched if not one.is_closed()]
                rows = await self._own.fetch(_WAITS, pids)
                await self._note_waits(self._own, rows, watched)
        except TimeoutError:
            self._close_own()
            self._unanswered += 1
            if self._unanswered == LIMITS.silent_rounds:
                reason = f"it takes what it is sent, and {self._unanswered} questions got no answer"
                self._log.error("database_silent", reason=reason)
                self.cut(reason)
        except (*LOST, asyncpg.PostgresError) as error:
            # A refusal is an answer, too; the other connections notice by themselves that a server is down.
            self._close_own()
            self._answered()
            self._log.debug("database_not_asked", error=str(error))
        else:
            self._answered()

    def _answered(self) -> None:
        self._unanswered = 0
        self._reason = None

    async def _note_waits(
        self, own: Connection[Record], rows: list[Record], watched: list[Connection[Record]]
    ) -> None:
        noted: set[tuple[object, ...]] = set()
        for row in rows:
            standby = row["wait_event"] == _STANDBY
            if row["seconds"] < (LIMITS.standby_noted if standby else LIMITS.statement_noted):
                continue
            key = (row["pid"], row["query_start"], standby)
            noted.add(key)
            if key not in self._noted:
                self._note(row)
            if standby and row["seconds"] >= LIMITS.standby:
                await self._end_wait_for_standby(own, row, watched)
        self._noted = noted

    async def _end_wait_for_standby(
        self, own: Connection[Record], row: Record, watched: list[Connection[Record]]
    ) -> None:
        """Close the connection, so that the work ends, and have the server end the wait, so that its locks go.

        The server has the commit on its own disk by then. The work does not learn that: it takes the outcome for
        unknown, touches no further file, and the claims of its entries are settled by the next start or sweep.
        """
        waited = f"{row['seconds']:.0f} s"
        self._log.error("database_wait_ended", wait_event=row["wait_event"], waited=waited)
        for connection in watched:
            if not connection.is_closed() and connection.get_server_pid() == row["pid"]:
                _close(connection, StandbyWaitError(f"{waited}, wait_event {row['wait_event']}"))
                await own.execute(_CANCEL, row["pid"])

    def _note(self, row: Record) -> None:
        self._log.warning(
            "database_waits",
            wait_event=row["wait_event"],
            wait_event_type=row["wait_event_type"],
            waited=f"{row['seconds']:.0f} s",
            statement=row["statement"],
        )

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.terminate()
            self._own = None


def _close(connection: Connection[Record], error: SilentServerError) -> None:
    """Close a connection as if it had been lost by this error, which the driver then gives as the cause."""
    if connection.is_closed():
        return
    # The driver's own `terminate` names no cause, and leaves a COPY waiting that could not write.
    transport: asyncio.Transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001
    protocol = cast("asyncio.Protocol", transport.get_protocol())
    protocol.connection_lost(error)
    protocol.resume_writing()
    transport.abort()


def watch_over(url: str) -> Watch | None:
    """Return the watch over the connections to a URL; None without a watch."""
    return _WATCHES.get(url)


@asynccontextmanager
async def watched(
    url: str, open_connection: Callable[[], Awaitable[Connection[Record]]]
) -> AsyncIterator[Watch]:
    """Watch the connections to a URL until this block, and every other block for the URL, has ended."""
    watch = _WATCHES.get(url)
    if watch is None:
        watch = _WATCHES[url] = Watch(described(url), open_connection)
    watch.users += 1
    try:
        yield watch
    finally:
        watch.users -= 1
        if not watch.users:
            del _WATCHES[url]
            await watch.end()


def hang_up() -> None:
    """Close all watched connections at once, for an end that waits for no server."""
    for watch in _WATCHES.values():
        watch.cut("retentiond was asked to stop, and did not wait for it any longer")
