"""Orphans of a chat database: rows that name a chat which the database does not have, and rows that name no chat."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from retentiond.model.errors import Refusal

OrphanReason = Literal["no_account", "undated", "newer", "hold", "has_file_messages"]
"""The reason why a requested orphan is kept, the first that applies."""
ORPHAN_REASONS: Final[dict[OrphanReason, str]] = {
    "no_account": "only the missing chat names the account, or its rows name several accounts",
    "undated": "no row of the missing chat has a believable date",
    "newer": "a row of the missing chat is not older than the date",
    "hold": "a hold is on the chat, or on the account, a visitor or days",
    "has_file_messages": "messages with files",
}


@dataclass(slots=True)
class Orphans:
    """Rows by entity: found, and of them those that a purge with this date takes; `kept` are rows by reason.

    `chats` are the missing chats of which rows would go.
    """

    chats: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    due: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class OrphanReport:
    """The orphans found before a purge of them, the removed rows, and the orphans left after it.

    Without `requested`, no row is removed, and `found` are the orphans after the purge of the chats.
    """

    requested: bool = False
    found: Orphans | None = None
    removed: Counter[str] = field(default_factory=Counter)
    left: Orphans | None = None
    refused: Refusal | None = None

    @property
    def chats_due(self) -> int:
        """The missing chats of which rows would go."""
        return self.found.chats if self.found is not None else 0

    def remarks(self) -> list[str]:
        """Return sentences: the number of orphans, the reasons for kept ones, and the command to purge them."""
        found = self.found or Orphans()
        sentences: list[str] = []
        if found.rows:
            sentences.append(
                f"{_rows(found.rows.total())}, whose chat is missing from the database, or which do not name a chat; "
                f"{found.due.total():,} of them are older than the date"
            )
        sentences += [
            f"{_rows(found.kept[reason])} kept, {reason}: {words}"
            for reason, words in ORPHAN_REASONS.items()
            if found.kept[reason]
        ]
        if self.left is not None:
            sentences.append(f"{_rows(self.left.rows.total())} left after the purge")
        if self.refused is not None:
            sentences.append(f"orphans refused by {self.refused.limit}: {self.refused.hint}")
        if found.due and not self.requested:
            sentences.append(
                "orphans are kept; `--purge-orphans`, by schedule `purge_orphans: true`, deletes the older ones"
            )
        return sentences

    def as_json(self) -> dict[str, Any] | None:
        """Return it in the interface's words; None without a request and without orphans."""
        if not self.requested and (self.found is None or not self.found.rows):
            return None
        document: dict[str, Any] = {"purge": self.requested}
        if self.found is not None:
            document["found"] = dict(self.found.rows)
            document["due"] = dict(self.found.due)
            document["kept"] = dict(sorted(self.found.kept.items()))
        if self.requested:
            document["removed"] = dict(self.removed)
        if self.left is not None:
            document["left"] = dict(self.left.rows)
        if self.refused is not None:
            document["refused"] = asdict(self.refused)
        return document


def _rows(count: int) -> str:
    return f"{count:,} orphan row" + ("" if count == 1 else "s")
