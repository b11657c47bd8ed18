"""Purge: expired entries are deleted for good, after grace, settle, and a last check.

The last check reads rows, holds, protections and the facts of the releases, once for the whole batch; the references
were read after settle.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.records import add_record
from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.disk.bring_back import dispensable
from retentiond.targets.dendrite_media.disk.moves import purge_entries
from retentiond.targets.dendrite_media.holds.holds import due_rows_without_entry, lock_known_holds
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import purged_record
from retentiond.targets.dendrite_media.quarantine.entries import (
    mark_purging,
    measure_shared,
    quarantine_again,
    return_to_rows,
)
from retentiond.targets.dendrite_media.quarantine.entry_table import (
    Change,
    change,
    change_on,
    claim_locked,
    due_purging,
    forget_lost,
    lock_due,
)
from retentiond.targets.dendrite_media.quarantine.refused_moves import give_up
from retentiond.targets.dendrite_media.references.copies import LARGEST_AGE
from retentiond.targets.dendrite_media.restore.wanted import Wanted, find_wanted, restore_wanted
from retentiond.targets.dendrite_media.surveys.asked import references_asked_again

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Record

    from retentiond.model.media import Hash
    from retentiond.model.report import SweepReport
    from retentiond.targets.dendrite_media.references.copies import Copy, References
    from retentiond.targets.dendrite_media.store.context import StoreSession

SQL: Final = named_queries(__package__, "purge.sql")


async def purge_due(
    session: StoreSession, report: SweepReport, *, everything: bool, fresh: bool = False
) -> None:
    """Purge every expired entry; `fresh` requires a copy of the protections that begins now.

    With `everything` a purge that failed is tried again at any time.
    """
    context = session.context
    async with context.pool.acquire() as connection:
        if not await connection.fetchval(SQL["any_due_entry"], everything):
            await _forget(session, report)
            return
        now = await connection.fetchval("SELECT clock_timestamp()")
        oldest = now if fresh else now - LARGEST_AGE
        references = await references_asked_again(context, connection)
        copy = await references.copy(connection, begun_after=oldest)
        reading = await context.hold_references.refresh(connection, begun_after=oldest)
    # References that were read during an entry's settle prove nothing about it.
    read_at = min(now, copy.begun_at if copy else now, reading or now)
    unlinking: asyncio.Task[None] | None = None
    after: int | None = 0
    try:
        while after is not None:
            page = await _look_last(session, after, read_at, references, copy, everything=everything)
            if page is None:
                async with context.pool.acquire() as connection:
                    await context.hold_references.refresh(connection, begun_after=read_at)
                continue
            after = page.last
            if unlinking is not None:
                await unlinking
            # While one batch is unlinked, the next is claimed and asked for: never more.
            unlinking = asyncio.create_task(_unlink(session, report, page.purging))
            await _keep(session, report, page)
            if page.spares:
                await unlinking
                # An upload that fails removes a live file at any moment: the spares are asked for right before.
                marked = await _mark(session, await _dispensable(session, report, page.spares))
                unlinking = asyncio.create_task(finish_purge(session, report, marked))
    finally:
        if unlinking is not None:
            await unlinking
    await _forget(session, report)


@dataclass(slots=True)
class _Page:
    """A page of expired entries after the last look, all claimed. `last`: the next begins there.

    `purging` are marked. `returning` have a row. `alone` are spare copies without a row, `spares` those with one.
    """

    purging: list[Record] = field(default_factory=list)
    returning: list[Record] = field(default_factory=list)
    alone: list[Record] = field(default_factory=list)
    spares: list[Record] = field(default_factory=list)
    needed: list[Record] = field(default_factory=list)
    wanted: Wanted = field(default_factory=Wanted)
    last: int | None = None


async def _look_last(
    session: StoreSession,
    after: int,
    read_at: datetime,
    references: References,
    copy: Copy | None,
    *,
    everything: bool,
) -> _Page | None:
    """Lock a page of expired entries, look a last time, and claim them: those that nothing needs for their purge.

    None if a hold was added meanwhile whose references have not been read: read them, and begin again.
    """
    page = _Page()
    async with session.context.pool.acquire() as connection, AsyncExitStack() as opened:
        held = None
        if copy is None:
            await opened.enter_async_context(connection.transaction())
        else:
            held = await opened.enter_async_context(references.held(connection, begun_after=copy.begun_at))
        if not await lock_known_holds(connection):
            return None
        rows = await lock_due(connection, session, after, read_at, everything=everything)
        if not rows:
            return page
        if len(rows) == session.context.batch:
            page.last = rows[-1]["entry_id"]
        last = [row for row in rows if (row["state"] == "returned") == row["wanted"]]
        if last:
            hashes = [row["hash"] for row in last]
            page.wanted = await find_wanted(session.context, connection, references, held, hashes)
        unwanted: list[Record] = []
        for row in rows:
            if row["wanted"] != (row["state"] == "returned"):
                (page.returning if row["wanted"] else page.alone).append(row)
            elif row["hash"] in page.wanted.back:
                page.needed.append(row)
            elif row["hash"] not in page.wanted.unknown:
                (page.spares if row["wanted"] else unwanted).append(row)
        marked = await due_purging(connection, session, [row["entry_id"] for row in unwanted])
        page.purging = [row for row in unwanted if row["entry_id"] in marked]
        claimed = (*page.returning, *page.alone, *page.needed, *page.spares)
        await claim_locked(connection, session, [row["entry_id"] for row in claimed])
    return page


async def _keep(session: StoreSession, report: SweepReport, page: _Page) -> None:
    """Return and restore the claimed entries of a page that are needed."""
    report.returned += await return_to_rows(session, [entry_path(row) for row in page.returning])
    # A spare copy whose rows were deleted is a copy like any other again, and waits anew.
    await quarantine_again(session, page.alone)
    report.restored += await restore_wanted(session, page.wanted, page.needed)


async def _unlink(session: StoreSession, report: SweepReport, rows: list[Record]) -> None:
    """Purge entries that are marked; before a file of theirs is gone, the ledger has the bytes that this frees."""
    if rows:
        await measure_shared(session, [entry_path(row) for row in rows])
    await finish_purge(session, report, rows)


async def _dispensable(session: StoreSession, report: SweepReport, spares: list[Record]) -> list[Record]:
    """Return the spare copies whose live file is whole; put the others in its place."""
    if not spares:
        return []
    whole = await session.context.disk.share(dispensable(session.tree), [entry_path(row) for row in spares])
    needed = [entry_path(row) for row, is_whole in zip(spares, whole, strict=True) if not is_whole]
    report.returned += await return_to_rows(session, needed)
    return [row for row, is_whole in zip(spares, whole, strict=True) if is_whole]


async def _mark(session: StoreSession, rows: list[Record]) -> list[Record]:
    marked = await mark_purging(session, rows, live=True)
    # Held since the look: the next sweep restores it.
    await change(session, Change.LET_GO, [row["entry_id"] for row in rows if row["entry_id"] not in marked])
    return [row for row in rows if row["entry_id"] in marked]


async def finish_purge(session: StoreSession, report: SweepReport, rows: list[Record]) -> None:
    """Unlink entries that are marked as purging and claimed by us, and delete their records."""
    if not rows:
        return
    entries = sorted((entry_path(row) for row in rows), key=lambda entry: (entry.pass_id, entry.hash))
    results = await session.context.disk.share(purge_entries(session.tree, session.claimant.guard), entries)
    failed = [result for result in results if result.outcome == "failed"]
    report.failed += len(failed)
    await give_up(session, failed)
    gone = [result.entry for result in results if result.outcome != "failed"]
    async with session.context.pool.acquire() as connection, connection.transaction():
        closed = await change_on(connection, session, Change.FORGOTTEN, [entry.entry_id for entry in gone])
        await released_rows.forget_purged(connection, {entry.hash for entry in gone})
        await session.context.ledger.count_purged(
            connection, [(row["pass_id"], row["bytes"]) for row in closed]
        )
        unlinked = [row for row in closed if row["files"]]
        if unlinked:
            await add_record(connection, purged_record(session.context.name, unlinked))
    report.purged += len(closed)
    report.purged_bytes += sum(row["bytes"] for row in closed)


async def _forget(session: StoreSession, report: SweepReport) -> None:
    """Delete copies of rows that never had an entry, and lost entries without any row left, by batches."""
    after = 0
    while page := await due_rows_without_entry(session, after):
        after = page[-1]["release_id"]
        # Their file is live, for another row: a row that is needed again can still be restored.
        wanted = await _ask_of_rows(session, sorted({row["hash"] for row in page if row["had_file"]}))
        report.restored += await restore_wanted(session, wanted)
        await released_rows.forget_without_entry(
            session, [row["release_id"] for row in page if row["hash"] not in wanted.blobs]
        )
    await forget_lost(session.context.pool)
    await released_rows.forget_thumbnails(session.context.pool)


async def _ask_of_rows(session: StoreSession, blobs: list[Hash]) -> Wanted:
    if not blobs:
        return Wanted()
    async with session.context.pool.acquire() as connection:
        references = await references_asked_again(session.context, connection)
        now = await connection.fetchval("SELECT clock_timestamp()")
        async with references.held(connection, begun_after=now - LARGEST_AGE) as held:
            return await find_wanted(session.context, connection, references, held, blobs)
