"""The removal of orphans: batches of missing chats, and of rows that name no chat, each in a transaction of its own.

A row may be visible before its chat, which another transaction is about to write or to commit. So each batch compares with
the chats again in the statement that judges it; after its deletions it waits for the transactions that write chats, holds
off others for one check, and is rolled back if one of its chats was added. A chat that is written later cannot be detected: only
an import writes messages that are older than the date before their chats, and the documents say not to purge meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.model.errors import Refusal, StoreLimit
from retentiond.model.purge import MOST_FAILED_ROWS
from retentiond.targets.chat_database.batch import BY_KEY, ChangedError
from retentiond.targets.chat_database.batches import FAILURES, TRIES, Batches, count_refused
from retentiond.targets.chat_database.orphan_batch import MOST_ROWS, OrphanBatch
from retentiond.targets.chat_database.orphans import search_orphans
from retentiond.targets.chat_database.refused_rows import (
    ends_the_pass,
    may_be_of_single_rows,
    may_pass,
    name_refusal,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.purge import PurgeReport
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.context import ChatContext
    from retentiond.targets.chat_database.orphan_batch import RemovedOrphans
    from retentiond.targets.chat_database.orphans import OrphanSearch


_MOST_REFUSED: Final = 20
"""Parts of a page that may be refused in a row before its other parts are not divided any more."""


Delete: TypeAlias = "Callable[[OrphanBatch, Sequence[Any]], Awaitable[RemovedOrphans]]"
"""The deletion of a page: of missing chats, or of rows that name no chat."""


class OrphanRemoval(Batches):
    """Deletes the orphans that a search found due, and counts them in the transaction that deletes them."""

    def __init__(
        self, context: ChatContext, search: OrphanSearch, lease: Lease, options: PassOptions, pass_id: int
    ) -> None:
        super().__init__(context, search.connection, lease, options, pass_id)
        self._search = search
        self._at: str | None = None

    async def run(self, report: PurgeReport) -> None:
        """Delete all due orphans; end early if a stop is requested, or if several batches in a row are refused."""
        size = self._context.config.pace.batch
        await self._search.list_unlinked()
        last = await self._delete_missing(self._search.pages(size), report)
        if self._failures >= FAILURES:
            # Rows that are refused at every run collect at the beginning, before new ones.
            self._failures = 0
            await self._delete_missing(self._search.pages(size, backward=True, end=last), report)
        self._failures = 0
        async for unlinked in self._search.unlinked_pages(size):
            if not await self._may_go_on(report):
                return
            await self._delete(unlinked, OrphanBatch.unlinked, report)

    async def _delete_missing(self, pages: AsyncIterator[list[tuple[Any, int]]], report: PurgeReport) -> Any:
        """Delete the rows of missing chats, a page after the other; return the last key that was reached."""
        last = None
        async for page in pages:
            for part in _bounded(page):
                if not await self._may_go_on(report):
                    return last
                await self._delete(part, OrphanBatch.of_missing, report)
                last = part[-1][0]
        return last

    async def _delete(self, page: Sequence[Any], delete: Delete, report: PurgeReport) -> None:
        """Delete a page; one that is refused is halved until each refused row is alone."""
        parts, refused, deleted_some = [page], 0, False
        while parts:
            part = parts.pop()
            if part is not page and await self._is_stopped(report):
                return
            error = await self._try(part, delete, report)
            if error is None:
                refused, deleted_some = 0, True
                continue
            refused += 1
            if len(part) > 1 and may_be_of_single_rows(error) and refused < _MOST_REFUSED:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                await self._fail(part, error, report)
        self._failures = 0 if deleted_some else self._failures + 1

    async def _try(self, page: Sequence[Any], delete: Delete, report: PurgeReport) -> Exception | None:
        """Delete a page in as many transactions as its rows need; return the error that refused it."""
        attempt, more = 0, True
        while more:
            attempt += 1
            batch = OrphanBatch(self._search)
            try:
                async with self._transaction():
                    await self._connection.execute(BY_KEY)
                    removed = await delete(batch, page)
                    removed.rows = +removed.rows
                    await self._record(removed, report)
            except (ChangedError, *LOST, asyncpg.PostgresError) as error:
                if ends_the_pass(error):
                    raise
                if attempt >= TRIES or not may_pass(error):
                    self._at = batch.at
                    return error
                await self._options.stop.wait(0.1 * 2**attempt)
            else:
                report.orphans.removed.update(removed.rows)
                await self._gate.count(removed.rows.total())
                attempt, more = 0, removed.more
            if more and self._options.stop.asked:
                report.state = "interrupted"
                return None
        return None

    async def _record(self, removed: RemovedOrphans, report: PurgeReport) -> None:
        """Record the removed rows in the ledger, in the transaction that removes them."""
        if removed.rows:
            after = replace(report.orphans, removed=report.orphans.removed + removed.rows)
            deleted = {"orphans": True, "rows": dict(removed.rows), "chats": removed.chats}
            await self._note(replace(report, orphans=after), deleted)

    async def _fail(self, part: Sequence[Any], error: Exception, report: PurgeReport) -> None:
        """Count the refused rows; name a missing chat that was refused alone."""
        log = get_logger(account=report.account)
        reason = count_refused(report, len(part), error)
        alone = len(part) == 1 and isinstance(part[0], tuple) and len(report.failures) < MOST_FAILED_ROWS
        if not alone:
            log.error("item_failed", reason=reason, items=len(part), error=report.error)
            return
        failure = await name_refusal(self._connection, error, self._at, row=part[0][0], entity=None)
        report.failures.append(failure)
        log.error("item_failed", items=1, **failure.as_json())


def _bounded(page: list[tuple[Any, int]]) -> list[list[tuple[Any, int]]]:
    """Split a page into parts of at most the rows of one transaction; a chat with more rows is a part of its own."""
    parts: list[list[tuple[Any, int]]] = [[]]
    rows = 0
    for key, items in page:
        if parts[-1] and rows + items > MOST_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append((key, items))
        rows += items
    return parts


async def survey_orphans(connection: Conn, purge: AccountPurge, *, limited: bool) -> None:
    """Count the orphans before anything is deleted, and refuse those that look like the rows of a lost table of chats.

    `limited`: the limits of scheduled purges hold.
    """
    report = purge.report.orphans
    report.requested = purge.request.orphans
    search = await search_orphans(connection, purge)
    report.found = await search.find()
    if report.requested and report.found.due.total():
        report.refused = await _refuse(search.database_has_chats, purge, limited=limited)


async def purge_orphans(
    purge: AccountPurge, lease: Lease, options: PassOptions, pass_id: int, connection: Conn
) -> None:
    """Delete the orphans that are due, if requested and not refused; then count the remaining ones."""
    if purge.erasure_request is not None:
        # A request for one visitor does not report on the rest of the account.
        return
    report = purge.report.orphans
    search = await search_orphans(connection, purge)
    if report.requested and report.refused is None and report.found is not None and report.found.due.total():
        await OrphanRemoval(purge.context, search, lease, options, pass_id).run(purge.report)
    if purge.report.state == "interrupted" or options.stop.asked:
        return
    now = await options.stop.unless_asked(search.find())
    if report.requested:
        report.left = now
    else:
        report.found = now


async def _refuse(
    database_has_chats: Callable[[], Awaitable[bool]], purge: AccountPurge, *, limited: bool
) -> Refusal | None:
    """Refuse if the table of chats looks emptied, detached or not filled yet: its rows are not orphans then."""
    missing, chats = purge.report.orphans.chats_due, purge.report.all_chats
    if not await database_has_chats():
        return Refusal(
            StoreLimit("orphans_without_chats"),
            "no chats",
            "at least one chat",
            "the table of chats is empty, and every row looks like one of a missing chat: restore it, or attach its "
            "partitions, then run it again",
        )
    limits, share = purge.context.config.limits, missing / max(1, missing + chats)
    finding = (
        f"rows of {missing} missing chats of {purge.request.account} would be deleted; the database has {chats} "
        "chats of the account"
    )
    next_step = f"look with `retentiond plan {purge.context.name}`, and if it is right, run `retentiond once {purge.context.name} --yes`"
    if limited and share > limits.max_share:
        return Refusal("max_share", round(share, 4), limits.max_share, f"{finding}; {next_step}")
    if limited and missing > limits.max_items:
        return Refusal("max_items", missing, limits.max_items, f"{finding}; {next_step}")
    return None
