"""How many of the rows are known to be gone: the server tells it nowhere, so it is counted along."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retentiond.targets.chat_database.store import Gone

if TYPE_CHECKING:
    from retentiond.engine.target import Progress


@dataclass(slots=True)
class Tally:
    """`left` are the rows that are there as far as is known, `gone` those that surely are not any more."""

    progress: Progress
    left: int = 0
    gone: Gone = field(default_factory=Gone)

    def expect(self, rows: int) -> None:
        """Begin with other rows."""
        self.left = rows

    def went(self, rows: int) -> None:
        """Take note of rows that were counted, and then surely taken."""
        self.gone.rows += rows
        self.left = max(self.left - rows, 0)
        self.progress.advance(rows)

    def counted(self, rows: int) -> None:
        """Take a new count: what is missing in it has gone. What came in meanwhile takes nothing from that."""
        self.went(max(self.left - rows, 0))
        self.left = rows

    def counted_after_break(self, rows: int, most: int) -> None:
        """Take a count of what a step left that nobody followed to its end; it took `most` rows at the most.

        What went and what came in meanwhile cannot be told apart, unless nothing is missing or all of it.
        """
        missing = min(max(self.left - rows, 0), most)
        self.gone.at_least |= 0 < missing < most
        self.went(missing)
