"""Restore by hand: the selected items are marked, restored, and kept until the mark is removed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.host import actor
from retentiond.ledger.records import add_record
from retentiond.model.errors import UsageError
from retentiond.model.media import Hash, MediaKey, parse_media_uri
from retentiond.model.report import RestoreReport
from retentiond.targets.dendrite_media.database.rows import entry_path, media_key
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back
from retentiond.targets.dendrite_media.disk.layout import blob_parts
from retentiond.targets.dendrite_media.disk.moves import purge_entries
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import restored_orphans_record
from retentiond.targets.dendrite_media.quarantine.entries import mark_purging
from retentiond.targets.dendrite_media.quarantine.entry_table import (
    Change,
    Claim,
    change,
    change_on,
    claim_copies,
    claimed_pages,
)
from retentiond.targets.dendrite_media.quarantine.refused_moves import give_up
from retentiond.targets.dendrite_media.restore.bringing import bring
from retentiond.targets.dendrite_media.restore.thumbnails import restore_thumbnails

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from retentiond.engine.target import Selection
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext

SQL: Final = named_queries(__package__, "selected.sql")


async def restore(session: StoreSession, selection: Selection) -> RestoreReport:
    """Restore the selected items, a page of blobs at a time."""
    report = RestoreReport()
    key = _selected_key(selection)
    until = datetime.now(UTC) + selection.keep_for if selection.keep_for is not None else None
    mark = {
        "claimant": session.claimant.claimant_id,
        "by": actor(),
        "reason": selection.reason or "quarantine restore",
        "until": until.isoformat() if until else None,
    }
    after = ""
    while True:
        page, copies = await _mark(session, after, selection.pass_id, key, mark)
        if not page:
            break
        after = page[-1]["hash"]
        report.failed.extend(row["hash"] for row in page if row["stuck"])
        report.busy.extend(row["hash"] for row in page if not row["free"] and not row["stuck"])
        await _name_present(session, report, page, selection.pass_id, key)
        outcome = await bring(session, [row["hash"] for row in page if row["marked"]], copies)
        report.restored.extend(outcome.restored)
        report.present.extend(outcome.present)
        report.without_file.extend(outcome.without_file)
        report.failed.extend(outcome.failed)
    await restore_thumbnails(session, report, selection.pass_id, key, mark)
    if key is None:
        await restore_repaired(session, report, selection.pass_id, str(mark["reason"]))
    return report


def _selected_key(selection: Selection) -> MediaKey | None:
    if selection.media is None:
        return None
    key = parse_media_uri(selection.media)
    if key is None:
        raise UsageError("--media takes a URI of the form mxc://server/media-id")
    return key


async def _mark(
    session: StoreSession, after: str, pass_id: int | None, key: MediaKey | None, mark: dict[str, Any]
) -> tuple[list[Record], list[Record]]:
    """Mark a page of blobs and claim their copies, in one transaction: no sweep can come between."""
    media_id, origin = key or (None, None)
    selected = released_rows.Selected(after, session.context.batch, pass_id, media_id, origin)
    async with session.context.pool.acquire() as connection, connection.transaction():
        page = await released_rows.mark_selected(connection, selected, mark)
        blobs = [row["hash"] for row in page if row["marked"]]
        return page, await claim_copies(session, connection, blobs)


async def _name_present(
    session: StoreSession,
    report: RestoreReport,
    page: list[Record],
    pass_id: int | None,
    key: MediaKey | None,
) -> None:
    media_id, origin = key or (None, None)
    hashes = [row["hash"] for row in page if row["free"]]
    rows = await session.context.pool.fetch(SQL["present_rows"], hashes, pass_id, media_id, origin)
    report.present.extend(media_key(row).uri for row in rows)


async def forget(context: TargetContext, media: Sequence[str] | None) -> list[str]:
    """Remove the mark of restored items, of these media or of all: from now on the policies decide again."""
    keys = [key for uri in media or () if (key := parse_media_uri(uri))]
    rows = await released_rows.end_marks(context.pool, None if media is None else keys)
    log = get_logger(target=context.name)
    for row in rows:
        log.info("mark_forgotten", media=media_key(row).uri, by=actor())
    return [media_key(row).uri for row in rows]


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
