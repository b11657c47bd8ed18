"""Take back the release of thumbnails whose files the disk does not move: the moved files first, then the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.ledger.records import add_record
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back, standing
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import restored_record
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, change, note_failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from retentiond.targets.dendrite_media.disk.moves import MoveResult
    from retentiond.targets.dendrite_media.quarantine.release import Intent
    from retentiond.targets.dendrite_media.store.context import StoreSession


async def take_back_thumbnails(
    session: StoreSession, failed: Sequence[tuple[Intent, MoveResult]]
) -> list[Record]:
    """Take back the releases of claimed entries whose files did not all move; return the media that have theirs again.

    If a moved file cannot be moved back, the entry stays in quarantine with its rows, and can be restored.
    """
    if not failed:
        return []
    log = get_logger(target=session.context.name)
    for _, result in failed:
        log.error("item_failed", kind="not_moved", hash=result.entry.hash, error=result.error)
    entries = [intent.entry for intent, _ in failed]
    stands = dict(
        zip(entries, await session.context.disk.share(standing(session.tree), entries), strict=True)
    )
    partial = [Return(intent.entry, intent.thumbnails) for intent, _ in failed if stands[intent.entry]]
    results = await session.context.disk.share(bring_back(session.tree, session.claimant), partial)
    whole = {result.entry for result in results if result.outcome in {"returned", "whole_already"}}
    whole |= {entry for entry, stood in stands.items() if stood is False}
    rows = await _insert(session, [result for _, result in failed if result.entry in whole])
    await change(
        session, Change.INTENT_DROPPED, [e.entry_id for e, stood in stands.items() if stood is False]
    )
    await change(session, Change.THUMBNAILS_QUARANTINED, [e.entry_id for e, stood in stands.items() if stood])
    unseen = [(result.entry, result.error) for _, result in failed if stands[result.entry] is None]
    await note_failures(session, unseen)
    return rows


async def _insert(session: StoreSession, results: Sequence[MoveResult]) -> list[Record]:
    async with session.context.pool.acquire() as connection, connection.transaction():
        rows = await released_rows.take_back_thumbnails(
            connection, [(result.entry.pass_id, result.entry.hash, result.error) for result in results]
        )
        if rows:
            await add_record(connection, restored_record(session.context.name, rows))
    return rows
