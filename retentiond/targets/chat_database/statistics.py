"""Draws the picture of the chats for the report. Like a plan, it changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retentiond.adapters.postgres import connection_to
from retentiond.engine.target import PurgeRequest
from retentiond.ledger.past import read_freed
from retentiond.model.report import Tally
from retentiond.model.statistics import StoreStatistics
from retentiond.targets.chat_database.account import look_at
from retentiond.targets.chat_database.context import KIND
from retentiond.targets.chat_database.state import read_status

if TYPE_CHECKING:
    from retentiond.targets.chat_database.context import ChatContext


async def draw(context: ChatContext) -> StoreStatistics:
    """Count the chats of all accounts, and tell why the last pass left what it left."""
    now = datetime.now(UTC)
    status = await read_status(context)
    last = status.last_pass or {}
    async with connection_to(context.settings.database) as connection:
        chats = 0
        for number, name in enumerate(context.config.accounts):
            wish = PurgeRequest(name, now.date())
            purge = await look_at(context, connection, wish, number, dry_run=True, now=now)
            chats += await purge.chats.count_all()
        freed = await read_freed(connection, context.name) if status.ledger else ()
    kept = last.get("kept", {}).get("by_reason", {})
    return StoreStatistics(context.name, KIND, now, Tally(chats, 0), freed=freed, kept=kept)
