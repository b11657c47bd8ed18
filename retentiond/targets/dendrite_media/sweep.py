"""Sweeps: they finish what a crash left open, give back what rows want, and purge what has waited long enough.

They work by claims, beside a pass and beside each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.ledger.host import read_clock
from retentiond.model.report import SweepReport
from retentiond.targets.dendrite_media.bring_back import live_blobs
from retentiond.targets.dendrite_media.database import SQL, entry_path
from retentiond.targets.dendrite_media.inventory import take_stock
from retentiond.targets.dendrite_media.purge import purge_due
from retentiond.targets.dendrite_media.quarantine import return_to_rows
from retentiond.targets.dendrite_media.recovery import recover
from retentiond.targets.dendrite_media.strays import sweep_strays
from retentiond.targets.dendrite_media.thumbnail_rows import sweep_thumbnail_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Record

    from retentiond.targets.dendrite_media.workplace import Workplace

_SMALLEST_CLOCK_CHANGE: Final = 1.0


async def sweep(work: Workplace, *, everything: bool) -> SweepReport:
    """Do one sweep: what is open, what is wanted, what is due; `everything` takes stock of the disk, too."""
    report = SweepReport()
    if work.fit == "new":
        return report
    await recover(work, report)
    await _look_at_quarantined(work, report, everything=everything)
    await _look_at_returned(work, report)
    if everything:
        report.unknown += await take_stock(work)
    # With a database that was put back nothing goes, and with a clock that leapt no time is over.
    if work.fit == "fits":
        await sweep_thumbnail_rows(work, everything=everything)
        await sweep_strays(work, report)
        await purge_due(work, report)
        await work.place.ledger.note_clock(work.place.pool, read_clock()) if not work.leap_refused else None
    if any(getattr(report, name) for name in report.__slots__):
        get_logger(target=work.place.name).info(
            "sweep_finished", **{name: getattr(report, name) for name in report.__slots__}
        )
    return report


async def _look_at_quarantined(work: Workplace, report: SweepReport, *, everything: bool) -> None:
    async for page in claimed_pages(work, "look_quarantined", everything):
        report.returned += await return_to_rows(work, [entry_path(row) for row in page if row["wanted"]])


async def _look_at_returned(work: Workplace, report: SweepReport) -> None:
    async for page in claimed_pages(work, "claim_returned"):
        wanted = [entry_path(row) for row in page if row["wanted"]]
        report.returned += await put_back_where_gone(work, [entry for entry in wanted])
        await _change(
            work, "entries_quarantined_again", [row["entry_id"] for row in page if not row["wanted"]]
        )
