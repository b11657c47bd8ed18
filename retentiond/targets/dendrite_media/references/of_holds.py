"""References of held rooms and users: read whole, at most every ten minutes while a check needs them, and accumulated.

The members of a room that is held with them are read at the same time. The set of a hold only grows. A reference in
an event is held from the first reading that saw it, also when the event is redacted, or the room purged, afterwards.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

import asyncpg

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import MissingRightError, Refusal, RefusedError, UnreachableError
from retentiond.model.text import printable, sentence
from retentiond.targets.dendrite_media.database.rows import key_columns, media_key
from retentiond.targets.dendrite_media.references.sources import Statement, next_step, stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.model.media import MediaKey
    from retentiond.targets.dendrite_media.references.sources import Sources


class HoldTables(NamedTuple):
    """The tables that record the items of holds: media by their keys, and members of rooms."""

    hold_media: str
    hold_member: str


KEPT_HOLDS: Final = HoldTables("retentiond.hold_media", "retentiond.hold_member")
PLAN_HOLDS: Final = HoldTables("pg_temp.plan_hold_media", "pg_temp.plan_hold_member")
Encryption = Literal["encrypted", "plain", "unknown"]
"""Whether the references in a room's messages can be read."""
SQL: Final = named_queries(__package__, "of_holds.sql")


def _events(table: str, whose: str) -> Statement:
    return Statement(SQL["events"].replace("{table}", table).replace("{whose}", whose), "sync_api", table)


_EVENT_TABLES: Final = "syncapi_current_room_state, syncapi_output_room_events"
_ENCRYPTION: Final = Statement(SQL["encryption"], "sync_api", _EVENT_TABLES)
_MEMBERS: Final = Statement(SQL["members"], "sync_api", _EVENT_TABLES)
_BY_KIND: Final[Mapping[str, tuple[Statement, ...]]] = {
    "room": (
        _events("syncapi_output_room_events", "room_id"),
        _events("syncapi_current_room_state", "room_id"),
    ),
    "user": (
        _events("syncapi_output_room_events", "sender"),
        _events("syncapi_current_room_state", "sender"),
        Statement(SQL["profile"], "user_api", "userapi_profiles"),
    ),
}


class HoldReferences:
    """Reads the references of held rooms and users, from whichever database they are in."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def refresh(self, connection: Conn, *, begun_after: datetime) -> datetime | None:
        """Read the sources that were not read since then; return when the oldest reading began, None if none is needed.

        Raise RefusedError if a source cannot be read: the held items are then unknown.
        """
        for hold in await connection.fetch(SQL["unread_holds"], begun_after):
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = 0")
                await connection.execute(SQL["lock_reading"], hold["hold_id"])
                await connection.execute("SET LOCAL lock_timeout TO DEFAULT")
                begun_at = await connection.fetchval("SELECT clock_timestamp()")
                await self._read(connection, KEPT_HOLDS, hold)
                await connection.execute(SQL["note_reading"], hold["hold_id"], begun_at)
        oldest: datetime | None = await connection.fetchval(SQL["oldest_reading"])
        return oldest

    async def add_medium(self, connection: Conn, hold_id: int, key: MediaKey) -> None:
        """Record the media item that a hold names."""
        adding = SQL["add_keys"].replace("{hold_media}", KEPT_HOLDS.hold_media)
        await connection.execute(adding, hold_id, *key_columns([key]))

    async def copy_for_plan(self, connection: Conn) -> None:
        """Fill a copy that ends with the connection, with all items held now; raise RefusedError."""
        for statement in ("make_plan_holds", "fill_plan_holds", "make_plan_members", "fill_plan_members"):
            await connection.execute(SQL[statement])
        now = await connection.fetchval("SELECT clock_timestamp()")
        for hold in await connection.fetch(SQL["unread_holds"], now):
            await self._read(connection, PLAN_HOLDS, hold)

    async def encryption(self, connection: Conn, room: str) -> Encryption:
        """Return whether a room is encrypted; unreadable is unknown."""
        try:
            async with self._sources.reading(connection, _ENCRYPTION) as other:
                return cast("Encryption", await other.fetchval(_ENCRYPTION.text, room))
        except (asyncpg.PostgresError, UnreachableError):
            if connection.is_closed():
                raise
            return "unknown"

    async def _read(self, connection: Conn, tables: HoldTables, hold: Record) -> None:
        for source in _BY_KIND[hold["kind"]]:
            with _refusing(connection, hold, source):
                async with self._sources.reading(connection, source) as other:
                    if other is connection:
                        adding = SQL["add_references"].replace("{source}", source.text)
                        arguments = hold["subject"], hold["hold_id"]
                        await connection.execute(
                            adding.replace("{hold_media}", tables.hold_media), *arguments
                        )
                    else:
                        await self._read_from(other, connection, tables, hold, source)
        if hold["with_members"]:
            with _refusing(connection, hold, _MEMBERS):
                await self._read_members(connection, tables, hold)

    async def _read_from(
        self, other: Conn, connection: Conn, tables: HoldTables, hold: Record, source: Statement
    ) -> None:
        adding = SQL["add_keys"].replace("{hold_media}", tables.hold_media)
        async for page in stream(other, source.text, hold["subject"]):
            await connection.execute(adding, hold["hold_id"], *key_columns(media_key(row) for row in page))

    async def _read_members(self, connection: Conn, tables: HoldTables, hold: Record) -> None:
        adding = SQL["add_members"].replace("{hold_member}", tables.hold_member)
        arguments = hold["hold_id"], sorted(self._sources.server_names)
        async with self._sources.reading(connection, _MEMBERS) as other:
            if other is connection:
                here = adding.replace("{source}", _MEMBERS.text)
                await connection.execute(here, hold["subject"], *arguments)
                return
            paged = adding.replace("{source}", SQL["page_of_members"])
            async for page in stream(other, _MEMBERS.text, hold["subject"]):
                await connection.execute(paged, [row["user_id"] for row in page], *arguments)


async def any_never_read(connection: Conn) -> bool:
    """Return whether the references of a hold in force were never read."""
    return bool(await connection.fetchval(SQL["any_never_read"]))


async def has_unread(connection: Conn, begun_after: datetime) -> bool:
    """Return whether a hold has references that were not read since then."""
    return bool(await connection.fetch(SQL["unread_holds"], begun_after))


@contextmanager
def _refusing(connection: Conn, hold: Record, source: Statement) -> Iterator[None]:
    """Turn the error of a source into a refusal; a lost connection to the media's database passes through."""
    try:
        yield
    except MissingRightError:
        # The error names the missing privilege, and does not depend on one source.
        raise
    except (asyncpg.PostgresError, UnreachableError) as error:
        if connection.is_closed():
            raise
        raise _unreadable(hold, source, error) from error


def _unreadable(hold: Record, source: Statement, error: Exception) -> RefusedError:
    found = f"{source.table}: {sentence(str(error))}"
    told = f"hold {hold['hold_id']} on {printable(hold['subject'])} keeps its references, and these cannot be read"
    return RefusedError(Refusal("hold_unreadable", found, "readable", f"{told}: {next_step(source, error)}"))
