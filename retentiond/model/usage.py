"""The use of a store's space, divided by a property of its items, and the daily samples of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from retentiond.model.report import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, datetime

UsageBy = Literal["server", "room", "user", "type", "age", "file", "account", "month", "department"]
"""A division of a store; a target names those that it has (engine/capabilities.py)."""
DIVISIONS: Final[tuple[UsageBy, ...]] = get_args(UsageBy)

AGES: Final[Mapping[int, str]] = {
    7: "up to a week",
    30: "up to a month",
    90: "up to three months",
    365: "up to a year",
}
"""The keys of the division by age, by their days, ascending."""
OLDER: Final = "older than that"

OTHERS: Final = "(others)"
"""The key of the items beyond the largest keys."""
NOT_KNOWN: Final = "(not known)"
"""The key of the items whose property is not known."""
SEVERAL_ROOMS: Final = "(several rooms)"
"""The key of the media that several rooms refer to: each counts once."""

SEVERAL_USERS: Final = "(several users)"
"""The key of the media of other servers that several users sent: each counts once."""

DEFAULT_ROWS: Final = 20
"""The number of keys that a division names without a wish for another."""
MOST_ROWS: Final = 1000
"""The largest number of keys that a division names."""
LONGEST_KEY: Final = 255
"""The largest number of characters of a key; a longer one ends in its digest (SQL shortens it)."""
LARGEST: Final = 100
"""The keys of each division that a sample names, those with the most bytes."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The items with one key, and their bytes. The key may hold a stranger's text: see `key_of`."""

    key: str
    items: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the row of `usage --json`."""
        return {"key": self.key, "items": self.items, "bytes": self.bytes}


def key_of(text: str) -> str:
    r"""Return the key of a text from a database: a text that looks like a key of our own gets a backslash before it.

    `(others)` of a stranger is `\(others)`.
    """
    return f"\\{text}" if text.startswith(("(", "\\")) else text


def cut(rows: Iterable[UsageRow], top: int) -> list[UsageRow]:
    """Return the `top` largest of these rows, and the rest as one row: what a division by fewer keys would be."""
    rows = tuple(rows)
    total = Tally(sum(row.items for row in rows), sum(row.bytes for row in rows))
    named = [row for row in rows if row.key != OTHERS]
    # Ages and months are in an order of their own, which stays.
    largest = {row.key for row in sorted(named, key=lambda row: (-row.bytes, -row.items))[:top]}
    return with_rest([row for row in named if row.key in largest], total)


def usage_document(usage: Iterable[tuple[str, UsageBy, Sequence[UsageRow]]]) -> dict[str, Any]:
    """Return the document of `usage --json`: a target's division each."""
    return {
        "usage": [
            {"target": target, "by": by, "rows": [row.as_json() for row in rows]}
            for target, by, rows in usage
        ]
    }


def with_rest(largest: Iterable[UsageRow], total: Tally) -> list[UsageRow]:
    """Return the largest rows, and the rest of the total as the row OTHERS: the sums are those of the store."""
    rows: Sequence[UsageRow] = tuple(largest)
    items = total.items - sum(row.items for row in rows)
    size = total.bytes - sum(row.bytes for row in rows)
    return [*rows, UsageRow(OTHERS, items, max(size, 0))] if items > 0 or size > 0 else list(rows)


@dataclass(frozen=True, slots=True)
class Sample:
    """A target's store on one day, in UTC. Sizes are the bytes that leave the media tree, as the database records them.

    `classes` are the stored items by origin class, `local` and `remote`, for targets that have origins. `largest` are
    the largest keys of each division that the target samples (media: server, user, room; chats: account); a division that
    could not be read is missing. `free_bytes` is None for a target without a disk of its own. `taken`, `purged` and
    `restored` (items) are those since the sample before, zero in the first.
    """

    day: date
    at: datetime
    stored: Tally
    classes: Mapping[str, Tally] = field(default_factory=dict)
    largest: Mapping[UsageBy, tuple[UsageRow, ...]] = field(default_factory=dict)
    free_bytes: int | None = None
    database_bytes: int = 0
    taken: Tally = field(default_factory=Tally)
    purged: Tally = field(default_factory=Tally)
    restored: int = 0
