"""What held rooms and users refer to: read whole, at most every ten minutes while something needs it, and added up.

The set of a hold only grows. What an event showed is held from the first reading that saw it, also when the event is
redacted, or the room purged, afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from retentiond.adapters.postgres import connect, named_queries
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.model.text import printable
from retentiond.targets.dendrite_media.sources import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.config.dendrite_yaml import Component

KEPT_HOLDS: Final = "retentiond.hold_media"
PLAN_HOLDS: Final = "pg_temp.plan_hold_media"
_SQL: Final = named_queries(__package__, "holds.sql")
_SOURCES: Final = named_queries(__package__, "hold_sources.sql")
_PAGE: Final = 5000


class _Source(NamedTuple):
    statement: str
    component: Component
    table: str


def _events(table: str, whose: str) -> _Source:
    return _Source(_SOURCES["events"].replace("{table}", table).replace("{whose}", whose), "sync_api", table)


_BY_KIND: Final[Mapping[str, tuple[_Source, ...]]] = {
    "room": (
        _events("syncapi_output_room_events", "room_id"),
        _events("syncapi_current_room_state", "room_id"),
    ),
    "user": (
        _events("syncapi_output_room_events", "sender"),
        _events("syncapi_current_room_state", "sender"),
        _Source(_SOURCES["profile"], "user_api", "userapi_profiles"),
    ),
}


class HoldReferences:
    """Reads what held rooms and users refer to, in whichever database that lies."""

    def __init__(self, database: str, databases: Mapping[Component, str]) -> None:
        self._database = database
        self._databases = databases

    async def refresh(self, connection: Conn, *, begun_after: datetime) -> datetime | None:
        """Read what was not read since then; return when the oldest reading was begun, None where none is needed.

        Raises RefusedError where a source cannot be read: then nobody knows what is held.
        """
        for hold in await connection.fetch(_SQL["unread_holds"], begun_after):
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = 0")
                await connection.execute(_SQL["lock_reading"], hold["hold_id"])
                begun_at = await connection.fetchval("SELECT clock_timestamp()")
                await self._read(connection, KEPT_HOLDS, hold)
                await connection.execute(_SQL["note_reading"], hold["hold_id"], begun_at)
        oldest: datetime | None = await connection.fetchval(_SQL["oldest_reading"])
        return oldest

    async def copy_for_plan(self, connection: Conn) -> None:
        """Fill a copy that goes with the connection, with all that is held now; raises RefusedError."""
        await connection.execute(_SQL["make_plan_holds"])
        await connection.execute(_SQL["fill_plan_holds"])
        now = await connection.fetchval("SELECT clock_timestamp()")
        for hold in await connection.fetch(_SQL["unread_holds"], now):
            await self._read(connection, PLAN_HOLDS, hold)

    async def encrypted(self, connection: Conn, room: str) -> bool:
        """Tell whether a room is encrypted."""
        url = self._databases.get("sync_api", self._database)
        if url == self._database:
            return bool(await connection.fetchval(_SOURCES["encrypted"], room))
        other = await connect(url, "the database of syncapi_current_room_state")
        try:
            return bool(await other.fetchval(_SOURCES["encrypted"], room))
        finally:
            await other.close(timeout=10)

    async def _read(self, connection: Conn, relation: str, hold: Record) -> None:
        await prepare(connection)
        for source in _BY_KIND[hold["kind"]]:
            url = self._databases.get(source.component, self._database)
            try:
                if url == self._database:
                    statement = (
                        _SQL["add_references"]
                        .replace("{hold_media}", relation)
                        .replace("{source}", source.statement)
                    )
                    await connection.execute(statement, hold["subject"], hold["hold_id"])
                else:
                    await self._read_from(connection, url, relation, hold, source)
            except (asyncpg.PostgresError, UnreachableError) as error:
                if connection.is_closed():
                    raise
                raise _unreadable(hold, source, error) from error

    async def _read_from(
        self, connection: Conn, url: str, relation: str, hold: Record, source: _Source
    ) -> None:
        statement = _SQL["add_keys"].replace("{hold_media}", relation)
        other = await connect(url, f"the database of {source.table}")
        try:
            await prepare(other)
            async with other.transaction(readonly=True):
                cursor = await other.cursor(source.statement, hold["subject"])
                while page := await cursor.fetch(_PAGE):
                    media_ids = [row["media_id"] for row in page]
                    origins = [row["media_origin"] for row in page]
                    await connection.execute(statement, hold["hold_id"], media_ids, origins)
        finally:
            await other.close(timeout=10)


def _unreadable(hold: Record, source: _Source, error: Exception) -> RefusedError:
    return RefusedError(
        Refusal(
            "hold_unreadable",
            f"{source.table}: {printable(str(error))}",
            "readable",
            f"hold {hold['hold_id']} on {printable(hold['subject'])} keeps what it refers to, and that cannot be read: "
            f"let this role read {source.table} (GRANT SELECT ON {source.table}), name its database under `databases`, "
            f"or release the hold (`retentiond hold release {hold['hold_id']}`)",
        )
    )
