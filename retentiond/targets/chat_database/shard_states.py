"""The state of a store by shard and replica while a purge runs: to `status`, to the log, and to the progress bar."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from retentiond.adapters.logging import get_logger
from retentiond.model.purge import shards_as_json, shards_in_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from retentiond.engine.target import Progress
    from retentiond.model.purge import ShardReport, ShardState
    from retentiond.targets.chat_database.store import StoreName


@dataclass(slots=True)
class ShardStates:
    """Publishes the shards of one store; without `write` (a dry run) nothing is written to the ledger.

    The log gets an event where a shard or a replica changes its state, not for each look.
    """

    target: str
    account: str
    store: StoreName
    progress: Progress
    write: Callable[[Mapping[str, Any]], Awaitable[None]] | None
    _states: list[tuple[str, ShardState]] = field(default_factory=list)

    async def report(self, shards: Sequence[ShardReport]) -> None:
        """Publish the state of all shards, in place of what was published before."""
        if not shards:
            return
        self.progress.note(shards_in_words(shards))
        if self.write is None:
            return
        told = shards_as_json(shards)
        await self.write(told)
        states = [(shard.name, shard.state) for shard in shards]
        states += [(replica.name, replica.state) for shard in shards for replica in shard.replicas]
        if states != self._states:
            self._states = states
            log = get_logger(target=self.target, account=self.account, store=self.store)
            log.info("store_progress", summary=shards_in_words(shards), **told)
