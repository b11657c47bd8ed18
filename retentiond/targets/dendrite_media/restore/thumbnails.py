"""Restore thumbnails that were released alone: their files first, then their rows, if the media row still exists.

Without a media row dendrite would not serve them: they wait in quarantine until their grace is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.records import add_record
from retentiond.targets.dendrite_media.database.rows import entry_path, media_key, thumbnails_by_hash
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back, live_blobs
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import restored_record
from retentiond.targets.dendrite_media.quarantine.entries import known_thumbnails
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, change, claim_thumbnail_copies
from retentiond.targets.dendrite_media.restore.bringing import Brought

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncpg import Record

    from retentiond.model.media import Hash, MediaKey
    from retentiond.model.report import RestoreReport
    from retentiond.targets.dendrite_media.disk.bring_back import LiveBlob
    from retentiond.targets.dendrite_media.store.context import StoreSession

SQL: Final = named_queries(__package__, "thumbnails.sql")


async def restore_thumbnails(
    session: StoreSession,
    report: RestoreReport,
    pass_id: int | None,
    key: MediaKey | None,
    mark: Mapping[str, Any],
) -> None:
    """Restore the selected thumbnails, a page of blobs at a time."""
    after = ""
    while True:
        media_id, origin = key or (None, None)
        selected = released_rows.Selected(after, session.context.batch, pass_id, media_id, origin)
        async with session.context.pool.acquire() as connection, connection.transaction():
            page = await released_rows.mark_selected_thumbnails(connection, selected, mark)
            blobs = [row["hash"] for row in page if row["marked"]]
            copies = await claim_thumbnail_copies(session, connection, blobs)
        if not page:
            return
        after = page[-1]["hash"]
        brought = await bring_thumbnails(session, blobs, copies)
        report.restored.extend(brought.restored)
        report.without_file.extend(brought.without_file)
        report.failed.extend(brought.failed)


async def bring_thumbnails(session: StoreSession, blobs: Sequence[Hash], copies: Sequence[Record]) -> Brought:
    """Restore the thumbnails of these blobs that we have marked, from copies that we have claimed."""
    if not blobs:
        return Brought()
    pool, claimant = session.context.pool, session.claimant.claimant_id
    wanted = thumbnails_by_hash(await pool.fetch(SQL["marked_thumbnails"], list(blobs), claimant))
    # A thumbnail that dendrite has made anew has a row, and stays. A file without a row would keep it from being
    # made.
    for blob, known in (await known_thumbnails(pool, blobs)).items():
        wanted[blob] = wanted.get(blob, set()) - known
    returns = [Return(entry_path(row), wanted.get(row["hash"], set())) for row in copies]
    results = await session.context.disk.share(bring_back(session.tree, session.claimant), returns)
    live = await session.context.disk.share(live_blobs(session.tree), list(blobs))
    errors = {result.entry.hash: result.error for result in results if result.outcome == "failed"}
    errors |= {blob.blob: blob.error for blob in live if blob.error}
    log = get_logger(target=session.context.name)
    for blob, error in errors.items():
        log.error("item_failed", kind="not_restored", hash=blob, error=error)
    back, left = await _insert(session, live)
    await change(session, Change.LET_GO, [row["entry_id"] for row in copies])
    brought = Brought(
        restored=[media_key(row).uri for row in back],
        without_file=[media_key(row).uri for row in left if row["hash"] not in errors],
        failed=[media_key(row).uri for row in left if row["hash"] in errors],
    )
    for uri in brought.restored:
        log.info("restored", media=uri, what="thumbnails")
    return brought


async def _insert(session: StoreSession, live: Sequence[LiveBlob]) -> tuple[list[Record], list[Record]]:
    async with session.context.pool.acquire() as connection, connection.transaction():
        back, left = await released_rows.insert_thumbnails(connection, session.claimant.claimant_id, live)
        if back:
            await add_record(connection, restored_record(session.context.name, back))
    return back, left
