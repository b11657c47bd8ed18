"""Restore by hand: the selected items are marked, restored, and kept until the mark is removed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.host import actor
from retentiond.model.errors import UsageError
from retentiond.model.media import MediaKey, parse_media_uri
from retentiond.model.report import RestoreReport
from retentiond.targets.dendrite_media.database.rows import media_key
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.entry_table import claim_copies
from retentiond.targets.dendrite_media.restore.bringing import bring
from retentiond.targets.dendrite_media.restore.orphans import restore_repaired
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
