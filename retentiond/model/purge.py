"""What a chat purge did, or would do: rows by entity, chats that stay by reason, and each store beside the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import date

    from retentiond.model.errors import Refusal
    from retentiond.model.report import PassState


@dataclass(slots=True)
class StoreReport:
    """What became of a purge in one store. `rows` are those that went, or would go.

    `waiting` says, a sentence each, what is erased only later (old parts of a table, segments of an index).
    """

    state: PassState = "planned"
    rows: int = 0
    waiting: tuple[str, ...] = ()
    refused: Refusal | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the account in the interface's words; what there is nothing of is left out."""
        told: dict[str, Any] = {"state": self.state, "rows": self.rows}
        if self.waiting:
            told["waiting"] = list(self.waiting)
        if self.refused is not None:
            told["refused"] = asdict(self.refused)
        if self.error is not None:
            told["error"] = self.error
        return told


@dataclass(slots=True)
class PurgeReport:
    """The account of one account's purge; it grows while the purge goes on.

    `chats` are those that went as a whole, `all_chats` those that the account had; `entities` are rows.
    """

    account: str
    to_date: date
    dry_run: bool
    state: PassState = "planned"
    chats: int = 0
    all_chats: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    partitions_dropped: list[str] = field(default_factory=list)
    stores: dict[str, StoreReport] = field(default_factory=dict)
    refused: Refusal | None = None
    error: str | None = None
