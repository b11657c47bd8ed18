"""The sources of references: the statements over dendrite's tables, their databases, and how they are read.

Each statement yields rows of (source, media_id, media_origin). Rows of the same database are copied by the statement;
rows of another database are streamed, a page at a time.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, named_queries, read_only_connection, rows_in_pages
from retentiond.model.errors import MissingRightError, Refusal, RefusedError, UnreachableError
from retentiond.model.mentions import (
    ENCRYPTION,
    ROOM_KINDS,
    SENT_BY,
    asks_events,
    is_room_source,
    room_source,
)
from retentiond.model.mentions import MESSAGES as ANY_MESSAGE
from retentiond.model.protections import MESSAGES_IN, PROTECTIONS
from retentiond.model.text import printable, sentence
from retentiond.targets.dendrite_media.database.rights import ensure_temporary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.config.dendrite_yaml import Component
    from retentiond.config.resolve import MediaSettings

SQL: Final = named_queries(__package__, "sources.sql")
ROOM_SQL: Final = named_queries(__package__, "rooms.sql")
ENCRYPTED_SQL: Final = named_queries(__package__, "encrypted.sql")
ROOM_COLUMNS: Final = ("room_id", "kind", "since_ms", "event")
"""The columns of the temporary table of rooms of a kind."""
stream = partial(rows_in_pages, size=5000)
BUSY: Final = "the table is locked, or the server was too slow: look at pg_stat_activity, and try again"
_NOT_THERE: Final = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
)
_UNREAD: Final = "retentiond_unread"
_NAMED: Final = 5
_FUNCTIONS: Final = tuple(text for name, text in {**SQL, **ROOM_SQL}.items() if name.endswith("_function"))
_ROOM_SOURCES: Final = frozenset({MESSAGES_IN, *(room_source(kind) for kind in ROOM_KINDS)})


@dataclass(frozen=True, slots=True)
class Statement:
    """The text of a statement, the component whose database answers it, and the tables that it reads."""

    text: str
    component: Component
    table: str


_PROFILES: Final = Statement(SQL["profiles"], "user_api", "userapi_profiles")
_ROOM_STATE: Final = Statement(SQL["current_state"], "sync_api", "syncapi_current_room_state")
_ACCOUNT_DATA: Final = Statement(SQL["accounts"], "user_api", "userapi_account_datas")
_INVITES: Final = Statement(
    named_queries(__package__, "invites.sql")["invites"], "sync_api", "syncapi_invite_events"
)
MESSAGES: Final = Statement(SQL["messages"], "sync_api", "syncapi_output_room_events")
_EVENTS: Final = Statement(
    named_queries(__package__, "events.sql")["events"],
    "sync_api",
    "syncapi_output_room_events, syncapi_current_room_state",
)
_VACATED_ROOMS: Final = Statement(
    ROOM_SQL["vacated_rooms"], "room_server", "roomserver_rooms, roomserver_membership"
)
_UPGRADED_ROOMS: Final = Statement(
    ROOM_SQL["upgraded_rooms"], "sync_api", "syncapi_current_room_state, syncapi_output_room_events"
)
_VACATED_STATE: Final = Statement(
    ROOM_SQL["doubt_vacated_rooms"],
    "sync_api",
    "syncapi_current_room_state, syncapi_invite_events, syncapi_output_room_events",
)
MEMBERS: Final = Statement(
    ENCRYPTED_SQL["members"], "sync_api", "syncapi_current_room_state, syncapi_output_room_events"
)
_YIELDING_BY_NAME: Final = (_PROFILES, _ROOM_STATE, _ACCOUNT_DATA, _INVITES, MESSAGES)
"""The statements that yield the sources whose names stand in their text."""


def _yielding(source: str) -> tuple[Statement, ...]:
    """Return the statements that yield a source.

    Raise TypeError if there is none, since the source would protect nothing.
    """
    if source in ENCRYPTION:
        return (MEMBERS,)
    found = tuple(one for one in _YIELDING_BY_NAME if f"'{source}'" in one.text)
    if not found:
        raise TypeError(f"no statement of references yields the source {source}")
    return found


_BY_SOURCE: Final[Mapping[str, tuple[Statement, ...]]] = {
    source: _yielding(source)
    for source in (ANY_MESSAGE, SENT_BY, *(source for one in PROTECTIONS for source in one.sources))
}


def statements(wanted: Sequence[str]) -> list[Statement]:
    """Return the statements that yield these sources, each once; raise KeyError for an unknown source."""
    return list(dict.fromkeys(one for name in wanted for one in _statements_of(name)))


def _statements_of(source: str) -> tuple[Statement, ...]:
    if asks_events(source):
        return (_EVENTS,)
    return (MESSAGES,) if is_room_source(source) else _BY_SOURCE[source]


@dataclass(frozen=True, slots=True)
class Sources:
    """The databases of the sources: the media's, those of components, and the names of this server."""

    database: str
    databases: Mapping[Component, str]
    server_names: frozenset[str]

    @classmethod
    def of(cls, settings: MediaSettings) -> Sources:
        """Return the sources of a target."""
        return cls(settings.database, settings.databases, settings.server_names)

    @asynccontextmanager
    async def reading(self, connection: Conn, statement: Statement) -> AsyncIterator[Conn]:
        """Yield the connection to a statement's database, `connection` if it is the media's, ready for it."""
        url = self.databases.get(statement.component, self.database)
        if url == self.database:
            await prepare(connection)
            with _naming_unread(connection, statement):
                yield connection
            return
        async with read_only_connection(url, f"the database of {statement.table}") as other:
            await prepare(other)
            with _naming_unread(other, statement):
                yield other

    async def classify_rooms(self, connection: Conn, beside: Conn, wanted: Sequence[str]) -> bool:
        """Classify the rooms on the connection that will read the messages; return whether a source needs that.

        The names of this server are recorded, too. `beside` is the connection to the media's database.
        """
        await connection.execute(SQL["drop_servers"])
        await connection.execute(SQL["make_servers"])
        await connection.execute(SQL["take_servers"], sorted(self.server_names))
        await connection.execute(ROOM_SQL["drop_room_kinds"])
        await connection.execute(ROOM_SQL["make_room_kinds"])
        if _ROOM_SOURCES.isdisjoint(wanted):
            return False
        with refusing(beside, _VACATED_ROOMS):
            await self._take_rooms(connection, beside, _VACATED_ROOMS)
        with refusing(beside, _VACATED_STATE):
            await connection.execute(ROOM_SQL["analyze_room_kinds"])
            await connection.execute(_VACATED_STATE.text)
            for statement in ("date_vacated_rooms", "doubt_dates"):
                await connection.execute(ROOM_SQL[statement])
        with refusing(beside, _UPGRADED_ROOMS):
            await self._take_rooms(connection, beside, _UPGRADED_ROOMS)
        await connection.execute(ROOM_SQL["analyze_room_kinds"])
        return True

    async def _take_rooms(self, connection: Conn, beside: Conn, statement: Statement) -> None:
        url, ours = (self.databases.get(name, self.database) for name in (statement.component, "sync_api"))
        if url == ours:
            await connection.execute(ROOM_SQL["take_room_kinds"].replace("{source}", statement.text))
            return
        async with self.reading(beside, statement) as other:
            async for page in stream(other, statement.text):
                await connection.copy_records_to_table(
                    "retentiond_room",
                    schema_name="pg_temp",
                    records=[tuple(row) for row in page],
                    columns=ROOM_COLUMNS,
                )


@contextmanager
def _naming_unread(connection: Conn, statement: Statement) -> Iterator[None]:
    """Log the rows that a statement could not parse: some of them by name, and their number."""
    rows: Counter[str] = Counter()

    def listen(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
        if message.detail == _UNREAD:
            rows[printable(message.message) if len(rows) < _NAMED else ""] += 1

    connection.add_log_listener(listen)
    try:
        yield
    finally:
        connection.remove_log_listener(listen)
    if rows:
        get_logger().warning(
            "rows_not_parsed",
            table=statement.table,
            rows=rows.total(),
            examples=[name for name in rows if name],
            hint="all media that their text may mention are kept",
        )


@contextmanager
def refusing(connection: Conn, statement: Statement) -> Iterator[None]:
    """Turn the error of a source into a refusal with the next step.

    `connection` is the one to the media's database: its loss is not an error of the source, and passes through.
    """
    try:
        yield
    except MissingRightError:
        # The error names the missing privilege, and does not depend on one source.
        raise
    except (asyncpg.PostgresError, UnreachableError) as error:
        if connection.is_closed():
            raise
        found = f"{statement.table}: {sentence(str(error))}"
        refusal = Refusal("protection_unreadable", found, "readable", next_step(statement, error))
        raise RefusedError(refusal) from error


def next_step(statement: Statement, error: Exception) -> str:
    """Return the next step after an error of a source; never to protect less."""
    if isinstance(error, LOST):
        return BUSY
    if isinstance(error, _NOT_THERE):
        return (
            f"let this role read {statement.table} (GRANT SELECT ON {statement.table}), or name its database under "
            f"`databases: {{{statement.component}: ...}}`"
        )
    return "see the log of that server; nothing is deleted until these tables can be read"


async def prepare(connection: Conn) -> None:
    """Make the functions that cut references out of texts, in the connection's own temporary schema.

    Raise MissingRightError if the role may not create them.
    """
    await ensure_temporary(connection)
    await connection.execute(SQL["widen_memory"])
    # With workers, a process that makes a table of a query may not begin a command, as a function does that catches an
    # exception: every event of its share would look as if it could not be parsed.
    functions = "\n;\n".join(_FUNCTIONS)
    await connection.execute(functions.replace("{parallel}", "PARALLEL UNSAFE"))
