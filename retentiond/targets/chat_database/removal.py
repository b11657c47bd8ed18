"""The removal: batch after batch of what the survey found, each in a transaction of its own."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.ledger.holds import lock_holds
from retentiond.ledger.records import Record, add_record
from retentiond.model.text import printable
from retentiond.targets.chat_database.batch import Batch, ChangedError, MiscountError
from retentiond.targets.chat_database.gate import SQL, Gate
from retentiond.targets.chat_database.partitions import (
    Emptying,
    can_be_emptied,
    drop_if_empty,
    partitions_below,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Order
    from retentiond.ledger.lease import Lease
    from retentiond.model.outcome import FailureKind
    from retentiond.model.purge import PurgeReport
    from retentiond.targets.chat_database.batch import Page, Removed
    from retentiond.targets.chat_database.partitions import Partition
    from retentiond.targets.chat_database.place import Place
    from retentiond.targets.chat_database.survey import Survey
    from retentiond.targets.chat_database.tables import Tree

TRIES: Final = 5
"""How often a batch is tried that others are in the way of."""
FAILURES: Final = 3
"""How many batches in a row may fail before an account's purge ends: whatever it is, it does not pass."""
_REASON_LIMIT: Final = 500

IN_THE_WAY: Final = (
    ChangedError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    # A row of a chat that was to go came in after the last look.
    asyncpg.ForeignKeyViolationError,
)
_NO_MORE: Final = (*LOST, asyncpg.InsufficientPrivilegeError)
"""What ends the whole pass. Whatever else the database says is about one batch or partition: a trigger that raises, a view."""


class Removal:
    """Takes what surveys found due, and keeps the account of it; `connection` is the pass's own."""

    def __init__(self, place: Place, connection: Conn, lease: Lease, order: Order, pass_id: int) -> None:
        self._place = place
        self._connection = connection
        self._lease = lease
        self._order = order
        self._pass_id = pass_id
        self._gate = Gate(place.config.pace, order.stop, place.read_lag)
        self._failures = 0

    async def run(self, surveys: Sequence[Survey], report: PurgeReport) -> None:
        """Take all of one account; it ends early where we are asked to stop, or where batches keep failing."""
        # What keeps failing in one account need not do so in the next.
        self._failures = 0
        for survey in surveys:
            if report.state != "interrupted":
                await self._take_all(survey, report)

    async def _take_all(self, survey: Survey, report: PurgeReport) -> None:
        partitions = await partitions_below(self._connection, survey.tree, survey.values)
        for partition in partitions:
            if can_be_emptied(survey.tree, partition) and await self._may_go_on(report):
                await self._empty(survey, partition, report)
        async for page in survey.pages(self._place.config.pace.batch):
            if not await self._may_go_on(report):
                return
            await self._take(survey, page, report)
            self._order.progress.advance(len(page))
        for partition in partitions:
            if await self._may_go_on(report):
                await self._drop(survey.tree, partition, report)

    async def _may_go_on(self, report: PurgeReport) -> bool:
        if self._failures >= FAILURES:
            return False
        await self._gate.wait()
        if self._order.stop.asked:
            report.state = "interrupted"
            return False
        return True

    async def _take(self, survey: Survey, page: Page, report: PurgeReport) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                async with self._connection.transaction():
                    await self._lease.check(self._connection)
                    # A hold that is put on meanwhile waits until the batch is over, or is seen by it.
                    await lock_holds(self._connection)
                    removed = await Batch(self._connection, survey.tree, survey.values).remove(page)
                    after = await self._write_down(report, removed)
            except IN_THE_WAY as error:
                if attempt == TRIES:
                    self._fail(survey, page, report, error)
                    return
                await self._order.stop.wait(0.1 * 2**attempt)
                # Each try may wait for a lock as long as it did before; what was not taken is not lost.
                if self._order.stop.asked:
                    report.state = "interrupted"
                    return
            except _NO_MORE:
                raise
            except asyncpg.PostgresError as error:
                self._fail(survey, page, report, error)
                return
            else:
                self._failures = 0
                _reach(survey, page, report)
                await self._count(survey.tree, report, removed, after)
                return

    async def _empty(self, survey: Survey, partition: Partition, report: PurgeReport) -> None:
        removed = after = None
        # Where it cannot, its rows go by batches, which see and say what is wrong.
        with _leaving("partition_not_emptied", partition):
            async with self._connection.transaction():
                await self._lease.check(self._connection)
                await lock_holds(self._connection)
                removed = await Emptying(self._connection, survey.tree, survey.values, partition).empty()
                after = await self._write_down(report, removed) if removed is not None else None
        if removed is not None and after is not None:
            self._order.progress.advance(removed.chats)
            if survey.tree.is_chat:
                report.reach(removed.chats)
            await self._count(survey.tree, report, removed, after)

    async def _drop(self, tree: Tree, partition: Partition, report: PurgeReport) -> None:
        dropped = False
        # Where it cannot, it is empty, and the next purge tries again.
        with _leaving("partition_not_dropped", partition):
            async with self._connection.transaction():
                await self._lease.check(self._connection)
                dropped = await drop_if_empty(self._connection, tree, partition)
        if dropped:
            report.partitions_dropped.append(partition.name)

    async def _write_down(self, report: PurgeReport, removed: Removed) -> Counter[str]:
        """Write what the batch took into the ledger, in the batch's own transaction; return the new counts."""
        after = Counter(report.entities)
        after.update(removed.rows)
        told = json.dumps(replace(report, entities=after).as_json())
        await self._connection.execute(SQL["note_purge"], self._pass_id, report.account, told)
        if removed.rows.total():
            body = {
                "account": report.account,
                "to_date": report.to_date.isoformat(),
                "rows": dict(removed.rows),
                "chats": removed.ids,
                "partition": removed.partition,
            }
            record = Record("purged", self._place.name, self._pass_id, body)
            await add_record(self._connection, record)
        return after

    async def _count(self, tree: Tree, report: PurgeReport, removed: Removed, after: Counter[str]) -> None:
        report.entities = after
        if tree.is_chat:
            report.chats += removed.chats
            report.kept["changed"] += removed.changed
        await self._gate.count(removed.rows.total())

    def _fail(self, survey: Survey, page: Page, report: PurgeReport, error: Exception) -> None:
        _reach(survey, page, report)
        self._failures = FAILURES if isinstance(error, MiscountError) else self._failures + 1
        reason = _reason(error)
        report.failed[reason] += len(page)
        report.error = printable(str(error), _REASON_LIMIT)
        get_logger().error(
            "item_failed", account=report.account, reason=reason, items=len(page), error=report.error
        )


def _reach(survey: Survey, page: Page, report: PurgeReport) -> None:
    if survey.tree.is_chat:
        report.reach(sum(verdict == "due" for _, verdict in page))


def _reason(error: Exception) -> FailureKind:
    if isinstance(error, MiscountError):
        return "miscount"
    return "in_the_way" if isinstance(error, IN_THE_WAY) else "database_refused"


@contextmanager
def _leaving(event: str, partition: Partition) -> Iterator[None]:
    """Leave a partition as it is where the database will not have it otherwise, and tell the log."""
    log = get_logger(partition=partition.name)
    try:
        yield
    except (*IN_THE_WAY, asyncpg.NotNullViolationError) as error:
        log.info(event, reason=str(error))
    except _NO_MORE:
        raise
    except asyncpg.PostgresError as error:
        # It does not pass by itself: a view on the partition, a trigger that raises.
        log.warning(event, reason=printable(str(error), _REASON_LIMIT))
