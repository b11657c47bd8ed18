"""The number of chats in a batch: each batch costs a commit and some twenty statements, however few its rows are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from retentiond.config.chats import ChatPace

MOST_TIMES: Final = 4
"""The largest batch as a multiple of the configured number, if that is the default."""
QUICK: Final = 0.25
SLOW: Final = 1.0
"""Seconds of a transaction below which the next batch is larger, and above which it is smaller."""
_SHARE_OF_A_SECOND: Final = 4


class BatchSize:
    """Doubles while batches are quick and far below the rows allowed in a second; a configured number does not change."""

    def __init__(self, pace: ChatPace) -> None:
        configured = "batch" in pace.model_fields_set
        self.chats = self._least = pace.batch
        self._most = pace.batch * (1 if configured else MOST_TIMES)
        self._most_rows = pace.max_rows_per_second // _SHARE_OF_A_SECOND
        # A configured number is the load that the server can bear.
        self._rate = 0 if configured else pace.max_rows_per_second
        self.two_at_once = False
        """Whether consecutive batches delete fewer rows than are allowed in a second."""

    def learn(self, chats: int, rows: int, seconds: float) -> None:
        """Choose the next size after a batch and its seconds; a batch of another size is ignored."""
        if chats != self.chats:
            return
        self.two_at_once = rows < self._rate * seconds
        if seconds > SLOW or rows > self._most_rows:
            self.chats = max(self.chats // 2, self._least)
        elif seconds < QUICK and 2 * rows <= self._most_rows:
            self.chats = min(2 * self.chats, self._most)
