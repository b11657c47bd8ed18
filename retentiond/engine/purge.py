"""A request to purge chats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True, slots=True)
class Erasure:
    """A request to erase the chats of one visitor of an account, in the database and in every secondary store.

    With `even_under_floor` their age does not matter; then `reason` is given. `name` is that of a request in a file,
    which is carried out once.
    """

    account: str
    visitor: str = field(repr=False)
    even_under_floor: bool = False
    reason: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """Purge an account's chats up to a date, not including it; `stores` are the secondary stores.

    `orphans`: rows whose chat is missing, too.
    With an `erasure` only the chats of its visitor are deleted.
    """

    account: str
    to_date: date
    file_messages: bool = False
    stats: bool = False
    stores: tuple[str, ...] = ()
    orphans: bool = False
    erasure: Erasure | None = None
