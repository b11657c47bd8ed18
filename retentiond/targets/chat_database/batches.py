"""The deletion of rows in batches: the wait before each, its transaction, and its record.

`removal.py` deletes chats in this way, and `orphan_removal.py` the orphans.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from retentiond.ledger.holds import lock_holds
from retentiond.ledger.records import Record, add_record
from retentiond.targets.chat_database.purge_table import note_purge
from retentiond.targets.chat_database.refused_rows import reason_in_words, reason_of
from retentiond.targets.chat_database.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from retentiond.adapters.postgres import Conn
    from retentiond.config.chats import ChatPace
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.errors import FailureKind
    from retentiond.model.purge import PurgeReport
    from retentiond.targets.chat_database.context import ChatContext

TRIES: Final = 5
"""The most tries of a batch while others hold locks that it needs."""
FAILURES: Final = 3
"""Batches in a row that may fail before the purge of an account ends."""
MOST_TIMES: Final = 4
"""The largest batch as a multiple of the configured number, if that is the default."""
QUICK: Final = 0.25
SLOW: Final = 1.0
"""Seconds of a transaction below which the next batch is larger, and above which it is smaller."""
_SHARE_OF_A_SECOND: Final = 4


class BatchSize:
    """The number of chats in a batch: each batch costs a commit and some twenty statements, however few its rows are.

    It doubles while batches are quick and far below the rows allowed in a second; a configured number
    does not change.
    """

    def __init__(self, pace: ChatPace) -> None:
        configured = "batch" in pace.model_fields_set
        self.chats = self._least = pace.batch
        self._most = pace.batch * (1 if configured else MOST_TIMES)
        self._most_rows = pace.max_rows_per_second // _SHARE_OF_A_SECOND
        # A configured number is the load that the server can bear.
        self._rate = 0 if configured else pace.max_rows_per_second
        self.two_at_once = False
        """Whether consecutive batches delete fewer rows than are allowed in a second."""

    def learn(self, chats: int, rows: int, seconds: float) -> None:
        """Choose the next size after a batch and its seconds; a batch of another size is ignored."""
        if chats != self.chats:
            return
        self.two_at_once = rows < self._rate * seconds
        if seconds > SLOW or rows > self._most_rows:
            self.chats = max(self.chats // 2, self._least)
        elif seconds < QUICK and 2 * rows <= self._most_rows:
            self.chats = min(2 * self.chats, self._most)


class Batches:
    """The base of removals in batches; `connection` belongs to the pass."""

    def __init__(
        self, context: ChatContext, connection: Conn, lease: Lease, options: PassOptions, pass_id: int
    ) -> None:
        self._context = context
        self._connection = connection
        self._lease = lease
        self._options = options
        self._pass_id = pass_id
        self._gate = Throttle(context.config.pace, options.stop, context.look_at_replicas)
        self._failures = 0
        """The number of batches in a row that deleted nothing."""

    async def _may_go_on(self, report: PurgeReport) -> bool:
        return self._failures < FAILURES and not await self._is_stopped(report)

    async def _is_stopped(self, report: PurgeReport) -> bool:
        await self._gate.wait()
        if self._options.stop.asked:
            report.state = "interrupted"
        return self._options.stop.asked

    @asynccontextmanager
    async def _transaction(self, connection: Conn | None = None) -> AsyncIterator[None]:
        """Open the transaction of a batch, under the lease and with the holds locked; on the pass's own connection, unless given."""
        connection = connection or self._connection
        async with connection.transaction():
            await self._lease.check(connection)
            # A new hold waits until the batch is over, or the batch sees it.
            await lock_holds(connection)
            yield

    async def _note(
        self, report: PurgeReport, deleted: Mapping[str, Any] | None, connection: Conn | None = None
    ) -> None:
        """Write the report into the ledger, and a record of the deleted rows, in the transaction of the batch."""
        connection = connection or self._connection
        await note_purge(connection, self._pass_id, report)
        if deleted is not None:
            body = {"account": report.account, "to_date": str(report.to_date), **deleted}
            await add_record(connection, Record("purged", self._context.name, self._pass_id, body))


def count_refused(report: PurgeReport, items: int, error: Exception) -> FailureKind:
    """Count rows that the database refused to delete; return the kind of failure."""
    reason = reason_of(error)
    report.failed[reason] += items
    report.error = reason_in_words(error)
    return reason
