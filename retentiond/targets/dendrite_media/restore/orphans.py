"""Restore orphan blobs that a repair removed, and that have no row.

An orphan is an orphan again once it is back, and the next repair leaves it alone for a day, since its ctime is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.ledger.host import actor
from retentiond.ledger.records import add_record
from retentiond.model.media import Hash
from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back
from retentiond.targets.dendrite_media.disk.layout import blob_parts
from retentiond.targets.dendrite_media.disk.moves import purge_entries
from retentiond.targets.dendrite_media.quarantine.disposal import restored_orphans_record
from retentiond.targets.dendrite_media.quarantine.entries import mark_purging
from retentiond.targets.dendrite_media.quarantine.entry_table import (
    Change,
    Claim,
    change,
    change_on,
    claimed_pages,
)
from retentiond.targets.dendrite_media.quarantine.refused_moves import give_up

if TYPE_CHECKING:
    from asyncpg import Record

    from retentiond.model.report import RestoreReport
    from retentiond.targets.dendrite_media.store.context import StoreSession


def path_of(row: Record) -> str:
    """Return the path of an entry's blob below the media directory when it is restored."""
    return "/".join(blob_parts(Hash(row["hash"])))


async def restore_repaired(
    session: StoreSession, report: RestoreReport, pass_id: int | None, reason: str
) -> None:
    """Restore the blobs that repair `pass_id`, or every repair, removed; paths replace the URIs that orphans lack."""
    async for page in claimed_pages(session, Claim.ROWLESS, pass_id):
        await _bring_orphans(session, report, page, reason)


async def _bring_orphans(
    session: StoreSession, report: RestoreReport, page: list[Record], reason: str
) -> None:
    returns = [Return(entry_path(row), None) for row in page]
    results = await session.context.disk.share(bring_back(session.tree, session.claimant), returns)
    by_id = {row["entry_id"]: row for row in page}
    back = [by_id[result.entry.entry_id] for result in results if result.live.size is not None]
    await _close(session, back, reason)
    report.restored.extend(path_of(row) for row in back)
    left = [result for result in results if result.live.size is None]
    await change(session, Change.DEMOTED, [result.entry.entry_id for result in left])
    for result in left:
        # Thumbnails alone are of no use.
        names = report.failed if result.outcome == "failed" else report.without_file
        names.append(path_of(by_id[result.entry.entry_id]))


async def _close(session: StoreSession, back: list[Record], reason: str) -> None:
    """Delete the copies of live blobs: kept as spares, the next sweep would quarantine the blobs once more."""
    if not back:
        return
    marked = await mark_purging(session, back, live=True)
    entries = [entry_path(row) for row in back if row["entry_id"] in marked]
    results = await session.context.disk.share(purge_entries(session.tree, session.claimant.guard), entries)
    gone = [result.entry.entry_id for result in results if result.outcome != "failed"]
    await give_up(session, [result for result in results if result.outcome == "failed"])
    async with session.context.pool.acquire() as connection, connection.transaction():
        await change_on(connection, session, Change.FORGOTTEN, gone)
        await add_record(connection, restored_orphans_record(session.context.name, back, actor(), reason))
    log = get_logger(target=session.context.name)
    for row in back:
        log.info("restored", path=path_of(row))
