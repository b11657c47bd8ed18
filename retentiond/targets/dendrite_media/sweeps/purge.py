"""Purge: expired entries are deleted for good, after grace, settle, and a last check.

The last check reads rows, holds, protections and the facts of the releases, once for the whole batch; the references
were read after settle.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.past import count_purged
from retentiond.ledger.records import add_record
from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.disk.bring_back import dispensable
from retentiond.targets.dendrite_media.disk.moves import purge_entries
from retentiond.targets.dendrite_media.holds.holds import due_rows_without_entry
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import purged_record
from retentiond.targets.dendrite_media.quarantine.entries import (
    mark_purging,
    quarantine_again,
    return_to_rows,
)
from retentiond.targets.dendrite_media.quarantine.entry_table import (
    Change,
    Claim,
    change,
    change_on,
    claimed_pages,
    forget_lost,
)
from retentiond.targets.dendrite_media.quarantine.refused_moves import give_up
from retentiond.targets.dendrite_media.references.copies import LARGEST_AGE
from retentiond.targets.dendrite_media.restore.wanted import Wanted, find_wanted, restore_wanted
from retentiond.targets.dendrite_media.surveys.asked import references_asked_again

if TYPE_CHECKING:
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
    try:
        async for page in claimed_pages(session, Claim.DUE, read_at, everything):
            unwanted, spares = await _look_last(session, report, page, references, copy)
            marked = await _mark(session, unwanted)
            if unlinking is not None:
                await unlinking
            # An upload that fails removes a live file at any moment, so the spare copies are asked for right before.
            marked += await _mark(session, await _dispensable(session, report, spares))
            # While one batch is unlinked, the next is claimed and asked for: never more.
            unlinking = asyncio.create_task(finish_purge(session, report, marked))
    finally:
        if unlinking is not None:
            await unlinking
    await _forget(session, report)


async def _look_last(
    session: StoreSession, report: SweepReport, page: list[Record], references: References, copy: Copy | None
) -> tuple[list[Record], list[Record]]:
    """Look a last time at a page of expired entries; return those that nothing needs, and the spare copies."""
    unwanted = [row for row in page if row["state"] == "quarantined" and not row["wanted"]]
    report.returned += await return_to_rows(
        session, [entry_path(row) for row in page if row["state"] == "quarantined" and row["wanted"]]
    )
    # A spare copy whose rows were deleted is a copy like any other again, and waits anew.
    await quarantine_again(session, [row for row in page if row["state"] == "returned" and not row["wanted"]])
    spares = [row for row in page if row["state"] == "returned" and row["wanted"]]
    last = unwanted + spares
    wanted = await _ask(session, [row["hash"] for row in last], references, copy)
    report.restored += await restore_wanted(session, wanted, last)
    later = [row["entry_id"] for row in last if row["hash"] in wanted.blobs - wanted.back]
    await change(session, Change.LET_GO, later)
    unwanted, spares = (
        [row for row in rows if row["hash"] not in wanted.blobs] for rows in (unwanted, spares)
    )
    return unwanted, spares


async def _ask(session: StoreSession, blobs: list[Hash], references: References, copy: Copy | None) -> Wanted:
    if not blobs:
        return Wanted()
    async with session.context.pool.acquire() as connection:
        if copy is None:
            return await find_wanted(session.context, connection, references, None, blobs)
        async with references.held(connection, begun_after=copy.begun_at) as held:
            return await find_wanted(session.context, connection, references, held, blobs)


async def _dispensable(session: StoreSession, report: SweepReport, spares: list[Record]) -> list[Record]:
    """Return the spare copies whose live file is whole; put the others in its place."""
    if not spares:
        return []
    whole = await session.context.disk.share(dispensable(session.tree), [entry_path(row) for row in spares])
    needed = [entry_path(row) for row, is_whole in zip(spares, whole, strict=True) if not is_whole]
    report.returned += await return_to_rows(session, needed)
    return [row for row, is_whole in zip(spares, whole, strict=True) if is_whole]


async def _mark(session: StoreSession, rows: list[Record]) -> list[Record]:
    marked = await mark_purging(session, rows)
    # Held since the sweep looked: the next one restores it.
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
        await count_purged(connection, [(row["pass_id"], row["bytes"]) for row in closed])
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
