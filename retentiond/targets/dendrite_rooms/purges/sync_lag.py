"""Whether dendrite's sync keeps up with its room server, by the newest events that each of them has.

Its health page answers 200 while sync takes one message again and again: only the databases show that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from retentiond.targets.dendrite_rooms.purges.tables import Databases

SQL: Final = named_queries(__package__, "sync_lag.sql")
_NEWEST: Final = 200
"""The number of rooms whose last event is compared, those with the newest events."""


@dataclass(frozen=True, slots=True)
class SyncLag:
    """Events that the room server has sent and sync does not have, and that are newer than all that it has."""

    missing: frozenset[str]

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.missing)


async def read_lag(databases: Databases) -> SyncLag:
    """Compare the last events of the rooms with the newest ones.

    An older event that sync lacks was lost with a queue, and comes no more; while sync works, newer ones arrive.
    """
    sent = await databases.room_server.fetch(SQL["newest_sent"], _NEWEST)
    ids = [row["event_id"] for row in sent]
    there = {row["event_id"] for row in await databases.sync_api.fetch(SQL["received"], ids)}
    missing = []
    for event_id in ids:  # the newest first
        if event_id in there:
            break
        missing.append(event_id)
    return SyncLag(frozenset(missing))
