"""The removal: batch after batch of what the survey found, each in a transaction of its own."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.model.purge import MOST_FAILED_ROWS
from retentiond.targets.chat_database.batch import Batch, ChangedError
from retentiond.targets.chat_database.batch_size import BatchSize
from retentiond.targets.chat_database.batches import FAILURES, TRIES, Batches, count_refused
from retentiond.targets.chat_database.partitions import (
    Emptying,
    can_be_emptied,
    drop_if_empty,
    partitions_below,
)
from retentiond.targets.chat_database.refused_rows import (
    ends_the_pass,
    may_be_of_single_rows,
    may_pass,
    name_refusal,
    reason_in_words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.purge import PurgeReport
    from retentiond.targets.chat_database.batch import Page, Removed
    from retentiond.targets.chat_database.context import ChatContext
    from retentiond.targets.chat_database.partitions import Partition
    from retentiond.targets.chat_database.survey import Survey
    from retentiond.targets.chat_database.tables import Tree

AGAIN: Final = 2
"""How often a part of a divided batch is tried: the whole has waited for others already."""
MOST_ALONE: Final = 20
"""How many may fail one by one before any other goes, until what is left of a batch is not divided any more."""


class _Refused(NamedTuple):
    """What the database said of a batch, or of a part of one, and the table that rows were to go from."""

    error: Exception
    at: str | None


class Removal(Batches):
    """Takes what surveys found due, and keeps the account of it; `connection` is the pass's own."""

    def __init__(
        self, context: ChatContext, connection: Conn, lease: Lease, order: PassOptions, pass_id: int
    ) -> None:
        super().__init__(context, connection, lease, order, pass_id)
        self._size = BatchSize(context.config.pace)
        self._alone = 0
        self._unnamed = 0

    async def run(self, surveys: Sequence[Survey], report: PurgeReport) -> None:
        """Take all of one account; it ends early where we are asked to stop, or where batches keep failing."""
        for survey in surveys:
            if report.state != "interrupted":
                await self._take_all(survey, report)
        if self._unnamed:
            get_logger().error(
                "item_failed",
                account=report.account,
                items=self._unnamed,
                error="more rows that failed one by one",
            )
        self._unnamed = 0

    async def _take_all(self, survey: Survey, report: PurgeReport) -> None:
        # What keeps failing here need not do so in the next account, nor below from the other end.
        self._failures = self._alone = 0
        partitions = await partitions_below(self._connection, survey.tree, survey.values)
        for partition in partitions:
            if can_be_emptied(survey.tree, partition) and await self._may_go_on(report):
                await self._empty(survey, partition, report)
        await self._take_pages(survey, report)
        for partition in partitions:
            if await self._may_go_on(report):
                await self._drop(survey.tree, partition, report)

    async def _take_pages(self, survey: Survey, report: PurgeReport) -> None:
        """Take page after page; where only refused rows are left at the beginning, go on from the end.

        What the database refuses is the same at every run, and piles up at the beginning, before what is new.
        """
        last = None
        async for page in survey.pages(self._next_size):
            if not await self._may_go_on(report):
                break
            await self._take(survey, page, report)
            last = page[-1][0]
        if report.state == "interrupted" or self._failures < FAILURES or last is None:
            return
        self._failures = self._alone = 0
        async for page in survey.pages(self._next_size, backward=True, end=last):
            if not await self._may_go_on(report):
                break
            await self._take(survey, page, report)

    def _next_size(self) -> int:
        return self._size.chats

    async def _take(self, survey: Survey, page: Page, report: PurgeReport) -> None:
        """Take a batch. One that is refused is divided, again and again, until those that are refused are alone."""
        parts, left = [page], list[tuple["Page", _Refused]]()
        went = False
        while parts:
            part = parts.pop()
            # The first was let through already, and a stop leaves the rest for the next purge.
            if part is not page and await self._is_stopped(report):
                return
            refused = await self._try(survey, part, report, TRIES if part is page else AGAIN)
            if report.state == "interrupted":
                return
            if refused is None:
                went, self._alone = True, 0
            elif not may_be_of_single_rows(refused.error):
                # No part of it would fare better.
                left.append(([row for one in (part, *parts) for row in one], refused))
                break
            elif len(part) == 1:
                self._alone += 1
                await self._fail(survey, part, report, refused)
            elif went or self._alone < MOST_ALONE:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                left.append((part, refused))
            if went and not parts:
                # Some could go: those among the rest can, too.
                parts, left = [one for one, _ in left], []
        for part, refused in left:
            await self._fail(survey, part, report, refused)
        self._failures = 0 if went else self._failures + 1
        self._order.progress.advance(len(page))

    async def _try(self, survey: Survey, page: Page, report: PurgeReport, tries: int) -> _Refused | None:
        """Take a page in one transaction, and count it; return what the database has against it, if it does not pass."""
        for attempt in range(1, tries + 1):
            batch = Batch(self._connection, survey.tree, survey.values)
            began = time.monotonic()
            try:
                async with self._transaction():
                    removed = await batch.remove(page)
                    after = await self._write_down(survey, report, removed)
            except (ChangedError, *LOST, asyncpg.PostgresError) as error:
                if ends_the_pass(error):
                    raise
                if attempt == tries or not may_pass(error):
                    return _Refused(error, batch.at)
                await self._order.stop.wait(0.1 * 2**attempt)
                # Each try may wait for a lock as long as it did before; what was not taken is not lost.
                if self._order.stop.asked:
                    report.state = "interrupted"
                    return None
            else:
                self._size.learn(len(page), removed.rows.total(), time.monotonic() - began)
                _reach(survey, page, report)
                await self._count(survey.tree, report, removed, after)
                return None
        return None

    async def _empty(self, survey: Survey, partition: Partition, report: PurgeReport) -> None:
        removed = after = None
        # Where it cannot, its rows go by batches, which see and say what is wrong.
        with _leaving("partition_not_emptied", partition):
            async with self._transaction():
                removed = await Emptying(self._connection, survey.tree, survey.values, partition).empty()
                after = await self._write_down(survey, report, removed) if removed is not None else None
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

    async def _write_down(self, survey: Survey, report: PurgeReport, removed: Removed) -> Counter[str]:
        """Write what the batch took into the ledger, in the batch's own transaction; return the new counts."""
        after = Counter(report.entities)
        after.update(removed.rows)
        chats = report.chats + (removed.chats if survey.tree.is_chat else 0)
        deleted = {"rows": dict(removed.rows), "chats": removed.ids, "partition": removed.partition}
        await self._note(
            replace(report, entities=after, chats=chats), deleted if removed.rows.total() else None
        )
        return after

    async def _count(self, tree: Tree, report: PurgeReport, removed: Removed, after: Counter[str]) -> None:
        report.entities = after
        if tree.is_chat:
            report.chats += removed.chats
            report.kept["changed"] += removed.changed
        await self._gate.count(removed.rows.total())

    async def _fail(self, survey: Survey, page: Page, report: PurgeReport, refused: _Refused) -> None:
        """Count what did not go, and name it where it is alone."""
        _reach(survey, page, report)
        log = get_logger(account=report.account)
        reason = count_refused(report, len(page), refused.error)
        if len(page) > 1:
            log.error("item_failed", reason=reason, items=len(page), error=report.error)
        elif len(report.failures) < MOST_FAILED_ROWS:
            entity = None if survey.tree.is_chat else survey.tree.top
            failure = await name_refusal(
                self._connection, refused.error, refused.at, row=page[0][0], entity=entity
            )
            report.failures.append(failure)
            log.error("item_failed", items=1, **failure.as_json())
        else:
            self._unnamed += 1


def _reach(survey: Survey, page: Page, report: PurgeReport) -> None:
    if survey.tree.is_chat:
        report.reach(sum(verdict == "due" for _, verdict in page))


@contextmanager
def _leaving(event: str, partition: Partition) -> Iterator[None]:
    """Leave a partition as it is where the database will not have it otherwise, and tell the log."""
    log = get_logger(partition=partition.name)
    try:
        yield
    except (ChangedError, *LOST, asyncpg.PostgresError) as error:
        if ends_the_pass(error):
            raise
        # What is no passing matter is a warning: a view on the partition, a trigger that raises.
        passing = may_pass(error) or isinstance(error, asyncpg.NotNullViolationError)
        (log.info if passing else log.warning)(event, reason=reason_in_words(error))
