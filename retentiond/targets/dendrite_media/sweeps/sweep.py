"""Sweeps: finish the steps of dead processes, return blobs to rows, and purge expired entries.

They work by claims, beside a pass and beside each other.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.clocks import note_clock
from retentiond.model.errors import RefusedError
from retentiond.model.media import valid_hash
from retentiond.model.report import SweepReport
from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.disk.bring_back import live_blobs
from retentiond.targets.dendrite_media.disk.layout import Thumbnail
from retentiond.targets.dendrite_media.holds.holds import any_hold
from retentiond.targets.dendrite_media.quarantine.entries import quarantine_again, return_to_rows
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, Claim, change, claimed_pages
from retentiond.targets.dendrite_media.quarantine.released_rows import put_off_graces
from retentiond.targets.dendrite_media.references.copies import LARGEST_AGE
from retentiond.targets.dendrite_media.restore.wanted import (
    restore_held,
    restore_newly_protected,
    restore_refuted,
)
from retentiond.targets.dendrite_media.store.context import open_store
from retentiond.targets.dendrite_media.surveys.asked import references_asked_again
from retentiond.targets.dendrite_media.sweeps.inventory import take_stock
from retentiond.targets.dendrite_media.sweeps.purge import purge_due
from retentiond.targets.dendrite_media.sweeps.recovery import clear_staging, recover
from retentiond.targets.dendrite_media.sweeps.strays import sweep_strays

if TYPE_CHECKING:
    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.ledger.clocks import Gap
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext

SQL: Final = named_queries(__package__, "sweep.sql")

_PROTECTIONS_EVERY: Final = timedelta(hours=1)
"""The largest age of the copy by which a sweep of everything restores; a purge's is younger."""
ROWS_SQL: Final = named_queries(__package__, "thumbnail_rows.sql")

_KEY = ("media_id", "media_origin", "width", "height", "resize_method")
_PAGE = 1000
_NOTHING_YET = ("", "", 0, 0, "")


async def sweep_store(
    context: TargetContext,
    *,
    everything: bool,
    fresh: bool = False,
    purging: bool = True,
    stock: bool = True,
) -> SweepReport:
    """Open the store anew and sweep once, as `sweep` does."""
    async with open_store(context) as session:
        return await sweep(session, everything=everything, fresh=fresh, purging=purging, stock=stock)


async def sweep(
    session: StoreSession,
    *,
    everything: bool,
    fresh: bool = False,
    purging: bool = True,
    stock: bool = True,
) -> SweepReport:
    """Sweep once: open steps, needed entries, expired entries.

    `everything` reads all entries and the disk, too, and tries failed steps again; `fresh` requires protections read
    from now on; without `purging` no entry is deleted for good; without `stock` the quarantine on the disk is not listed:
    this process has just done it.
    """
    report = SweepReport()
    if session.fit == "new":
        return report
    await recover(session, report, everything=everything, purging=purging)
    await _look_at_quarantined(session, report, everything=everything)
    await _look_at_returned(session, report, everything=everything)
    if everything:
        await clear_staging(session, report)
        if stock:
            report.unknown += await take_stock(session)
    # With a database restored from a backup no entry is purged.
    if session.fit == "fits":
        await _restore_held(session, report, everything=everything)
        if everything:
            await _restore_wanted(session, report)
        await sweep_thumbnail_rows(session, everything=everything)
        if purging:
            await _let_go(session, report, everything=everything, fresh=fresh)
    _tell(session, report)
    return report


async def note_store_clock(context: TargetContext) -> None:
    """Check this machine's clock and note it; graces are put off by a gap. Raise RefusedError for a clock that may be wrong."""

    async def put_off(connection: Conn, gap: Gap) -> None:
        await put_off_graces(connection, gap, context.config.grace)

    async with context.pool.acquire() as connection:
        await note_clock(connection, context.name, put_off)


async def _look_at_quarantined(session: StoreSession, report: SweepReport, *, everything: bool) -> None:
    async for page in claimed_pages(session, Claim.LOOK, everything):
        report.returned += await return_to_rows(session, [entry_path(row) for row in page if row["wanted"]])


async def _look_at_returned(session: StoreSession, report: SweepReport, *, everything: bool) -> None:
    async for page in claimed_pages(session, Claim.RETURNED, everything):
        report.returned += await return_to_rows(session, [entry_path(row) for row in page if row["wanted"]])
        unwanted = [row for row in page if not row["wanted"]]
        if session.fit == "fits":
            await quarantine_again(session, unwanted)
        else:
            # An older database does not know the present rows of the blobs.
            await change(session, Change.LET_GO, [row["entry_id"] for row in unwanted])


async def _restore_held(session: StoreSession, report: SweepReport, *, everything: bool) -> None:
    if not await any_hold(session.context.pool):
        return
    if everything:
        try:
            async with session.context.pool.acquire() as connection:
                now = await connection.fetchval("SELECT clock_timestamp()")
                await session.context.hold_references.refresh(connection, begun_after=now - LARGEST_AGE)
        except RefusedError as error:
            # Held entries are restored already; and the purge, which reads the sources again, is refused.
            get_logger(target=session.context.name).warning("holds_unread", **asdict(error.refusal))
    report.restored += await restore_held(session)


async def _restore_wanted(session: StoreSession, report: SweepReport) -> None:
    """Restore the entries that a protection keeps, and those whose release would not be repeated."""
    pool = session.context.pool
    if not await pool.fetchval(SQL["any_released"]):
        return
    references = await references_asked_again(session.context, pool)
    oldest = await pool.fetchval("SELECT clock_timestamp()") - _PROTECTIONS_EVERY
    try:
        if references.protections:
            report.restored += await restore_newly_protected(session, references, begun_after=oldest)
        report.restored += await restore_refuted(session, references, begun_after=oldest)
        report.restored += await restore_refuted(session, references, begun_after=oldest, alone=True)
    except RefusedError as error:
        # The purge reads the sources again, and is refused as well.
        get_logger(target=session.context.name).warning("protections_unread", **asdict(error.refusal))


async def _let_go(session: StoreSession, report: SweepReport, *, everything: bool, fresh: bool) -> None:
    logged = session.context.logged_refusals
    try:
        # After a leap of the clock no end of a grace is known.
        await note_store_clock(session.context)
        await sweep_strays(session, report, everything=everything)
        await purge_due(session, report, everything=everything, fresh=fresh)
    except RefusedError as error:
        report.refused = error.refusal
        # A daemon sweeps once a minute, and everything once an hour.
        if everything or error.refusal.limit not in logged:
            get_logger(target=session.context.name).warning("purge_refused", **asdict(error.refusal))
        logged.add(error.refusal.limit)
    else:
        logged.clear()


def _tell(session: StoreSession, report: SweepReport) -> None:
    counts = asdict(report)
    del counts["refused"]
    if any(counts.values()):
        get_logger(target=session.context.name).info("sweep_finished", **counts)


async def sweep_thumbnail_rows(session: StoreSession, *, everything: bool) -> None:
    """Delete late rows without a media row; and, at the second sweep, rows whose file is missing beside a live one."""
    pool = session.context.pool
    status = await pool.execute(ROWS_SQL["drop_late_thumbnail_rows"], everything)
    if status != "DELETE 0":
        get_logger(target=session.context.name).info("late_thumbnail_rows", status=status)
    after: tuple[object, ...] = _NOTHING_YET
    while rows := await pool.fetch(ROWS_SQL["thumbnails_of_returned_keys"], everything, _PAGE, *after):
        after = tuple(rows[-1][name] for name in _KEY)
        await _drop_dead(session, rows)
    await pool.execute(ROWS_SQL["clear_suspects"])


async def _drop_dead(session: StoreSession, rows: list[Record]) -> None:
    pool = session.context.pool
    dead = await _without_file(session, rows)
    if dead:
        await pool.execute(ROWS_SQL["suspect_thumbnails"], *_columns(dead))
    confirmed = [row for row in dead if row["suspect"]]
    if confirmed:
        await pool.execute(ROWS_SQL["drop_dead_thumbnails"], *_columns(confirmed))


async def _without_file(session: StoreSession, rows: list[Record]) -> list[Record]:
    hashes = sorted({blob for row in rows if (blob := valid_hash(row["hash"]))})
    live = {blob.blob: blob for blob in await session.context.disk.share(live_blobs(session.tree), hashes)}
    return [
        row
        for row in rows
        if row["hash"] in live
        and live[row["hash"]].size is not None
        and Thumbnail(row["width"], row["height"], row["resize_method"]) not in live[row["hash"]].thumbnails
    ]


def _columns(rows: list[Record]) -> tuple[list[object], ...]:
    return tuple([row[name] for row in rows] for name in _KEY)
