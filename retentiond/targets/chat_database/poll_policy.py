"""How long a purge waits for a store beside the database, which itself never gives up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIRST: Final = 0.1
GRACE: Final = 5.0
"""Seconds for an answer that is awaited when somebody asks to stop; a server that went silent has none."""


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """Seconds from look to look, for what does not get on at all, and for a server to come back that went away.

    `recovery` is for a cluster that lost a server: it makes replicas its primaries, or elects a leader.
    """

    between: float = 2.0
    stalled: float = 1800.0
    back: float = 60.0
    recovery: float = 180.0
    clock: Callable[[], float] = time.monotonic

    def pauses(self) -> Iterator[float]:
        """Yield the seconds before each next look: short at first, since most is soon done."""
        pause = _FIRST
        while True:
            yield min(pause, self.between)
            pause = min(2 * pause, self.between)
