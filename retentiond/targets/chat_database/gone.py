"""What went from a store and is in no record yet: kept in the store's notes, so that no death loses it.

The notes are written before each step and after it. Whoever adds the record of a store's purge takes these rows out of the
notes in the same transaction (`settle_store_notes`): each row is in one record, whoever died on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class Gone:
    """Rows that are known to have gone; `at_least`: a break hides whether there were more."""

    rows: int = 0
    at_least: bool = False

    @classmethod
    def noted(cls, notes: Mapping[str, Any]) -> Gone:
        """Return what an earlier purge left in the notes."""
        return cls(int(notes.get("gone", 0)), bool(notes.get("at_least", False)))

    def as_notes(self, **step: Any) -> dict[str, Any]:
        """Return what the notes keep; `step` is what is about to be sent, or is under way."""
        told: dict[str, Any] = dict(step)
        if self.rows:
            told["gone"] = self.rows
        if self.at_least:
            told["at_least"] = True
        return told
