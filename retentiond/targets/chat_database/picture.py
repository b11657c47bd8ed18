"""Draws the picture of the chats for the report. Like a plan, it changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retentiond.adapters.postgres import connected
from retentiond.engine.purge import PurgeWish
from retentiond.ledger.past import read_freed
from retentiond.model.picture import Picture
from retentiond.model.report import Tally
from retentiond.targets.chat_database.account import look_at
from retentiond.targets.chat_database.place import KIND
from retentiond.targets.chat_database.state import read_status

if TYPE_CHECKING:
    from retentiond.targets.chat_database.place import Place


async def draw(place: Place) -> Picture:
    """Count the chats of all accounts, and tell why the last pass left what it left."""
    now = datetime.now(UTC)
    status = await read_status(place)
    last = status.last_pass or {}
    async with connected(place.settings.database) as connection:
        chats = 0
        for number, name in enumerate(place.config.accounts):
            wish = PurgeWish(name, now.date())
            purge = await look_at(place, connection, wish, number, dry_run=True, now=now)
            chats += await purge.chats.count_all()
        freed = await read_freed(connection, place.name) if status.ledger else ()
    kept = last.get("kept", {}).get("by_reason", {})
    return Picture(place.name, KIND, now, Tally(chats, 0), freed=freed, kept=kept)
