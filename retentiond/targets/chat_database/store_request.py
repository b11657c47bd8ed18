"""The request to one store, the states of its shards, and the watch for holds while the store is purged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.model.errors import RetentiondError
from retentiond.model.purge import shards_as_json, shards_in_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from retentiond.engine.target import Progress, Stop
    from retentiond.model.purge import ShardReport, ShardState
    from retentiond.targets.chat_database.database_chats import DatabaseChats
    from retentiond.targets.chat_database.store import ChatStore, ErasedVisitor, StoreName
    from retentiond.targets.chat_database.store_notes import Notes

EVERY: Final = 5.0
"""Seconds from look to look: a mutation, or a task, may be at work for hours."""


@dataclass(frozen=True, slots=True)
class StorePurgeRequest:
    """The request to one store; without a number and a place in the ledger it is a dry run."""

    purge_id: int | None
    account: str
    cutoff: datetime
    chats: DatabaseChats
    kept: Notes | None
    stop: Stop
    shards: ShardStates
    erased: ErasedVisitor | None = None

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be changed."""
        return self.kept is None

    @property
    def notes(self) -> Notes:
        """The store's place in the ledger, which a dry run has none of."""
        if self.kept is None:
            raise AssertionError("a dry run was about to write something down, or to take a step")
        return self.kept

    async def begin_step(self, notes: Mapping[str, Any]) -> None:
        """Look at our lock and at the holds a last time, and write down what the step is found by."""
        await self.notes.begin_step(notes, self.chats.newest_hold)

    async def report_shards(self, shards: Sequence[ShardReport]) -> None:
        """Publish the state by shard and replica."""
        await self.shards.report(shards)


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


class HoldWatch:
    """Looks while it is entered; `late` is the hold that came, once what was sent was ended for it."""

    def __init__(
        self,
        notes: Notes,
        newest_hold: int,
        open_beside: Callable[[], AbstractAsyncContextManager[ChatStore]],
    ) -> None:
        self._notes = notes
        self._newest_hold = newest_hold
        # The store at work is busy with its own requests.
        self._open = open_beside
        self.late: int | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            # It ended by itself: it had done its work, or died of something that nobody foresaw.
            self._task.result()

    async def _look(self) -> None:
        complaint = ""
        while self.late is None:
            await asyncio.sleep(EVERY)
            try:
                late = await self._notes.late_hold(self._newest_hold)
                if late is not None:
                    async with self._open() as store:
                        await store.halt(await self._notes.read())
                    self.late = late
            except (*LOST, RetentiondError) as error:
                # The next step meets the hold, or the same loss; until then it is tried again.
                if str(error) != complaint:
                    complaint = str(error)
                    get_logger().warning("not_halted", error=complaint)
