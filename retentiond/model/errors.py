"""Every error and state that a user may see: each with one exit status, each error with a message and the next step.

The exit statuses are part of the interface (docs/commands.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NewType, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PassLimit = Literal[
    "access_log_unreadable",
    "another_dendrite",
    "another_device",
    "another_store",
    "clock_behind",
    "clock_difference",
    "clock_leapt",
    "date_rule",
    "dendrite_trouble",
    "empty_media_directory",
    "empty_table",
    "first_pass",
    "floor",
    "folded_names",
    "foreign_users",
    "hold",
    "hold_too_late",
    "hold_unreadable",
    "layout",
    "max_database_share",
    "max_events_share",
    "max_items",
    "max_missing_files",
    "max_share",
    "missing_index",
    "no_access_times",
    "no_chat_ids",
    "pooler_settings",
    "protection_unreadable",
    "quarantine_not_a_directory",
    "request_unreadable",
    "restored_database",
    "room_not_evacuated",
    "room_not_quiet",
    "rows_taken_along",
    "standby",
    "sync_behind",
    "transaction_pooler",
    "unknown_columns",
    "unreachable",
]
"""The limits that refuse a pass."""
StoreLimit = NewType("StoreLimit", str)
"""A limit that refuses one secondary store of chats, and lets the pass continue."""
PASS_LIMITS: Final[tuple[PassLimit, ...]] = get_args(PassLimit)


class RetentiondError(Exception):
    """An error that ends a command in order; its text is for the user, and ends with the next step."""

    exit_status: ClassVar[int] = 1


class UsageError(RetentiondError):
    """A command line, a configuration or an argument that cannot be right."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Refusal:
    """The refusal of a safety limit: the limit, the value found, the value allowed, and the next step."""

    limit: PassLimit | StoreLimit
    value: str | int | float | None
    allowed: str | int | float | None
    hint: str

    @property
    def found(self) -> str:
        """Describe the limit, the value found, and the value allowed if there is one."""
        allowed = "" if self.allowed is None else f" (allowed: {_shown(self.allowed)})"
        return f"{self.limit}: {_shown(self.value)}{allowed}"

    def __str__(self) -> str:
        return f"refused by {self.found}; {self.hint}"


def _shown(value: str | int | float | None) -> str:  # noqa: PYI041 - mypy takes the float alone for no int
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class RefusedError(RetentiondError):
    """A safety limit refuses the work; no data were changed."""

    exit_status = 3

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class UnreachableError(RetentiondError):
    """A database or a path cannot be reached or used, or was lost on the way."""

    exit_status = 4


class MissingRightError(UnreachableError):
    """The role lacks rights in a database; the message ends with the statements that grant them."""

    def __init__(self, summary: str, statements: Sequence[str] = ()) -> None:
        super().__init__(" ".join([summary, *statements]))
        self.summary = summary
        self.statements = tuple(statements)


class LeaseLostError(UnreachableError):
    """The connection that holds our lock is gone, or another has taken the lease: no further effect is ours."""


class BusyError(RetentiondError):
    """Another retentiond is working on this store."""

    exit_status = 5


PassState = Literal["planned", "finished", "finished_with_failures", "refused", "interrupted"]

FailureKind = Literal[
    "not_movable",
    "not_moved",
    "database_refused",
    "in_the_way",
    "miscount",
    "request_refused",
    "room_not_purged",
]
"""Why an item of a pass failed: the disk (the first two), a database of chats, or dendrite (the last)."""

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
