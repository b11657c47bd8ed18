"""What every target tells from its ledger, and writes into it, whatever its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from retentiond.adapters.postgres import reaching
from retentiond.ledger.host import host_name, process_id
from retentiond.ledger.ledger import SQL
from retentiond.ledger.records import read_records, verify_records
from retentiond.model.records import Chain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.adapters.postgres import Db
    from retentiond.ledger.ledger import Ledger
    from retentiond.model.records import Verified


class Place(Protocol):
    """Where a target works: what it is called, its database, and the ledger in it."""

    @property
    def name(self) -> str:
        """What the user calls the target."""

    @property
    def pool(self) -> Db:
        """Connections to its database."""

    @property
    def ledger(self) -> Ledger:
        """Its ledger."""


class RecordsDesk:
    """The records and the signs of life of a target."""

    def __init__(self, place: Place) -> None:
        self._desk = place

    async def records(self) -> AsyncIterator[dict[str, Any]]:
        """Stream the proof of disposal, oldest first."""
        with reaching("the database"):
            async with self._desk.pool.acquire() as connection:
                if not await self._desk.ledger.exists(connection):
                    return
                await self._desk.ledger.check_version(connection)
                async for record in read_records(connection):
                    yield record

    async def verify_records(self) -> Verified:
        """Follow the chain of records; without a ledger there are none, and they fit."""
        with reaching("the database"):
            async with self._desk.pool.acquire() as connection:
                if not await self._desk.ledger.exists(connection):
                    return Chain().told()
                await self._desk.ledger.check_version(connection)
                return await verify_records(connection)

    async def beat(self) -> None:
        """Tell the ledger, where there is one, that a daemon looks after this target."""
        await self._tell("beat")

    async def end_beat(self) -> None:
        """Tell the ledger that it no longer does."""
        await self._tell("end_beat")

    async def _tell(self, statement: str) -> None:
        with reaching("the database"):
            if await self._desk.ledger.exists(self._desk.pool):
                await self._desk.pool.execute(SQL[statement], host_name(), process_id())
