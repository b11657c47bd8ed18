"""The gate before each batch: the pace in rows, and a pause while a replica is behind."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.engine.pace import Pace
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retentiond.adapters.postgres import Db
    from retentiond.config.chats import ChatPace
    from retentiond.engine.target import Stop

SQL: Final = named_queries(__package__, "ledger.sql")
POLL: Final = 1.0
"""Seconds between two looks at a replica that is behind."""
PATIENCE: Final = timedelta(hours=1)
"""How long a purge waits for a replica; a longer stall is a failure that somebody must hear of."""


@dataclass(slots=True)
class Gate:
    """Lets the next batch through when it may go. `read_lag` tells how far the furthest replica is behind."""

    pace: ChatPace
    stop: Stop
    read_lag: Callable[[], Awaitable[timedelta | None]]
    poll: float = POLL
    clock: Callable[[], float] = time.monotonic
    _rows: Pace = field(init=False)
    _looked: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._rows = Pace(self.pace.max_rows_per_second, sleep=self.stop.wait)

    async def count(self, rows: int) -> None:
        """Take note of a batch's rows, and wait where they came too fast."""
        await self._rows.take(rows)

    async def wait(self) -> None:
        """Wait until the replicas have caught up, or we are asked to stop; raise UnreachableError after an hour."""
        # A replica does not fall behind between two batches of the same second.
        if self.clock() - self._looked < self.poll:
            return
        waited = timedelta(0)
        while (lag := await self.read_lag()) is not None and lag > self.pace.max_replica_lag:
            if self.stop.asked:
                return
            if not waited:
                get_logger().warning("replica_behind", lag=lag.total_seconds())
            if waited >= PATIENCE:
                raise UnreachableError(
                    f"a replica has been more than {self.pace.max_replica_lag.total_seconds():.0f} s behind for an hour; "
                    "look at its replication (pg_stat_replication), then run the purge again: it goes on where it is"
                )
            await self.stop.wait(self.poll)
            waited += timedelta(seconds=self.poll)
        self._looked = self.clock()


async def read_replica_lag(pool: Db) -> timedelta | None:
    """Return how far the furthest replica is behind; None where there is none, or none that this role may see."""
    row = await pool.fetchrow(SQL["replica_lag"])
    return row["lag"] if row is not None else None
