"""retentiond on a test's rooms and a recorded dendrite: the target as configured, and its program."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from retentiond.config.rooms import RoomTarget
from retentiond.config.schema import Config
from retentiond.engine.target import PassOptions
from retentiond.targets.dendrite_rooms.target import open_dendrite_rooms
from tests.support.dendrite_admin import ADMIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_rooms.target import DendriteRooms

LEFT = {"name": "left", "match": {"left_by_all": True}, "keep": "30d"}


def configure_rooms(database: str, url: str, **keys: Any) -> dict[str, Any]:
    """Return the configuration of one target `rooms`, of `here.test`, without limits that tiny stores would pass."""
    target = {
        "kind": "dendrite_rooms",
        "database": database,
        "server_name": "here.test",
        "admin_api": {"url": url, "token": ADMIN},
        "policies": [LEFT],
        "limits": {"max_share": 1.0, "max_events_share": 1.0, "max_database_share": 1.0},
        "pace": {"pause": "0s"},
    }
    return {"targets": {"rooms": target | keys}}


class RoomRetention:
    """A target on a test's rooms; each call opens it anew, with its own keys."""

    def __init__(self, database: str, url: str) -> None:
        self.database = database
        self.url = url

    @asynccontextmanager
    async def opened(self, **keys: Any) -> AsyncIterator[DendriteRooms]:
        """Open the target."""
        config = Config.model_validate(configure_rooms(self.database, self.url, **keys)).targets["rooms"]
        assert isinstance(config, RoomTarget)
        async with open_dendrite_rooms("rooms", config) as target:
            yield target

    async def one_pass(self, command: str = "once", **keys: Any) -> PassReport:
        """Run a pass that a user has confirmed."""
        async with self.opened(**keys) as target:
            return await target.run_pass(PassOptions(command, over_limits=True))
