"""The state of an index by shard and copy, while a purge runs and at its end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from retentiond.engine.target import StoppedError
from retentiond.model.errors import UnreachableError
from retentiond.model.purge import ReplicaReport, ShardReport, ShardState
from retentiond.targets.chat_database.search.client import ServerError
from retentiond.targets.chat_database.search.index import paths_of
from retentiond.targets.chat_database.search.portions import both, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retentiond.targets.chat_database.search.index import Index
    from retentiond.targets.chat_database.search.indices import Inventory
    from retentiond.targets.chat_database.search.portions import Query
    from retentiond.targets.chat_database.store import StorePurge
    from retentiond.targets.chat_database.store_access import PollPolicy

_EVERY: Final = 10.0
"""Seconds between two reports: each takes several requests."""
_MOST_NUMBERS: Final = 32
"""The most shards of an index that are counted one by one."""
_COLUMNS: Final = "index,shard,prirep,state,node,unassigned.reason"
_SERVING: Final = frozenset({"STARTED", "RELOCATING"})

Shard = tuple[str, int]
"""An index and the number of one of its shards."""


class ShardWatch:
    """Reports the shards of a purge; an error of the report does not stop the purge."""

    def __init__(self, index: Index, purge: StorePurge, patience: PollPolicy) -> None:
        self._index = index
        self._purge = purge
        self._patience = patience
        self._reported: float | None = None

    async def report(self, inventory: Inventory, query: Query) -> None:
        """Publish the remaining documents of the query by shard, at most every few seconds."""
        now = self._patience.clock()
        if self._reported is not None and now - self._reported < _EVERY:
            return
        self._reported = now
        try:
            copies = await self._copies(inventory.searched)
            left = await self._left(query, copies)
        except (ServerError, UnreachableError):
            return
        await self._purge.report_shards([*_shards(inventory, copies, left, {}, under_way=True)])

    async def at_the_end(
        self, inventory: Inventory, query: Query | None, kept_back: Mapping[str, int]
    ) -> tuple[ShardReport, ...]:
        """Return the last state; without a query nothing is left in the writable indices."""
        try:
            copies = await self._copies(inventory.searched)
        except (ServerError, UnreachableError, StoppedError):
            return ()
        left: Mapping[Shard, int] | None = {}
        if query:
            try:
                left = await self._left(both(query, within(inventory.writable)), copies)
            except (ServerError, UnreachableError, StoppedError):
                left = None
        return tuple(_shards(inventory, copies, left, kept_back, under_way=False))

    async def _copies(self, names: Sequence[str]) -> dict[Shard, list[Mapping[str, Any]]]:
        """Return the copies of each shard."""
        found: dict[Shard, list[Mapping[str, Any]]] = {}
        for path in paths_of(names):
            listed = await self._index.search.ask("GET", f"/_cat/shards/{path}", format="json", h=_COLUMNS)
            for copy in listed:
                found.setdefault((copy["index"], int(copy["shard"])), []).append(copy)
        return dict(sorted(found.items()))

    async def _left(
        self, query: Query, copies: Mapping[Shard, Sequence[Mapping[str, Any]]]
    ) -> Mapping[Shard, int] | None:
        """Count documents by shard; None if there are too many shards."""
        numbers = sorted({number for _, number in copies})
        if len(numbers) > _MOST_NUMBERS:
            return None
        left: Counter[Shard] = Counter()
        for number in numbers:
            for name, documents in (await self._index.by_index(query, number)).items():
                left[name, number] = documents
        return left


def _shards(
    inventory: Inventory,
    copies: Mapping[Shard, Sequence[Mapping[str, Any]]],
    left: Mapping[Shard, int] | None,
    kept_back: Mapping[str, int],
    *,
    under_way: bool,
) -> Iterator[ShardReport]:
    for (name, number), several in copies.items():
        rest = None if left is None else left.get((name, number), 0)
        error = None
        state: ShardState = "finished" if rest == 0 else "running" if under_way else "pending"
        if not any(copy["prirep"] == "p" and copy["state"] in _SERVING for copy in several):
            state, rest, error = "unreachable", None, "no primary copy"
        elif name in inventory.readable:
            # The documents are only counted by index.
            rest = None
            state = "failed" if kept_back.get(name) else state
            error = f"nothing can be deleted: {inventory.readable[name]}" if kept_back.get(name) else None
        yield ShardReport(
            f"{name}[{number}]",
            state,
            left=rest,
            error=error,
            replicas=tuple(_copy(copy, state) for copy in several),
        )


def _copy(copy: Mapping[str, Any], state: ShardState) -> ReplicaReport:
    kind = "primary" if copy["prirep"] == "p" else "replica"
    if copy["state"] in _SERVING:
        # While a copy moves, both nodes are named.
        node = str(copy["node"]).partition(" ")[0]
        return ReplicaReport(f"{kind} on {node}", "running" if state == "unreachable" else state)
    if copy["state"] == "INITIALIZING":
        return ReplicaReport(f"{kind} on {copy['node']}", "pending")
    why = copy.get("unassigned.reason")
    return ReplicaReport(kind, "unreachable", error=f"unassigned ({why})" if why else "unassigned")
