"""How a mutation of ours stands, from what the server says of the table's mutations. Nothing in here does I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

TargetState = Literal["absent", "running", "done", "failing", "blocked"]
"""`absent`: nobody knows it (any more). `blocked`: another, older one fails, and ours waits behind it."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A row of `system.mutations` that is ours, or is not done."""

    mutation_id: str
    ours: bool
    done: bool
    parts_to_do: int
    reason: str
    postponed: str
    created: str
    node: int = 1
    """The number of the server in its cluster."""


@dataclass(frozen=True, slots=True)
class Look:
    """How ours stands; `reason` is the server's, `progress` differs from look to look while anything is done."""

    standing: TargetState
    progress: str = ""
    reason: str = ""


def mark_of(account: str, cutoff: datetime, step: str) -> str:
    """Return the mark by which a step of a purge is found again: the same for the same step, whoever begins it."""
    told = f"{account}\0{cutoff.isoformat()}\0{step}".encode()
    return f"retentiond:{hashlib.sha256(told).hexdigest()[:32]}"


def look_at(mutations: Sequence[Mutation], merging: str, expected: AbstractSet[int] = frozenset({1})) -> Look:
    """Tell how ours stands among the table's, the oldest first; `merging` is how far parts are rewritten.

    It is done where it is on each of the `expected` servers: one may not have heard of it yet.
    """
    ours = [mutation for mutation in mutations if mutation.ours]
    pending = [mutation for mutation in ours if not mutation.done]
    if not pending:
        return Look("done" if ours and expected <= {mutation.node for mutation in ours} else "absent")
    progress = f"{sum(mutation.parts_to_do for mutation in pending)} {merging}"
    reason = next((mutation.reason for mutation in pending if mutation.reason), "")
    # The server writes the reason of the one that fails into all that wait behind it.
    older = [m for m in mutations if not m.ours and not m.done and m.created <= pending[0].created]
    blocking = next((mutation for mutation in older if mutation.reason), None)
    if blocking is not None:
        return Look(
            "blocked", progress, f"{blocking.mutation_id}, which is not ours, fails: {blocking.reason}"
        )
    if reason:
        return Look("failing", progress, reason)
    return Look(
        "running", progress, next((m.postponed for m in pending if m.postponed not in {"", "{}"}), "")
    )
