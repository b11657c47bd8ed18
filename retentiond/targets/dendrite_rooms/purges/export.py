"""The state of a room as the ledger keeps it after the purge (`keep_state`): state events and the IDs of all events, no messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from retentiond.targets.dendrite_rooms.purges.tables import Databases

SQL: Final = named_queries(__package__, "export.sql")
_MOST_STATE: Final = 5_000
_LONGEST_EVENT: Final = 1 << 16
_LARGEST_STATE: Final = 8 << 20
"""Bytes of all state events together: anybody can make a room of large ones, and the database's JSON has its limit, too."""
_MOST_EVENTS: Final = 100_000


async def export_state(databases: Databases, room_id: str, room_nid: int) -> dict[str, Any]:
    """Return the state and the IDs of the newest events; `cut` says whether there was more than is kept."""
    found = await databases.sync_api.fetch(
        SQL["state"], room_id, _LONGEST_EVENT, _MOST_STATE + 1, _LARGEST_STATE
    )
    state = [row for row in found[:_MOST_STATE] if row["sum"] <= _LARGEST_STATE]
    events = await databases.room_server.fetch(SQL["event_ids"], room_nid, _MOST_EVENTS + 1)
    return {
        "state": [{name: _storable(value) for name, value in row.items() if name != "sum"} for row in state],
        "events": [_storable(row["event_id"]) for row in events[:_MOST_EVENTS]],
        "cut": len(found) > len(state) or len(events) > _MOST_EVENTS,
    }


def _storable(text: str | None) -> str | None:
    """Return a text that JSON of the database can hold: a database without an encoding has any bytes."""
    return text and text.encode("utf-8", "replace").decode()
