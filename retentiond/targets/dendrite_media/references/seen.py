"""The time at which a room was first seen to be of a kind, for rooms whose own time cannot be trusted.

The time of a kick, a ban or a tombstone from another server is by that server's clock. The time in the ledger is
later than the true one, and therefore safe: media stay longer than needed, but not for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.references.sources import (
    ROOM_COLUMNS,
    ROOM_SQL,
    stream,
)

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn

SQL: Final = named_queries(__package__, "seen.sql")


async def date_rooms(source: Conn, connection: Conn, *, note: bool) -> None:
    """Date the undated rooms on `source`, the connection that classified them, by the ledger on `connection`.

    `note` first adds new rooms to the ledger, and deletes those that are no longer of the kind; a plan only reads.
    """
    if not await connection.fetchval(SQL["has_ledger"]):
        return
    if source is not connection:
        await connection.execute(ROOM_SQL["drop_room_kinds"])
        await connection.execute(ROOM_SQL["make_room_kinds"])
        async for page in stream(source, SQL["undated_rooms"]):
            await connection.copy_records_to_table(
                "retentiond_room",
                schema_name="pg_temp",
                records=[tuple(row) for row in page],
                columns=ROOM_COLUMNS,
            )
    if note:
        await connection.execute(SQL["forget_rooms"])
        await connection.execute(SQL["note_rooms"])
    # Read to the end first: no statement runs on a connection with an open cursor.
    for page in [page async for page in stream(connection, SQL["dated_rooms"])]:
        columns = ([row[name] for row in page] for name in ("room_id", "kind", "since_ms"))
        await source.execute(SQL["date_rooms"], *columns)
