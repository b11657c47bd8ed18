"""A target of rooms on a test's own databases, with any keys."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from retentiond.config.rooms import RoomTarget
from retentiond.targets.dendrite_rooms.target import open_dendrite_rooms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.targets.dendrite_rooms.target import DendriteRooms

LEFT = {"name": "left", "match": {"left_by_all": True}, "keep": "30d"}


def room_target(database: str, **keys: Any) -> RoomTarget:
    """Return the section of a target of `here.test`, without limits that small servers would exceed."""
    section = {
        "kind": "dendrite_rooms",
        "database": database,
        "server_name": "here.test",
        "admin_api": {"url": "http://127.0.0.1:9", "token": "a-token"},
        "policies": [LEFT],
        "limits": {"max_share": 1.0, "max_events_share": 1.0, "max_database_share": 1.0},
        "pace": {"pause": "0s"},
    }
    return RoomTarget.model_validate(section | keys)


@asynccontextmanager
async def open_rooms(database: str, **keys: Any) -> AsyncIterator[DendriteRooms]:
    """Open a target of rooms."""
    async with open_dendrite_rooms("rooms", room_target(database, **keys)) as target:
        yield target
