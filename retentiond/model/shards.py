"""The progress of a purge in each shard of a secondary store, and in each replica of a shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

ShardState = Literal["pending", "running", "finished", "failed", "unreachable"]
"""`pending`: not begun. `unreachable`: it does not answer, or takes no writes now."""
MOST_SHARDS: Final = 200
"""The most shards that a document lists; those that are not finished come first, and the rest is counted."""
_ORDER: Final[tuple[ShardState, ...]] = ("failed", "unreachable", "running", "pending", "finished")


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """One copy of a shard: `left` are the rows to be deleted that it still has, None where that is unknown."""

    name: str
    state: ShardState
    left: int | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the replica as JSON; unknown values are left out."""
        told = {"name": self.name, "state": self.state, "left": self.left, "error": self.error}
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ShardReport:
    """One shard: `rows` are deleted (not more than once for several replicas), `left` are still there; None is unknown."""

    name: str
    state: ShardState
    rows: int | None = None
    left: int | None = None
    error: str | None = None
    replicas: tuple[ReplicaReport, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the shard as JSON; unknown values are left out."""
        told = {
            "name": self.name,
            "state": self.state,
            "rows": self.rows,
            "left": self.left,
            "error": self.error,
            "replicas": [replica.as_json() for replica in self.replicas] or None,
        }
        return {name: value for name, value in told.items() if value is not None}


def worst_state(states: Sequence[ShardState]) -> ShardState:
    """Return the state of a whole: that of its part which needs most attention; `finished` where there is no part."""
    return min(states, key=_ORDER.index, default="finished")


def shards_as_json(shards: Sequence[ShardReport]) -> dict[str, Any]:
    """Return the keys `shards` and `more_shards` of a document; empty for a store that reports no shards."""
    if not shards:
        return {}
    listed = sorted(shards, key=lambda shard: _ORDER.index(shard.state))[:MOST_SHARDS]
    in_order = shards if len(shards) <= MOST_SHARDS else listed
    told: dict[str, Any] = {"shards": [shard.as_json() for shard in in_order]}
    if len(shards) > MOST_SHARDS:
        told["more_shards"] = len(shards) - MOST_SHARDS
    return told


def shards_in_words(shards: Sequence[ShardReport]) -> str:
    """Summarize the shards in a line, such as `2 of 3 shards finished, 1 unreachable; 40 rows left`."""
    counts = {state: sum(shard.state == state for shard in shards) for state in reversed(_ORDER)}
    others = [f"{number} {state}" for state, number in counts.items() if number and state != "finished"]
    told = ", ".join([f"{counts['finished']} of {len(shards)} shards finished", *others])
    left = [shard.left for shard in shards if shard.left]
    return f"{told}; {sum(left):,} rows left" if left else told
