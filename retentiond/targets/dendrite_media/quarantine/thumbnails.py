"""Moves of thumbnails that were released alone: their blob stays, and what cannot be moved is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.ledger.records import add_record
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back, standing
from retentiond.targets.dendrite_media.disk.thumbnails import try_to_move
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import restored_record
from retentiond.targets.dendrite_media.quarantine.entries import Moves
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, change, note_failures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncpg import Record

    from retentiond.ledger.session import Guard
    from retentiond.targets.dendrite_media.disk.moves import MoveResult
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.quarantine.entries import Intent
    from retentiond.targets.dendrite_media.store.context import StoreSession


async def carry_out_thumbnails(session: StoreSession, intents: Sequence[Intent]) -> Moves:
    """Rename the thumbnails of claimed, intended entries into the quarantine, and record it."""
    results = await session.context.disk.share(_move_all(session.tree, session.claimant.guard), intents)
    failed = [
        (intent, result)
        for intent, result in zip(intents, results, strict=True)
        if result.outcome == "failed"
    ]
    moved = [result.entry.entry_id for result in results if result.outcome == "moved"]
    missing = [result.entry.entry_id for result in results if result.outcome == "missing"]
    await change(session, Change.THUMBNAILS_QUARANTINED, moved)
    await change(session, Change.INTENT_DROPPED, missing)
    moves = Moves(quarantined=len(moved))
    moves.fail([result for _, result in failed], await _take_back(session, failed))
    return moves


def _move_all(tree: MediaTree, guard: Guard) -> Callable[[Sequence[Intent]], list[MoveResult]]:
    def move(intents: Sequence[Intent]) -> list[MoveResult]:
        results = []
        for intent in intents:
            guard.ensure()
            results.append(try_to_move(tree, intent.entry, intent.thumbnails))
        return results

    return move


async def _take_back(session: StoreSession, failed: Sequence[tuple[Intent, MoveResult]]) -> list[Record]:
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
