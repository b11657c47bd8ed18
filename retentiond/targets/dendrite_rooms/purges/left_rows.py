"""The rows that purges have left in dendrite's tables, for an audit: by room and table, without those that dendrite keeps by design."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_rooms.purges.purge_table import purged_rooms
from retentiond.targets.dendrite_rooms.purges.tables import TABLES, there

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.targets.dendrite_rooms.purges.tables import Databases, RoomTable

SQL: Final = named_queries(__package__, "left_rows.sql")
_COUNTED: Final = tuple(table for table in TABLES if not table.stays)


async def find_left_rows(databases: Databases, target: str) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """Stream the purged rooms that have rows left, each with their number by table.

    A join with a stale number in dendrite's cache leaves an event of a room that is not there: it is among them.
    """
    async for page in purged_rooms(databases.room_server, target):
        found: dict[str, dict[str, int]] = {}
        by_number = {number: room_id for room_id, number in page}
        for component in ("room_server", "sync_api"):
            async with databases.of(component).acquire() as connection:
                tables = [one for one in _COUNTED if one.component == component]
                for table in await there(connection, tables):
                    keys = list(by_number) if table.key == "room_nid" else list(by_number.values())
                    for row in await connection.fetch(_statement(table), keys):
                        room_id = by_number[row["key"]] if table.key == "room_nid" else row["key"]
                        rows = found.setdefault(room_id, {})
                        rows[table.name] = rows.get(table.name, 0) + row["rows"]
        for room_id in sorted(found):
            yield room_id, found[room_id]


def _statement(table: RoomTable) -> str:
    return SQL["count"].replace("{table}", table.name).replace("{key}", table.key)
