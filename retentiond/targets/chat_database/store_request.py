"""What one store is told to purge, and where it writes down how far it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retentiond.ledger.holds import lock_holds
from retentiond.model.errors import RefusedError
from retentiond.targets.chat_database import refusals
from retentiond.targets.chat_database.statements import HOLDS_SQL
from retentiond.targets.chat_database.throttle import SQL
from retentiond.targets.chat_database.visitor import SQL as ERASURE_SQL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retentiond.adapters.postgres import Db
    from retentiond.engine.target import Stop
    from retentiond.ledger.lease import Lease
    from retentiond.model.purge import ShardReport
    from retentiond.targets.chat_database.database_chats import DatabaseChats
    from retentiond.targets.chat_database.shard_states import ShardStates
    from retentiond.targets.chat_database.store import ErasedVisitor, StoreName


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
    """What one store is told; without a number and a place in the ledger it is a dry run."""

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
