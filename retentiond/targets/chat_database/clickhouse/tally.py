"""How many of the rows are known to be gone: the server tells it nowhere, so it is counted along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retentiond.engine.target import Progress


@dataclass(slots=True)
class Tally:
    """`left` are the rows that are there as far as is known, `gone` those that surely are not any more."""

    progress: Progress
    left: int = 0
    gone: int = 0

    def expect(self, rows: int) -> None:
        """Begin with other rows."""
        self.left = rows

    def went(self, rows: int) -> None:
        """Take note of rows that were counted, and then surely taken."""
        self.gone += rows
        self.left = max(self.left - rows, 0)
        self.progress.advance(rows)

    def counted(self, rows: int) -> None:
        """Take a new count: what is missing in it has gone. What came in meanwhile takes nothing from that."""
        self.went(max(self.left - rows, 0))
        self.left = rows
