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
"""Seconds between two checks for holds: a mutation or a task may run for hours."""


@dataclass(frozen=True, slots=True)
class StorePurgeRequest:
    """The request to one store; without a purge ID and notes in the ledger it is a dry run."""

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
        """The notes of the store in the ledger; not in a dry run."""
        if self.kept is None:
            raise AssertionError("a dry run was about to write something down, or to take a step")
        return self.kept

    async def begin_step(self, notes: Mapping[str, Any]) -> None:
        """Check the lease and the holds a last time, and record the step so that it can be found again."""
        await self.notes.begin_step(notes, self.chats.newest_hold)

    async def report_shards(self, shards: Sequence[ShardReport]) -> None:
        """Publish the state by shard and replica."""
        await self.shards.report(shards)


@dataclass(slots=True)
class ShardStates:
    """Publishes the shards of one store; without `write` (a dry run) nothing is written to the ledger.

    The log gets an event when a shard or a replica changes its state, not at each check.
    """

    target: str
    account: str
    store: StoreName
    progress: Progress
    write: Callable[[Mapping[str, Any]], Awaitable[None]] | None
    _states: list[tuple[str, ShardState]] = field(default_factory=list)

    async def report(self, shards: Sequence[ShardReport]) -> None:
        """Publish the state of all shards, replacing the last one."""
        if not shards:
            return
        self.progress.note(shards_in_words(shards))
        if self.write is None:
            return
        states_by_shard = shards_as_json(shards)
        await self.write(states_by_shard)
        states = [(shard.name, shard.state) for shard in shards]
        states += [(replica.name, replica.state) for shard in shards for replica in shard.replicas]
        if states != self._states:
            self._states = states
            log = get_logger(target=self.target, account=self.account, store=self.store)
            log.info("store_progress", summary=shards_in_words(shards), **states_by_shard)


class HoldWatch:
    """Checks for new holds while it is entered; `late` is a hold that was added meanwhile, once the running step was ended."""

    def __init__(
        self,
        notes: Notes,
        newest_hold: int,
        open_beside: Callable[[], AbstractAsyncContextManager[ChatStore]],
    ) -> None:
        self._notes = notes
        self._newest_hold = newest_hold
        # A connection of its own: the one of the purge is busy.
        self._open = open_beside
        self.late: int | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            # The task ended by itself: raise its error, if it has one.
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
                # Try again; the next step sees the hold, or the same error.
                if str(error) != complaint:
                    complaint = str(error)
                    get_logger().warning("not_halted", error=complaint)
