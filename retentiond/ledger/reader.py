"""Records, samples and heartbeats in the ledger of a target of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from retentiond.adapters.postgres import translate_errors
from retentiond.ledger.leadership import beat, end_beat
from retentiond.ledger.records import read_newest, read_records, verify_records
from retentiond.ledger.samples import read_samples
from retentiond.ledger.session import ledger_exists
from retentiond.model.records import Chain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.ledger.ledger import Ledger
    from retentiond.model.records import Link, Verified
    from retentiond.model.usage import Sample


class LedgerOwner(Protocol):
    """A target: its name, its database, and the ledger in it."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def pool(self) -> Db:
        """Connections to its database."""

    @property
    def ledger(self) -> Ledger:
        """Its ledger."""


class LedgerReader:
    """The records, samples and heartbeats of a target."""

    def __init__(self, owner: LedgerOwner) -> None:
        self._desk = owner

    async def _has_ledger(self, connection: Conn) -> bool:
        # Another kind of target may have made it; and no ledger in a database that is not the target's is an error.
        return await self._desk.ledger.exists(connection) or await ledger_exists(connection)

    async def records(self) -> AsyncIterator[dict[str, Any]]:
        """Stream the records, oldest first."""
        with translate_errors("the database"):
            async with self._desk.pool.acquire() as connection:
                if not await self._has_ledger(connection):
                    return
                await self._desk.ledger.check_version(connection)
                async for record in read_records(connection):
                    yield record

    async def verify_records(self) -> Verified:
        """Verify the chain of records; without a ledger the chain is empty and valid."""
        with translate_errors("the database"):
            async with self._desk.pool.acquire() as connection:
                if not await self._has_ledger(connection):
                    return Chain().result()
                await self._desk.ledger.check_version(connection)
                return await verify_records(connection)

    async def newest_record(self) -> Link | None:
        """Return the end of the chain; None without a record."""
        with translate_errors("the database"):
            async with self._desk.pool.acquire() as connection:
                if not await self._has_ledger(connection):
                    return None
                await self._desk.ledger.check_version(connection)
                return await read_newest(connection)

    async def samples(self, most: int | None = None) -> list[Sample]:
        """Return the newest samples, at most so many, oldest first; none without a ledger."""
        with translate_errors("the database"):
            async with self._desk.pool.acquire() as connection:
                if not await self._has_ledger(connection):
                    return []
                await self._desk.ledger.check_version(connection)
                return await read_samples(connection, self._desk.name, most)

    async def beat(self) -> None:
        """Write a heartbeat of the daemon, if there is a ledger."""
        await self._with_ledger(beat)

    async def end_beat(self) -> None:
        """Remove the heartbeat."""
        await self._with_ledger(end_beat)

    async def _with_ledger(self, write: Callable[[Db], Awaitable[None]]) -> None:
        with translate_errors("the database"):
            if await self._desk.ledger.exists(self._desk.pool):
                await write(self._desk.pool)
