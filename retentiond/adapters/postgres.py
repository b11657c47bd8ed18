"""PostgreSQL: connections with the settings that safety needs, named SQL, and errors in the user's words."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import asyncpg
from asyncpg import Connection, Pool, Record

from retentiond.adapters.names import NamingConnection
from retentiond.adapters.postgres_errors import LOST, translate_errors
from retentiond.adapters.postgres_watch import watch_over, watched
from retentiond.config.connection import described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from asyncpg.pool import PoolConnectionProxy

__all__ = [
    "LOST",
    "Conn",
    "Db",
    "connect",
    "connection_to",
    "named_queries",
    "pages",
    "pool",
    "read_only_connection",
    "translate_errors",
]

Conn: TypeAlias = "Connection[Record] | PoolConnectionProxy[Record]"
Db: TypeAlias = "Pool[Record]"

# How long, in seconds, the other side may be silent before it is asked for a sign of life, how often, and how many
# times; then the connection fails, and the waiting call gets an error.
_SILENT_FOR, _ASK_EVERY, _ASK_TIMES = 60, 15, 4
# The most that any statement may take; on the server, and a little later on this side, should the server forget it.
_STATEMENT_SECONDS, _STATEMENT_GRACE = 6 * 3600, 300
_CONNECT_SECONDS, _CLOSE_SECONDS = 15, 10

_SETTINGS: Final = {
    "application_name": "retentiond",
    # A value given at the start of a connection wins over the server's, the database's and the role's, and comes back
    # with RESET ALL. Settings that cannot be there, or must not be overruled blindly, are in _LATER_SETTINGS.
    "default_transaction_isolation": "read committed",
    # Rows that row security hides from this role would look missing, and their files orphaned:
    # with this the server raises an error in place of hiding any.
    "row_security": "off",
    # A day that is added to a moment is 24 hours in this zone alone: in one with summer time a grace that is given in
    # days would end an hour early.
    "timezone": "UTC",
    # Else backslashes in our statements' patterns would mean something else.
    "standard_conforming_strings": "on",
    # Otherwise types would be reported in quotes, and be unknown to us.
    "quote_all_identifiers": "off",
    # Keys are looked up by the thousand in an index that is in memory; the default prefers a scan.
    "random_page_cost": "1.1",
    # A plan that is made once for all takes a batch's arrays for ten keys, and is slow beyond measure with a thousand.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "10min",
    # The role's own is for a web application, perhaps: a reference copy of a large store, or an index, takes longer.
    "statement_timeout": f"{_STATEMENT_SECONDS}s",
    # A host that lost its power closes no connection: its locks end after two minutes, not the system's two hours.
    "tcp_keepalives_idle": str(_SILENT_FOR),
    "tcp_keepalives_interval": str(_ASK_EVERY),
    "tcp_keepalives_count": str(_ASK_TIMES),
}
# synchronous_commit: with `off` a crash loses a commit that the disk has already followed. Every other value has the
# commit on the server's own disk, which is enough, and may be there for a reason: `local` so that a standby that is
# down holds nothing up, the stricter ones so that a failover loses nothing. The other two came with PostgreSQL 14 and
# 17; an older server knows neither.
_LATER_SETTINGS: Final = """
SELECT pg_catalog.set_config('synchronous_commit', 'local', false)
WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
UNION ALL
SELECT pg_catalog.set_config(s.name, '0', false)
FROM (VALUES ('idle_session_timeout'), ('transaction_timeout')) AS s (name)
WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL
"""
_NAME = re.compile(r"^-- name: (?P<name>\w+)\s*$", re.MULTILINE)


def named_queries(package: str, file: str, **identifiers: str) -> Mapping[str, str]:
    """Read a `.sql` file of a package into its statements by name.

    `identifiers` replace `{name}` in the text: they are relations of our own, never a value from outside.
    """
    text = (resources.files(package) / file).read_text(encoding="utf-8")
    for identifier, relation in identifiers.items():
        text = text.replace("{" + identifier + "}", relation)
    heads = list(_NAME.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head["name"]: text[head.end() : end].strip() for head, end in zip(heads, ends, strict=True)}


async def connect(dsn: str, what: str = "the database") -> Conn:
    """Open one connection; raises UnreachableError."""
    with translate_errors(_named(dsn, what)):
        return await _open_watched(dsn)


@asynccontextmanager
async def connection_to(dsn: str, what: str = "the database") -> AsyncIterator[Conn]:
    """Open one connection for a block, and end its statement on the server with it; raise UnreachableError."""
    async with watched(dsn, partial(_open, dsn)):
        connection = await connect(dsn, what)
        try:
            yield connection
        finally:
            # Closing a connection alone leaves its statement running, perhaps for hours.
            with suppress(*LOST):
                await connection.close(timeout=_CLOSE_SECONDS)


@asynccontextmanager
async def read_only_connection(dsn: str, what: str = "the database") -> AsyncIterator[Conn]:
    """Open one for reading, and for temporary tables and functions at most: for read-only roles, too."""
    async with connection_to(dsn, what) as connection:
        with translate_errors(what):
            # The server counts temporary objects as a write, too. A standby stays read-only.
            await connection.execute("SET default_transaction_read_only = off")
        yield connection


async def _open_watched(dsn: str, **driver: Any) -> NamingConnection:
    """Open a connection under the watch over its URL, if there is one; a pool passes `driver` on."""
    watch = watch_over(dsn)
    if watch is None:
        return await _open(dsn, **driver)
    async with watch.opening():
        connection = await _open(dsn, **driver)
    watch.add(connection)
    return connection


async def _open(dsn: str, **driver: Any) -> NamingConnection:
    """Open a connection with our settings."""
    opened = await asyncpg.connect(
        str(dsn),
        server_settings=dict(_SETTINGS),
        timeout=_CONNECT_SECONDS,
        command_timeout=_STATEMENT_SECONDS + _STATEMENT_GRACE,
        **{"connection_class": NamingConnection} | driver,
    )
    connection = cast("NamingConnection", opened)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _keep_alive(connection)
            await connection.execute(_LATER_SETTINGS)
            await connection.settle_names()
            await connection.carry_bytes()
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _reset(connection: Connection[Record]) -> None:
    """Make a connection of the pool as new, our settings included."""
    await connection.execute(f"{connection.get_reset_query()};{_LATER_SETTINGS}")


def _named(dsn: str, what: str) -> str:
    """Name a database by host, port or socket, database, role, and its position in the configuration."""
    return f"{what} ({described(dsn)})"


def _keep_alive(connection: Connection[Record]) -> None:
    """Notice a server that disappeared silently, also while we wait for its answer: that wait has no other end."""
    # The driver has no setting for it.
    bearer: asyncio.Transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001
    line = bearer.get_extra_info("socket")
    if line.family == socket.AF_UNIX:
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, _SILENT_FOR),
        (socket.TCP_KEEPINTVL, _ASK_EVERY),
        (socket.TCP_KEEPCNT, _ASK_TIMES),
        (socket.TCP_USER_TIMEOUT, (_SILENT_FOR + _ASK_EVERY * _ASK_TIMES) * 1000),
    ):
        line.setsockopt(socket.IPPROTO_TCP, option, value)


@asynccontextmanager
async def pool(dsn: str, what: str = "the database", size: int = 4) -> AsyncIterator[Db]:
    """Open a small pool and check that it reaches the server; raises UnreachableError."""
    what, url = _named(dsn, what), dsn

    async def open_for_pool(dsn: str | None = None, **driver: Any) -> Connection[Record]:
        # Later, too: the server may go away, or have no connection left, in the midst of the work.
        with translate_errors(what):
            return await _open_watched(dsn or url, **driver)

    async with watched(url, partial(_open, url)):
        opened = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size,
            connect=open_for_pool,
            reset=_reset,
            connection_class=NamingConnection,
        )
        try:
            with translate_errors(what):
                await opened.execute("SELECT 1")
            yield opened
        finally:
            opened.terminate()


async def rows_in_pages(
    connection: Conn, query: str, *arguments: Any, size: int = 1000
) -> AsyncIterator[list[Record]]:
    """Stream a query's rows, a page at a time, in one transaction."""
    async with connection.transaction(readonly=True):
        page: list[Record] = []
        async for row in connection.cursor(query, *arguments, prefetch=size):
            page.append(row)
            if len(page) == size:
                yield page
                page = []
        yield page


async def pages(
    connection: Conn, query: str, *arguments: Any, size: int = 1000, after: tuple[Any, ...]
) -> AsyncIterator[list[Record]]:
    """Stream a query by its key, a page a server-side cursor, so that no transaction outlasts a page.

    The query takes the key to go on after as its first parameters and the page's size as the next; the
    key's columns come first in its rows.
    """
    key = after
    while True:
        async with connection.transaction(readonly=True):
            page = [row async for row in connection.cursor(query, *key, size, *arguments, prefetch=size)]
        if not page:
            return
        yield page
        if len(page) < size:
            return
        key = tuple(page[-1][column] for column in range(len(after)))
