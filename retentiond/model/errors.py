"""Every error that a user may meet: one base, one exit status a class, one message that says what to do next.

The exit statuses are part of the interface (docs/commands.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NewType, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

PassLimit = Literal[
    "access_log_unreadable",
    "another_device",
    "another_store",
    "clock_behind",
    "clock_difference",
    "clock_leapt",
    "date_rule",
    "empty_media_directory",
    "empty_table",
    "floor",
    "folded_names",
    "foreign_users",
    "hold",
    "hold_unreadable",
    "layout",
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
    "rows_taken_along",
    "standby",
    "transaction_pooler",
    "unknown_columns",
    "unreachable",
]
"""The limits that refuse a pass."""
StoreLimit = NewType("StoreLimit", str)
"""A limit that refuses one store beside a database of chats, and lets the pass go on."""
PASS_LIMITS: Final[tuple[PassLimit, ...]] = get_args(PassLimit)


class RetentiondError(Exception):
    """What ends a command in an orderly way; its text is for the user, and ends with what to do next."""

    exit_status: ClassVar[int] = 1


class UsageError(RetentiondError):
    """A command line, a configuration or an argument that cannot be right."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a safety limit stopped a pass: which limit, what was found, what is allowed, and the way on."""

    limit: PassLimit | StoreLimit
    value: str | int | float | None
    allowed: str | int | float | None
    hint: str

    @property
    def found(self) -> str:
        """Say which limit it was, what was found, and what is allowed where that can be said."""
        allowed = "" if self.allowed is None else f", allowed {_shown(self.allowed)}"
        return f"{self.limit}: found {_shown(self.value)}{allowed}"

    def __str__(self) -> str:
        return f"refused by {self.found}; {self.hint}"


def _shown(value: str | int | float | None) -> str:  # noqa: PYI041 - mypy takes the float alone for no int
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class RefusedError(RetentiondError):
    """A safety limit holds the work back; nothing was changed."""

    exit_status = 3

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class UnreachableError(RetentiondError):
    """A database or a path cannot be reached or used, or was lost on the way."""

    exit_status = 4


class MissingRightError(UnreachableError):
    """The role lacks rights in a database; the message ends with the statements that grant them."""

    def __init__(self, told: str, statements: Sequence[str] = ()) -> None:
        super().__init__(" ".join([told, *statements]))
        self.told = told
        self.statements = tuple(statements)


class LeaseLostError(UnreachableError):
    """The connection that holds our lock is gone, or another has taken the lease: no further effect is ours."""


class BusyError(RetentiondError):
    """Another retentiond is at work on this store."""

    exit_status = 5
