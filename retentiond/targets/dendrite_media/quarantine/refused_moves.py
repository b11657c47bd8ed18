"""Entries that could not be moved: the release is taken back at once, or a later sweep tries again.

Only the rename shows some refusals: an attribute (`chattr +a`), a quota, a security module, EXDEV from a lower layer.
Without the way back, a live file would have no row, and no restore would return its rows. If the outcome is open the
claim ends, and later sweeps try again after longer and longer waits. Each failure is logged when it happens, so the
delay also bounds the log; `status` counts the entries meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.ledger.records import add_record
from retentiond.model.text import sentence
from retentiond.targets.dendrite_media.database.rows import media_key
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back, standing
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import restored_record
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, change, change_on, note_failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from retentiond.targets.dendrite_media.disk.moves import MoveResult
    from retentiond.targets.dendrite_media.store.context import StoreSession

SWALLOWED: Final = "dendrite's table took the row without an error and does not have it; look at its triggers, rules and unique indexes"


async def give_up(
    session: StoreSession, results: Sequence[MoveResult], *, kind: str = "not_moved", error: str = ""
) -> None:
    """End the claims of entries with the errors of their moves, or with one `error` that they share, and log each."""
    log = get_logger(target=session.context.name)
    for result in results:
        log.error("item_failed", kind=kind, hash=result.entry.hash, error=error or result.error)
    await note_failures(session, [(result.entry, error or result.error) for result in results])


async def take_back(session: StoreSession, results: Sequence[MoveResult]) -> list[Record]:
    """Take back the releases of claimed entries that stayed in place; return the rows that were inserted again."""
    if not results:
        return []
    try:
        return await _take_back_at_once(session, results)
    except LOST:
        raise
    except asyncpg.PostgresError as error:
        if len(results) == 1:
            # The entry stays open with its rows in the ledger, and a later sweep tries both ways again.
            await give_up(session, results, kind="not_restored", error=sentence(str(error)))
            return []
    # One row that the database refuses must not block the others.
    return [row for result in results for row in await take_back(session, [result])]


async def _take_back_at_once(session: StoreSession, results: Sequence[MoveResult]) -> list[Record]:
    by_id = {result.entry.entry_id: result for result in results}
    async with session.context.pool.acquire() as connection, connection.transaction():
        closed = await change_on(connection, session, Change.INTENT_DROPPED, list(by_id))
        ours = [by_id[row["entry_id"]] for row in closed]
        rows, swallowed = await released_rows.take_back(
            connection, [(result.entry.pass_id, result.entry.hash, result.error) for result in ours]
        )
        back = [row for row in rows if row["inserted"]]
        if back:
            await add_record(connection, restored_record(session.context.name, back))
    log = get_logger(target=session.context.name)
    for result in ours:
        log.error("item_failed", kind="not_moved", hash=result.entry.hash, error=result.error)
    for row in swallowed:
        log.error("item_failed", kind="not_restored", media=media_key(row).uri, error=SWALLOWED)
    return rows


async def take_back_thumbnails(
    session: StoreSession, failed: Sequence[tuple[Return, MoveResult]]
) -> list[Record]:
    """Take back the releases of claimed entries whose files did not all move; return the media that have theirs again.

    If a moved file cannot be moved back, the entry stays in quarantine with its rows, and can be restored.
    """
    if not failed:
        return []
    log = get_logger(target=session.context.name)
    for _, result in failed:
        log.error("item_failed", kind="not_moved", hash=result.entry.hash, error=result.error)
    entries = [back.entry for back, _ in failed]
    stands = dict(
        zip(entries, await session.context.disk.share(standing(session.tree), entries), strict=True)
    )
    partial = [back for back, _ in failed if stands[back.entry]]
    results = await session.context.disk.share(bring_back(session.tree, session.claimant), partial)
    whole = {result.entry for result in results if result.outcome in {"returned", "whole_already"}}
    whole |= {entry for entry, stood in stands.items() if stood is False}
    rows = await _insert_thumbnails(session, [result for _, result in failed if result.entry in whole])
    await change(
        session, Change.INTENT_DROPPED, [e.entry_id for e, stood in stands.items() if stood is False]
    )
    await change(session, Change.THUMBNAILS_QUARANTINED, [e.entry_id for e, stood in stands.items() if stood])
    unseen = [(result.entry, result.error) for _, result in failed if stands[result.entry] is None]
    await note_failures(session, unseen)
    return rows


async def _insert_thumbnails(session: StoreSession, results: Sequence[MoveResult]) -> list[Record]:
    async with session.context.pool.acquire() as connection, connection.transaction():
        rows = await released_rows.take_back_thumbnails(
            connection, [(result.entry.pass_id, result.entry.hash, result.error) for result in results]
        )
        if rows:
            await add_record(connection, restored_record(session.context.name, rows))
    return rows
