"""The secondary stores of a purge in the ledger: their states, and the notes from which a later purge continues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.holds import lock_holds
from retentiond.model.errors import RefusedError
from retentiond.model.purge import shards_as_json
from retentiond.targets.chat_database import refusals
from retentiond.targets.chat_database.purge_table import newer_hold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.ledger.lease import Lease
    from retentiond.model.purge import StoreReport
    from retentiond.targets.chat_database.store import StoreName

_FILE: Final = "store_notes.sql"
_OF_ACCOUNT: Final = named_queries(
    __package__, _FILE, store="retentiond.chat_store", subject="account", counts=""
)
_OF_REQUEST: Final = named_queries(
    __package__,
    _FILE,
    store="retentiond.chat_erasure_store",
    subject="erasure_id",
    # Only a request ends with a proof, which sums up all of its passes.
    counts="rows = rows + $4::bigint, at_least = at_least OR $5::boolean,\n    ",
)


async def begin_stores_of_account(
    connection: Conn, target: str, account: str, stores: tuple[str, ...], pass_id: int, cutoff: datetime
) -> None:
    """Record the stores to purge, so that after a crash `status` also shows those that were not begun."""
    for store in stores:
        await connection.execute(_OF_ACCOUNT["begin_of_account"], target, account, store, pass_id, cutoff)


async def begin_stores_of_request(
    connection: Conn, target: str, erasure_id: int | None, stores: tuple[str, ...], cutoff: datetime
) -> None:
    """Record the stores of a request to erase a visitor."""
    for store in stores:
        await connection.execute(_OF_ACCOUNT["begin_of_request"], target, erasure_id, store, cutoff)


async def read_stores(connection: Conn, target: str) -> list[Record]:
    """Return the state of each store of each account."""
    return await connection.fetch(_OF_ACCOUNT["states_by_account"], target)


async def read_unfinished(connection: Conn, target: str, *, at_work: bool) -> list[Record]:
    """Return the stores whose purge is not finished; `at_work`: a pass holds the lease, and its own are left out."""
    return await connection.fetch(_OF_ACCOUNT["unfinished"], target, at_work)


async def running_stores(connection: Conn, target: str, account: str) -> tuple[str, ...]:
    """Return the stores in which a purge of the account, or a step that it left, is running."""
    rows = await connection.fetch(_OF_ACCOUNT["running"], target, account)
    return tuple(row["store"] for row in rows)


class Notes:
    """The notes of one store, of an account's purge or of a request; each step in the store begins here."""

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
        self._sql = _OF_ACCOUNT if erasure_id is None else _OF_REQUEST
        self._key = (target, names[0] if erasure_id is None else erasure_id, store)

    async def start(self) -> bool:
        """Record that the store is being purged; return whether an earlier purge left notes."""
        earlier = bool(await self.read())
        await self._pool.execute(self._sql["start"], *self._key)
        return earlier

    async def end(self, connection: Conn, report: StoreReport, cutoff: datetime) -> None:
        """Record how the purge of the store ended, in a transaction under the lease."""
        reason = report.error or (report.refused and report.refused.hint)
        shards = json.dumps(shards_as_json(report.shards))
        await connection.execute(self._sql["end"], *self._key, report.state, cutoff, reason, shards)

    async def settle(self, connection: Conn, report: StoreReport) -> None:
        """Remove the deleted rows from the notes, in the transaction that adds their record."""
        await connection.execute(self._sql["settle"], *self._key, report.rows, report.at_least)

    async def read(self) -> dict[str, Any]:
        """Return the notes."""
        notes = await self._pool.fetchval(self._sql["notes"], *self._key)
        return dict(json.loads(notes)) if notes else {}

    async def write(self, notes: Mapping[str, Any]) -> None:
        """Replace the notes."""
        await self._pool.execute(self._sql["write_notes"], *self._key, json.dumps(dict(notes)))

    async def write_shards(self, shards: Mapping[str, Any]) -> None:
        """Record the state of all shards, for `status`."""
        await self._pool.execute(self._sql["report_shards"], *self._key, json.dumps(dict(shards)))

    async def begin_step(self, notes: Mapping[str, Any], newest_hold: int) -> None:
        """Record the notes of a step before it is sent; raise RefusedError if a hold is newer than `newest_hold`."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._lease.check(connection)
            # A hold that is added meanwhile waits, and then sees this step as running.
            await lock_holds(connection)
            late = await newer_hold(connection, self._names, newest_hold)
            if late is not None:
                raise RefusedError(refusals.late(late))
            await connection.execute(
                self._sql["begin_step"], *self._key, json.dumps(dict(notes)), newest_hold
            )

    async def late_hold(self, newest_hold: int) -> int | None:
        """Return the first hold in force that is newer than `newest_hold`."""
        return await newer_hold(self._pool, self._names, newest_hold)

    async def held_since(self) -> int | None:
        """Return the first hold that is newer than those known to the last step."""
        newest = await self._pool.fetchval(self._sql["holds_of_last_step"], *self._key)
        return await self.late_hold(newest or 0)
