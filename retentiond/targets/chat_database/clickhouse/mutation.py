"""The state of a mutation, and of a purge by shard and replica of a cluster; without I/O."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from retentiond.model.purge import ReplicaReport, ShardReport, worst_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from retentiond.model.purge import ShardState
    from retentiond.targets.chat_database.clickhouse.servers import Node


MutationState = Literal["absent", "running", "done", "failing", "blocked"]
"""`absent`: no server has it (any more). `blocked`: it waits for an older mutation that fails."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A row of `system.mutations` that is not done, or has the mark (`ours`)."""

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
    """The state of our mutation; `reason` comes from the server, `progress` changes while work is done."""

    state: MutationState
    progress: str = ""
    reason: str = ""


def mark_of(account: str, cutoff: datetime, step: str) -> str:
    """Return the mark by which a step of a purge is found again; each process computes the same one."""
    step_key = f"{account}\0{cutoff.isoformat()}\0{step}".encode()
    return f"retentiond:{hashlib.sha256(step_key).hexdigest()[:32]}"


def look_at(mutations: Sequence[Mutation], merging: str, expected: AbstractSet[int] = frozenset({1})) -> Look:
    """Return the state of our mutation among those of the table, the oldest first; `merging` is the progress of rewriting.

    It is done only if it is done on each of the `expected` servers: one may not have received it yet.
    """
    ours = [mutation for mutation in mutations if mutation.ours]
    pending = [mutation for mutation in ours if not mutation.done]
    if not pending:
        return Look("done" if ours and expected <= {mutation.node for mutation in ours} else "absent")
    progress = f"{sum(mutation.parts_to_do for mutation in pending)} {merging}"
    reason = next((mutation.reason for mutation in pending if mutation.reason), "")
    # The server writes the reason of a failing mutation into all mutations that wait for it.
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


@dataclass(slots=True)
class ShardTally:
    """Counts by server. `shard_of` has the shard of each server's number; servers of one shard have copies of the same rows.

    `away` are the servers that do not answer or accept no writes, with the reason. `missed` are the servers that were away
    at some time since `begin`: their rows are unknown.
    """

    nodes: Sequence[Node]
    shard_of: Mapping[int, str]
    away: dict[int, str] = field(default_factory=dict)
    missed: dict[int, str] = field(default_factory=dict)
    _left: dict[int, int] = field(default_factory=dict)
    _deleted: Counter[str] = field(default_factory=Counter)
    _mutating: dict[int, ShardState] = field(default_factory=dict)
    _reasons: dict[int, str] = field(default_factory=dict)
    _over: bool = False

    @property
    def present(self) -> set[int]:
        """The servers that answer and accept writes."""
        return {node.number for node in self.nodes} - self.away.keys()

    def begin(self) -> None:
        """Begin a round: servers that are away from now on count as missed."""
        self.missed = dict(self.away)

    def note_away(self, away: Mapping[int, str]) -> None:
        """Replace the servers that are away."""
        self.away = dict(away)
        self.missed |= self.away

    def dead_shards(self) -> list[str]:
        """Return the shards without a present server."""
        alive = {self.shard_of[number] for number in self.present}
        return sorted(set(self.shard_of.values()) - alive)

    def expect(self) -> None:
        """Forget the last count: the next one is of other rows."""
        self._left = {}
        self._mutating = {}
        self._reasons = {}

    def count(self, left: Mapping[int, int]) -> int:
        """Return the number of rows in all shards, from the rows of each present server."""
        return sum(self._by_shard({number: left.get(number, 0) for number in self.present}).values())

    def counted(self, left: Mapping[int, int]) -> int:
        """Note the rows of each present server; return the number of rows in all shards.

        The rows of a shard are those of its replica with the most.
        """
        before = self._by_shard(self._left)
        self._left = {number: left.get(number, 0) for number in self.present}
        now = self._by_shard(self._left)
        for shard, rows in now.items():
            self._deleted[shard] += max(before.get(shard, rows) - rows, 0)
        return sum(now.values())

    def looked(self, mutations: Iterable[Mutation]) -> None:
        """Record the state of our mutation on each server."""
        ours = [mutation for mutation in mutations if mutation.ours]
        self._mutating = {}
        self._reasons = {mutation.node: mutation.reason for mutation in ours if mutation.reason}
        for mutation in ours:
            state: ShardState = "running" if not mutation.done else "finished"
            if mutation.reason and not mutation.done:
                state = "failed"
            self._mutating[mutation.node] = worst_state(
                [state, self._mutating.get(mutation.node, "finished")]
            )

    def finish(self) -> None:
        """Note that the present servers are finished."""
        self._over = True

    def reports(self) -> tuple[ShardReport, ...]:
        """Return the state by shard and replica."""
        reports = []
        left = self._by_shard(self._left)
        for shard in dict.fromkeys(self.shard_of[node.number] for node in self.nodes):
            replicas = tuple(
                self._replica(node) for node in self.nodes if self.shard_of[node.number] == shard
            )
            state = worst_state([replica.state for replica in replicas])
            reports.append(ShardReport(shard, state, self._deleted[shard], left.get(shard), None, replicas))
        return tuple(reports)

    def _replica(self, node: Node) -> ReplicaReport:
        number = node.number
        if number in self.away:
            return ReplicaReport(node.name, "unreachable", None, self.away[number])
        left = self._left.get(number)
        if self._over:
            return ReplicaReport(node.name, "finished", left)
        state: ShardState = self._mutating.get(number, "pending")
        if state == "finished" and left:
            # The mutation of one partition is done; there are more.
            state = "running"
        if state == "pending" and left == 0:
            state = "finished"
        return ReplicaReport(node.name, state, left, self._reasons.get(number))

    def _by_shard(self, left: Mapping[int, int]) -> dict[str, int]:
        most: dict[str, int] = {}
        for number, rows in left.items():
            shard = self.shard_of[number]
            most[shard] = max(most.get(shard, 0), rows)
        return most
