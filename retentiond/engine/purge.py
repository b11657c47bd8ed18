"""A request to purge chats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True, slots=True)
class PurgeWish:
    """Purge an account's chats up to a date, not including it; `stores` are those beside the database.

    `orphans`: rows whose chat is missing, too.
    """

    account: str
    to_date: date
    file_messages: bool = False
    stats: bool = False
    stores: tuple[str, ...] = ()
    orphans: bool = False
