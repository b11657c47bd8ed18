"""What held rooms and users refer to: read whole, at most every ten minutes while something needs it, and added up.

The set of a hold only grows. What an event showed is held from the first reading that saw it, also when the event is
redacted, or the room purged, afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.model.text import printable
from retentiond.targets.dendrite_media.database.rows import key_columns, media_key
from retentiond.targets.dendrite_media.references.sources import Statement, stream, way_on

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.dendrite_media.references.sources import Sources

KEPT_HOLDS: Final = "retentiond.hold_media"
PLAN_HOLDS: Final = "pg_temp.plan_hold_media"
SQL: Final = named_queries(__package__, "of_holds.sql")


def _events(table: str, whose: str) -> Statement:
    return Statement(SQL["events"].replace("{table}", table).replace("{whose}", whose), "sync_api", table)


_ENCRYPTED: Final = Statement(SQL["encrypted"], "sync_api", "syncapi_current_room_state")
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
    """Reads what held rooms and users refer to, in whichever database that lies."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def refresh(self, connection: Conn, *, begun_after: datetime) -> datetime | None:
        """Read what was not read since then; return when the oldest reading was begun, None where none is needed.

        Raises RefusedError where a source cannot be read: then nobody knows what is held.
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

    async def copy_for_plan(self, connection: Conn) -> None:
        """Fill a copy that goes with the connection, with all that is held now; raises RefusedError."""
        await connection.execute(SQL["make_plan_holds"])
        await connection.execute(SQL["fill_plan_holds"])
        now = await connection.fetchval("SELECT clock_timestamp()")
        for hold in await connection.fetch(SQL["unread_holds"], now):
            await self._read(connection, PLAN_HOLDS, hold)

    async def encrypted(self, connection: Conn, room: str) -> bool:
        """Tell whether a room is encrypted."""
        async with self._sources.reading(connection, _ENCRYPTED) as other:
            return bool(await other.fetchval(_ENCRYPTED.text, room))

    async def _read(self, connection: Conn, relation: str, hold: Record) -> None:
        for source in _BY_KIND[hold["kind"]]:
            try:
                async with self._sources.reading(connection, source) as other:
                    if other is connection:
                        adding = SQL["add_references"].replace("{source}", source.text)
                        arguments = hold["subject"], hold["hold_id"]
                        await connection.execute(adding.replace("{hold_media}", relation), *arguments)
                    else:
                        await self._read_from(other, connection, relation, hold, source)
            except (asyncpg.PostgresError, UnreachableError) as error:
                if connection.is_closed():
                    raise
                raise _unreadable(hold, source, error) from error

    async def _read_from(
        self, other: Conn, connection: Conn, relation: str, hold: Record, source: Statement
    ) -> None:
        adding = SQL["add_keys"].replace("{hold_media}", relation)
        async for page in stream(other, source.text, hold["subject"]):
            await connection.execute(adding, hold["hold_id"], *key_columns(media_key(row) for row in page))


def _unreadable(hold: Record, source: Statement, error: Exception) -> RefusedError:
    found = f"{source.table}: {printable(str(error))}"
    told = f"hold {hold['hold_id']} on {printable(hold['subject'])} keeps what it refers to, and that cannot be read"
    return RefusedError(Refusal("hold_unreadable", found, "readable", f"{told}: {way_on(source, error)}"))
