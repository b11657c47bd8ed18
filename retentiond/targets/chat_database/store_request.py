"""The request to one store, its place in the ledger, and the watch over holds while the store is purged."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.ledger.holds import lock_holds
from retentiond.model.errors import RefusedError, RetentiondError
from retentiond.model.purge import shards_as_json, shards_in_words
from retentiond.targets.chat_database import refusals
from retentiond.targets.chat_database.statements import HOLDS_SQL
from retentiond.targets.chat_database.throttle import SQL
from retentiond.targets.chat_database.visitor import SQL as ERASURE_SQL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from retentiond.adapters.postgres import Db
    from retentiond.engine.target import Progress, Stop
    from retentiond.ledger.lease import Lease
    from retentiond.model.purge import ShardReport, ShardState
    from retentiond.targets.chat_database.database_chats import DatabaseChats
    from retentiond.targets.chat_database.store import ChatStore, ErasedVisitor, StoreName

EVERY: Final = 5.0
"""Seconds from look to look: a mutation, or a task, may be at work for hours."""


class Notes:
    """A store's place in the ledger; each step in the store begins with a look from here."""

    def __init__(
        self,
        pool: Db,
        lease: Lease,
        target: str,
        names: list[str],
        store: StoreName,
        erasure_id: int | None = None,
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._names = names
        # The purge of an account and each request to erase a visitor are at different points of the same store.
        self.sql: Mapping[str, str] = SQL if erasure_id is None else ERASURE_SQL
        self.key = (target, names[0] if erasure_id is None else erasure_id, store)

    async def read(self) -> dict[str, Any]:
        """Return what was written last."""
        notes = await self._pool.fetchval(self.sql["store_notes"], *self.key)
        return dict(json.loads(notes)) if notes else {}

    async def write(self, notes: Mapping[str, Any]) -> None:
        """Write in place of what was there."""
        await self._pool.execute(self.sql["write_store_notes"], *self.key, json.dumps(dict(notes)))

    async def write_shards(self, shards: Mapping[str, Any]) -> None:
        """Write the state of all shards, for `status`."""
        await self._pool.execute(self.sql["report_shards"], *self.key, json.dumps(dict(shards)))

    async def begin_step(self, notes: Mapping[str, Any], newest_hold: int) -> None:
        """Write what a step will be found by; raise RefusedError where a hold is newer than the newest that is known."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._lease.check(connection)
            # A hold that is put on meanwhile waits, and then hears that this step is under way.
            await lock_holds(connection)
            late = await connection.fetchval(HOLDS_SQL["put_on_since"], self._names, newest_hold)
            if late is not None:
                raise RefusedError(refusals.late(late))
            await connection.execute(
                self.sql["begin_store_step"], *self.key, json.dumps(dict(notes)), newest_hold
            )

    async def late_hold(self, newest_hold: int) -> int | None:
        """Return the first hold in force that is newer than the newest that is known."""
        late: int | None = await self._pool.fetchval(HOLDS_SQL["put_on_since"], self._names, newest_hold)
        return late

    async def held_since(self) -> int | None:
        """Return the first hold that is newer than all that the last step was sent with."""
        return await self.late_hold(await self._pool.fetchval(self.sql["holds_of_last_step"], *self.key) or 0)


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
