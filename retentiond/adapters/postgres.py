"""PostgreSQL: connections with the settings that safety needs, named SQL, and errors in the user's words."""

from __future__ import annotations

import re
import socket
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import resources
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import asyncpg
from asyncpg import Connection, Pool, Record

from retentiond.adapters.names import NamingConnection
from retentiond.model.errors import UnreachableError
from retentiond.model.text import printable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator, Mapping

    from asyncpg.pool import PoolConnectionProxy

Conn: TypeAlias = "Connection[Record] | PoolConnectionProxy[Record]"
Db: TypeAlias = "Pool[Record]"

# The server is there, and could not do it just now: a lock that was held too long, a primary that became a standby.
_HINDERED: Final = (
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
)
# An error of these kinds means: the server cannot be reached, went away, or was hindered; trying again may help.
LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    *_HINDERED,
)

# How long, in seconds, the other side may be silent before it is asked for a sign of life, how often, and how many
# times; then it is gone, and whoever waits for it is told.
_SILENT_FOR, _ASK_EVERY, _ASK_TIMES = 60, 15, 4

_SETTINGS: Final = {
    "application_name": "retentiond",
    # Servers are tuned otherwise, and then a crash loses a commit that the disk has already followed:
    # a value given at the start of a connection wins over the database's and the role's.
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    # Rows that a policy of row security hides from this role would be no rows, and the files that they bear nobody's:
    # with this the server raises an error in place of hiding any.
    "row_security": "off",
    # A day that is added to a moment is 24 hours in this zone alone: in one with summer time a grace that is given in
    # days would end an hour early.
    "timezone": "UTC",
    # Else backslashes in our statements' patterns would mean something else.
    "standard_conforming_strings": "on",
    # Else types would be told in quotes, and be none that we know.
    "quote_all_identifiers": "off",
    # Keys are looked up by the thousand in an index that is in memory; the default prefers a scan.
    "random_page_cost": "1.1",
    # A plan that is made once for all takes a batch's arrays for ten keys, and is slow beyond measure with a thousand.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "10min",
    # A host that lost its power says no farewell: its locks go after two minutes, and not with the system's two hours.
    "tcp_keepalives_idle": str(_SILENT_FOR),
    "tcp_keepalives_interval": str(_ASK_EVERY),
    "tcp_keepalives_count": str(_ASK_TIMES),
}
_NAME = re.compile(r"^-- name: (?P<name>\w+)\s*$", re.MULTILINE)


def named_queries(package: str, file: str = "queries.sql", **identifiers: str) -> Mapping[str, str]:
    """Read a `.sql` file of a package into its statements by name.

    `identifiers` replace `{name}` in the text: they are relations of our own, never a value from outside.
    """
    text = (resources.files(package) / file).read_text(encoding="utf-8")
    for identifier, relation in identifiers.items():
        text = text.replace("{" + identifier + "}", relation)
    heads = list(_NAME.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head["name"]: text[head.end() : end].strip() for head, end in zip(heads, ends, strict=True)}


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turn what a server says, or that it says nothing, into an UnreachableError that names it by `what`."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise UnreachableError(
            f"{what}: {printable(str(error))}; grant that right, then try again"
        ) from error
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise UnreachableError(
            f"{what}: {printable(str(error))}; check `database` in the configuration"
        ) from error
    except _HINDERED as error:
        raise UnreachableError(f"{what} could not go on: {printable(str(error))}; try again") from error
    except LOST as error:
        if isinstance(error, OSError) and PurePath(str(error.filename)).parent.name == ".postgresql":
            raise UnreachableError(_closed_home(what, error)) from error
        reason = printable(str(error)) or type(error).__name__
        raise UnreachableError(
            f"{what} cannot be reached: {reason}; check that it runs and try again"
        ) from error
    except asyncpg.PostgresError as error:
        # Nobody foresaw it, and it may be anything: a trigger that raises, a damaged index. The other targets, and
        # their daemon, are to live on.
        raise UnreachableError(
            f"{what} refused: {printable(str(error))} ({type(error).__name__}); see its log, take the cause away, or "
            "report it where it is ours"
        ) from error


def _closed_home(what: str, error: OSError) -> str:
    # asyncpg looks for a client's certificate there, even where nobody asked for TLS.
    return (
        f"{what}: {printable(str(error.filename))} cannot be looked for: {error.strerror}; "
        "set $HOME to a directory that this user may enter, or add sslmode=disable to the connection string"
    )


async def connect(dsn: str, what: str = "the database") -> Conn:
    """Open one connection; raises UnreachableError."""
    with reaching(what):
        connection = await asyncpg.connect(
            dsn, server_settings=dict(_SETTINGS), timeout=15, connection_class=NamingConnection
        )
        await _settle(connection)
        return connection


@asynccontextmanager
async def connected(dsn: str, what: str = "the database") -> AsyncIterator[Conn]:
    """Open one connection for a block, with which ends what the server is at for it; raises UnreachableError."""
    connection = await connect(dsn, what)
    try:
        yield connection
    finally:
        # Who only hangs up leaves a statement behind that goes on, for hours perhaps, though nobody waits for it.
        with suppress(*LOST):
            await connection.close(timeout=10)


@asynccontextmanager
async def looking(dsn: str, what: str = "the database") -> AsyncIterator[Conn]:
    """Open one for who only looks, and makes temporary tables and functions at most: for read-only roles, too."""
    async with connected(dsn, what) as connection:
        with reaching(what):
            # The server takes what is temporary for a write, too. A standby stays one.
            await connection.execute("SET default_transaction_read_only = off")
        yield connection


async def _settle(connection: Conn) -> None:
    await _keep_alive(connection)
    await cast("NamingConnection", connection).settle_names()


async def _keep_alive(connection: Conn) -> None:
    """Notice a server that has gone without a word, also while we wait for its answer: else that is for ever."""
    # The driver has no setting for it.
    bearer: asyncio.Transport = connection._transport  # type: ignore[union-attr]  # noqa: SLF001
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
    with reaching(what):
        opened = await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=size,
            server_settings=dict(_SETTINGS),
            timeout=15,
            connection_class=NamingConnection,
            init=_settle,
        )
    try:
        with reaching(what):
            await opened.execute("SELECT 1")
        yield opened
    finally:
        opened.terminate()


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
