"""Whether a target can be reached: told once when that changes, and not at every try."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.daemon.board import Board
    from retentiond.daemon.clock import Clock
    from retentiond.model.errors import RetentiondError

_log = get_logger()


class Contact:
    """One target's connection, as far as the last try told."""

    def __init__(self, name: str, clock: Clock, board: Board) -> None:
        self._name = name
        self._clock = clock
        self._board = board
        self._since: datetime | None = None

    def lost(self, error: RetentiondError) -> None:
        """Note that the target could not be reached."""
        if self._since is None:
            self._since = self._clock.now()
            _log.error("target_unreachable", target=self._name, error=str(error))
            self._board.lost(self._name, self._since)

    def made(self) -> None:
        """Note that the target was reached."""
        if self._since is not None:
            _log.info("target_reached", target=self._name, unreachable_since=self._since)
            self._since = None
        self._board.found(self._name)
