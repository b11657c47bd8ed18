"""How work ended: the states of a pass, a purge or a store, and the exit status that each asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

PassState = Literal["planned", "finished", "finished_with_failures", "refused", "interrupted"]

FailureKind = Literal[
    "not_movable", "not_moved", "database_refused", "in_the_way", "miscount", "request_refused"
]
"""Why an item of a pass failed: the disk (the first two), or a database of chats."""

FAILED: Final = 1
"""The exit status of work that reached its end with some failed items."""
EXIT_STATUSES: Final[dict[PassState, int]] = {
    "planned": 0,
    "finished": 0,
    "finished_with_failures": FAILED,
    "refused": 3,
    "interrupted": 4,
}
_WORST_FIRST: Final = (2, 4, 3, 5, 1)


def worst(statuses: Iterable[int]) -> int:
    """Return the exit status of several: the worst, in the interface's order, after wrong usage."""
    found = set(statuses)
    return next((status for status in _WORST_FIRST if status in found), 0)
