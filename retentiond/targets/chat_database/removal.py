"""The removal of due chats in batches, each in a transaction of its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.model.errors import UnreachableError
from retentiond.model.purge import MOST_FAILED_ROWS
from retentiond.targets.chat_database.batch import Batch, ChangedError
from retentiond.targets.chat_database.batches import FAILURES, TRIES, Batches, BatchSize, count_refused
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
    from collections.abc import AsyncIterator, Iterator, Sequence

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
"""The tries of a part of a divided batch: the whole batch has waited for locks already."""
MOST_ALONE: Final = 20
"""The chats that may fail alone before any is removed; then the rest of the batch is not divided any more."""


class _Refused(NamedTuple):
    """The error by which the database refused a batch or a part of one, and the table of the refused deletion."""

    error: Exception
    at: str | None


class Removal(Batches):
    """Deletes the due rows of surveys, and records them; `connection` belongs to the pass."""

    def __init__(
        self, context: ChatContext, connection: Conn, lease: Lease, options: PassOptions, pass_id: int
    ) -> None:
        super().__init__(context, connection, lease, options, pass_id)
        self._size = BatchSize(context.config.pace)
        self._ending = asyncio.Lock()
        self._unknown = False
        """Whether a batch may have been committed although its answer was lost."""
        self._second_connection = True
        """Whether the server has, as far as known, a connection for a second batch."""
        self._alone = 0
        self._unnamed = 0

    async def run(self, surveys: Sequence[Survey], report: PurgeReport) -> None:
        """Delete the due rows of one account; end early if a stop is requested or batches keep failing."""
        for survey in surveys:
            if report.state != "interrupted":
                await self._delete_all(survey, report)
        if self._unnamed:
            get_logger().error(
                "item_failed",
                account=report.account,
                items=self._unnamed,
                error="more rows that failed one by one",
            )
        self._unnamed = 0

    async def _delete_all(self, survey: Survey, report: PurgeReport) -> None:
        # Failures of another account do not count here.
        self._failures = self._alone = 0
        partitions = await partitions_below(self._connection, survey.tree, survey.values)
        for partition in partitions:
            if can_be_emptied(survey.tree, partition) and await self._may_go_on(report):
                await self._empty(survey, partition, report)
        await self._delete_pages(survey, report)
        for partition in partitions:
            if await self._may_go_on(report):
                await self._drop(survey.tree, partition, report)

    async def _delete_pages(self, survey: Survey, report: PurgeReport) -> None:
        """Delete page after page; once only refused rows are left at the beginning, continue from the end.

        Rows that the database refuses at every run collect at the beginning, before new ones.
        """
        last = None
        size = partial(self._next_size, survey.tree)
        async for page in survey.pages(size):
            if not await self._may_go_on(report):
                break
            await self._delete(survey, page, report)
            last = page[-1][0]
        if report.state == "interrupted" or self._failures < FAILURES or last is None:
            return
        self._failures = self._alone = 0
        async for page in survey.pages(size, backward=True, end=last):
            if not await self._may_go_on(report):
                break
            await self._delete(survey, page, report)

    def _next_size(self, tree: Tree) -> int:
        two = self._second_connection and tree.two_at_once and self._size.two_at_once
        return self._size.chats * (2 if two else 1)

    async def _delete(self, survey: Survey, page: Page, report: PurgeReport) -> None:
        """Delete a batch, or two at once. A refused batch is halved repeatedly until each refused row is alone."""
        alone = [page] if len(page) <= self._size.chats else await self._delete_two(survey, page, report)
        parts, left = [(part, TRIES) for part in alone], list[tuple["Page", _Refused]]()
        deleted_some = len(page) > sum(map(len, alone))
        while parts:
            part, tries = parts.pop()
            # The throttle let the first one through already; a stop leaves the rest for the next purge.
            if part is not page and await self._is_stopped(report):
                return
            refused = await self._try(survey, part, report, tries)
            if report.state == "interrupted":
                return
            if refused is None:
                deleted_some, self._alone = True, 0
            elif not may_be_of_single_rows(refused.error):
                # Each part would fail in the same way.
                left.append(([row for one in (part, *(one for one, _ in parts)) for row in one], refused))
                break
            elif len(part) == 1:
                self._alone += 1
                await self._fail(survey, part, report, refused)
            elif deleted_some or self._alone < MOST_ALONE:
                middle = len(part) // 2
                parts += [(part[middle:], AGAIN), (part[:middle], AGAIN)]
            else:
                left.append((part, refused))
            if deleted_some and not parts:
                # Some rows could be deleted, so others among the rest may be, too.
                parts, left = [(one, AGAIN) for one, _ in left], []
        for part, refused in left:
            await self._fail(survey, part, report, refused)
        self._failures = 0 if deleted_some else self._failures + 1
        self._options.progress.advance(len(page))

    async def _delete_two(self, survey: Survey, page: Page, report: PurgeReport) -> list[Page]:
        """Delete both halves of a page at once, on two connections; return those that failed, to be deleted alone.

        A failed half is tried again by the caller, which divides it and names the refused rows.
        """
        second, first = page[len(page) // 2 :], page[: len(page) // 2]
        async with AsyncExitStack() as opened:
            try:
                connection = await opened.enter_async_context(self._context.pool.acquire())
            except UnreachableError:
                # The server has no free connection. Do not ask again for each page: a pooler would let each request wait.
                self._second_connection = False
                return [second, first]
            # Wait for both, even if one fails.
            tried = await asyncio.gather(
                self._try(survey, second, report, 1, connection),
                self._try(survey, first, report, 1),
                return_exceptions=True,
            )
        for outcome in tried:
            if isinstance(outcome, BaseException):
                raise outcome
        return [half for half, refused in zip((second, first), tried, strict=True) if refused is not None]

    async def _try(
        self, survey: Survey, page: Page, report: PurgeReport, tries: int, connection: Conn | None = None
    ) -> _Refused | None:
        """Delete a page in one transaction, and count it; return the error that persisted, if any."""
        connection = connection or self._connection
        for attempt in range(1, tries + 1):
            began = time.monotonic()
            try:
                async with AsyncExitStack() as turn:
                    ending = self._end(connection, alone=tries > 1)
                    batch = Batch(
                        connection, survey.tree, survey.values, partial(turn.enter_async_context, ending)
                    )
                    async with self._transaction(connection):
                        removed = await batch.remove(page)
                        after = await self._record(survey, report, removed, connection)
                    _reach(survey, page, report)
                    self._count(survey.tree, report, removed, after)
            except (ChangedError, *LOST, asyncpg.PostgresError) as error:
                if ends_the_pass(error):
                    raise
                if attempt == tries or not may_pass(error):
                    return _Refused(error, batch.at)
                await self._options.stop.wait(0.1 * 2**attempt)
                # Each try may wait for a lock again; on a stop leave the page to the next purge.
                if self._options.stop.asked:
                    report.state = "interrupted"
                    return None
            else:
                self._size.learn(len(page), removed.rows.total(), time.monotonic() - began)
                await self._gate.count(removed.rows.total())
                return None
        return None

    @asynccontextmanager
    async def _end(self, connection: Conn, *, alone: bool) -> AsyncIterator[None]:
        """Let batches commit one after the other: each records the counts of all before it, too."""
        async with self._ending:
            if self._unknown:
                raise ChangedError("it is not known whether the concurrent batch was committed")
            try:
                if not alone:
                    # The server does not detect a deadlock with a writer that waits for the other batch, which waits here.
                    await connection.execute("SET LOCAL lock_timeout = '2s'")
                yield
            except (ChangedError, asyncpg.PostgresError) as error:
                self._unknown = ends_the_pass(error)
                raise
            except BaseException:
                self._unknown = True
                raise

    async def _empty(self, survey: Survey, partition: Partition, report: PurgeReport) -> None:
        removed = after = None
        # If this fails, its rows are deleted in batches, which report the reason.
        with _log_refusal("partition_not_emptied", partition):
            async with self._transaction():
                removed = await Emptying(self._connection, survey.tree, survey.values, partition).empty()
                after = await self._record(survey, report, removed) if removed is not None else None
        if removed is not None and after is not None:
            self._options.progress.advance(removed.chats)
            if survey.tree.is_chat:
                report.reach(removed.chats)
            self._count(survey.tree, report, removed, after)
            await self._gate.count(removed.rows.total())

    async def _drop(self, tree: Tree, partition: Partition, report: PurgeReport) -> None:
        dropped = False
        # If this fails, the partition stays empty, and the next purge tries again.
        with _log_refusal("partition_not_dropped", partition):
            async with self._connection.transaction():
                await self._lease.check(self._connection)
                dropped = await drop_if_empty(self._connection, tree, partition)
        if dropped:
            report.partitions_dropped.append(partition.name)

    async def _record(
        self, survey: Survey, report: PurgeReport, removed: Removed, connection: Conn | None = None
    ) -> Counter[str]:
        """Record the removed rows in the ledger, in the transaction of the batch; return the new counts."""
        after = Counter(report.entities)
        after.update(removed.rows)
        chats = report.chats + (removed.chats if survey.tree.is_chat else 0)
        deleted = {"rows": dict(removed.rows), "chats": removed.ids, "partition": removed.partition}
        updated = replace(report, entities=after, chats=chats)
        await self._note(updated, deleted if removed.rows.total() else None, connection)
        return after

    def _count(self, tree: Tree, report: PurgeReport, removed: Removed, after: Counter[str]) -> None:
        report.entities = after
        if tree.is_chat:
            report.chats += removed.chats
            report.kept["changed"] += removed.changed

    async def _fail(self, survey: Survey, page: Page, report: PurgeReport, refused: _Refused) -> None:
        """Count the refused rows; name a row that was refused alone."""
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
def _log_refusal(event: str, partition: Partition) -> Iterator[None]:
    """Leave a partition unchanged if the database refuses, and log the reason."""
    log = get_logger(partition=partition.name)
    try:
        yield
    except (ChangedError, *LOST, asyncpg.PostgresError) as error:
        if ends_the_pass(error):
            raise
        # A lasting reason is a warning: a view on the partition, a trigger that raises.
        passing = may_pass(error) or isinstance(error, asyncpg.NotNullViolationError)
        (log.info if passing else log.warning)(event, reason=reason_in_words(error))
