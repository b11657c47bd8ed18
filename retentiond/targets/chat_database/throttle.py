"""The throttle before each batch: the pace in rows, and a pause while a replica is behind or gone."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.engine.passes import Pace
from retentiond.model.errors import MissingRightError, UnreachableError
from retentiond.model.replication import Replica, Replication, find_delay, missing_standby
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.config.chats import ChatPace
    from retentiond.engine.target import Stop


_SQL: Final = named_queries(__package__, "replication.sql")
_MOST_NAMED: Final = 5
POLL: Final = 1.0
"""Seconds between two looks at the replicas."""
PATIENCE: Final = timedelta(hours=1)
"""The longest wait of a purge for a replica; a longer stall is reported as a failure."""


@dataclass(slots=True)
class Throttle:
    """Delays the next batch as long as needed; `look` reads the replicas of the database."""

    pace: ChatPace
    stop: Stop
    look: Callable[[], Awaitable[Replication]]
    clock: Callable[[], float] = time.monotonic
    _rows: Pace = field(init=False)
    _looked: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._rows = Pace(self.pace.max_rows_per_second, sleep=self.stop.wait)

    async def count(self, rows: int) -> None:
        """Add the rows of a batch, and wait if they exceed the pace."""
        await self._rows.take(rows)

    async def wait(self) -> None:
        """Wait until no replica is too far behind, or a stop is requested; raise UnreachableError after an hour.

        No transaction is open meanwhile. The replica that is furthest behind is logged, and again when it is another one.
        """
        # A replica does not fall behind between two batches of the same second.
        if self.clock() - self._looked < POLL:
            return
        waited, named = timedelta(0), ""
        while (delay := find_delay(await self.look(), self.pace.max_replica_lag)) is not None:
            if self.stop.asked:
                return
            if delay.replica != named:
                named = delay.replica
                lag = None if delay.lag is None else delay.lag.total_seconds()
                get_logger().warning("replica_behind", replica=named, lag=lag, reason=str(delay))
            if waited >= PATIENCE:
                raise UnreachableError(
                    f"{delay.reason}, and the purge waited an hour for it; {delay.next_step}, then run the purge "
                    "again to continue"
                )
            await self.stop.wait(POLL)
            waited += timedelta(seconds=POLL)
        self._looked = self.clock()


async def read_replication(pool: Db) -> Replication:
    """Read the replicas as this role may see them; raise MissingRightError if the lag of one is hidden."""
    async with pool.acquire() as connection:
        replication = await look_at_replication(connection)
    refuse_hidden(replication)
    return replication


async def look_at_replication(connection: Conn) -> Replication:
    """Read the replicas, those without a visible state too."""
    rows = await connection.fetch(_SQL["replicas"])
    waits_for = await connection.fetchrow(_SQL["synchronous"])
    assert waits_for is not None  # noqa: S101 - a SELECT without FROM has one row
    return Replication(
        [
            Replica(
                name=row["name"],
                kind="subscriber" if row["logical"] else "standby",
                connection_to=row["connected"],
                slot=row["slot"],
                state=row["state"],
                lag=row["lag"],
                bytes_behind=row["bytes_behind"],
                wal_status=row["wal_status"],
                gone_for=row["gone_for"],
            )
            for row in rows
        ],
        waits_for["names"],
        waits_for["in_step"],
        waits_for["role"],
    )


def refuse_hidden(replication: Replication) -> None:
    """Raise MissingRightError for replicas whose lag is hidden: a lag that is not known is not "no lag"."""
    hidden = replication.hidden
    if hidden:
        names = ", ".join(printable(name) for name in hidden[:_MOST_NAMED])
        more = f" and {len(hidden) - _MOST_NAMED} more" if len(hidden) > _MOST_NAMED else ""
        raise MissingRightError(
            f"this role may not see how far replicas are behind ({names}{more}), and a purge could not wait for them; "
            "as a superuser run:",
            [f"GRANT pg_monitor TO {printable(replication.role)};"],
        )


def refuse_waiting_commits(replication: Replication) -> None:
    """Raise UnreachableError if the first commit would wait for a synchronous standby that is down."""
    if replication.commits_wait:
        raise UnreachableError(f"{missing_standby(replication)}, then run it again: nothing was changed")
