"""A chat purge by hand: what is asked for, and who can do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from datetime import date

    from retentiond.engine.target import Order
    from retentiond.model.purge import PurgeReport


@dataclass(frozen=True, slots=True)
class PurgeWish:
    """Purge an account's chats up to a date, not including it; `stores` are those beside the database."""

    account: str
    to_date: date
    file_messages: bool = False
    stats: bool = False
    stores: tuple[str, ...] = ()


@runtime_checkable
class PurgesChats(Protocol):
    """A target that can purge an account's chats."""

    async def purge_chats(self, wish: PurgeWish, order: Order, *, dry_run: bool) -> PurgeReport:
        """Do it, or say what would go; refusals and interruptions are in the report."""
