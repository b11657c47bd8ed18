"""Sweeps: they finish what a crash left open, give back what rows want, and purge what has waited long enough.

They work by claims, beside a pass and beside each other.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.clocks import check_leap
from retentiond.ledger.host import read_clock
from retentiond.model.errors import RefusedError
from retentiond.model.report import SweepReport
from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.holds.held import any_hold
from retentiond.targets.dendrite_media.quarantine.entries import quarantine_again, return_to_rows
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, Claim, change, claimed_pages
from retentiond.targets.dendrite_media.references.copies import LARGEST_AGE
from retentiond.targets.dendrite_media.restore.wanted import (
    restore_held,
    restore_newly_protected,
    restore_refuted,
    restore_refuted_thumbnails,
)
from retentiond.targets.dendrite_media.store.workplace import open_workplace
from retentiond.targets.dendrite_media.surveys.asked import references_asked_again
from retentiond.targets.dendrite_media.sweeps.inventory import take_stock
from retentiond.targets.dendrite_media.sweeps.purge import purge_due
from retentiond.targets.dendrite_media.sweeps.recovery import clear_staging, recover
from retentiond.targets.dendrite_media.sweeps.strays import sweep_strays
from retentiond.targets.dendrite_media.sweeps.thumbnail_rows import sweep_thumbnail_rows

if TYPE_CHECKING:
    from retentiond.targets.dendrite_media.store.workplace import Place, Workplace

SQL: Final = named_queries(__package__, "sweep.sql")

_PROTECTIONS_EVERY: Final = timedelta(hours=1)
"""How old the copy may be by which a sweep of everything gives back; a purge's is younger."""


async def sweep_store(
    place: Place, *, everything: bool, fresh: bool = False, purging: bool = True
) -> SweepReport:
    """Open the store anew and do one sweep, as `sweep` does."""
    async with open_workplace(place) as work:
        return await sweep(work, everything=everything, fresh=fresh, purging=purging)


async def sweep(
    work: Workplace, *, everything: bool, fresh: bool = False, purging: bool = True
) -> SweepReport:
    """Do one sweep: what is open, what is wanted, what is due.

    `everything` looks at all entries and at the disk, too, and tries again what failed; `fresh` asks for protections read from now on;
    without `purging` nothing leaves for good.
    """
    report = SweepReport()
    if work.fit == "new":
        return report
    await recover(work, report, everything=everything, purging=purging)
    await _look_at_quarantined(work, report, everything=everything)
    await _look_at_returned(work, report, everything=everything)
    if everything:
        await clear_staging(work, report)
        report.unknown += await take_stock(work)
    # With a database that was put back nothing goes.
    if work.fit == "fits":
        await _restore_held(work, report, everything=everything)
        if everything:
            await _restore_wanted(work, report)
        await sweep_thumbnail_rows(work, everything=everything)
        if purging:
            await _let_go(work, report, everything=everything, fresh=fresh)
    _tell(work, report)
    return report


async def _look_at_quarantined(work: Workplace, report: SweepReport, *, everything: bool) -> None:
    async for page in claimed_pages(work, Claim.LOOK, everything):
        report.returned += await return_to_rows(work, [entry_path(row) for row in page if row["wanted"]])


async def _look_at_returned(work: Workplace, report: SweepReport, *, everything: bool) -> None:
    async for page in claimed_pages(work, Claim.RETURNED, everything):
        report.returned += await return_to_rows(work, [entry_path(row) for row in page if row["wanted"]])
        unwanted = [row for row in page if not row["wanted"]]
        if work.fit == "fits":
            await quarantine_again(work, unwanted)
        else:
            # An older database does not know who bears it now.
            await change(work, Change.LET_GO, [row["entry_id"] for row in unwanted])


async def _restore_held(work: Workplace, report: SweepReport, *, everything: bool) -> None:
    if not await any_hold(work.place.pool):
        return
    if everything:
        try:
            async with work.place.pool.acquire() as connection:
                now = await connection.fetchval("SELECT clock_timestamp()")
                await work.place.hold_references.refresh(connection, begun_after=now - LARGEST_AGE)
        except RefusedError as error:
            # What was held already comes back; and the purge, which asks anew, is refused.
            get_logger(target=work.place.name).warning("holds_unread", **asdict(error.refusal))
    report.restored += await restore_held(work)


async def _restore_wanted(work: Workplace, report: SweepReport) -> None:
    """Bring back what a protection wants, and what would not be released any more."""
    pool = work.place.pool
    if not await pool.fetchval(SQL["any_released"]):
        return
    references = await references_asked_again(work.place, pool)
    oldest = await pool.fetchval("SELECT clock_timestamp()") - _PROTECTIONS_EVERY
    try:
        if references.protections:
            report.restored += await restore_newly_protected(work, references, begun_after=oldest)
        report.restored += await restore_refuted(work, references, begun_after=oldest)
        report.restored += await restore_refuted_thumbnails(work, references, begun_after=oldest)
    except RefusedError as error:
        # The purge asks anew, and is refused as well.
        get_logger(target=work.place.name).warning("protections_unread", **asdict(error.refusal))


async def _let_go(work: Workplace, report: SweepReport, *, everything: bool, fresh: bool) -> None:
    logged = work.place.logged_refusals
    try:
        # With a clock that leapt no time is over, whatever the clock says.
        check_leap(work.leap, work.place.name)
        await work.place.ledger.note_clock(work.place.pool, read_clock())
        await sweep_strays(work, report, everything=everything)
        await purge_due(work, report, everything=everything, fresh=fresh)
    except RefusedError as error:
        report.refused = error.refusal
        # A daemon sweeps once a minute, and everything once an hour.
        if everything or error.refusal.limit not in logged:
            get_logger(target=work.place.name).warning("purge_refused", **asdict(error.refusal))
        logged.add(error.refusal.limit)
    else:
        logged.clear()


def _tell(work: Workplace, report: SweepReport) -> None:
    counts = asdict(report)
    del counts["refused"]
    if any(counts.values()):
        get_logger(target=work.place.name).info("sweep_finished", **counts)
