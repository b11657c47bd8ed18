"""Quarantine: blobs whose rows are released are renamed away, and then checked again.

A new upload of the same file has a row by now, or by the time of a later sweep; the blob is returned to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.database.rows import entry_path, thumbnails_by_hash
from retentiond.targets.dendrite_media.disk.bring_back import Return, ReturnResult, bring_back
from retentiond.targets.dendrite_media.disk.layout import EntryPath, Thumbnail
from retentiond.targets.dendrite_media.disk.look import look_at_blobs
from retentiond.targets.dendrite_media.disk.moves import linked_elsewhere, measure_entries, quarantine_blobs
from retentiond.targets.dendrite_media.disk.thumbnails import ThumbnailMove, quarantine_thumbnails
from retentiond.targets.dendrite_media.holds.holds import lock_known_holds
from retentiond.targets.dendrite_media.quarantine.entry_table import (
    Change,
    change,
    intend,
    lose,
    note_failures,
    note_freed,
    purging,
    quarantined,
)
from retentiond.targets.dendrite_media.quarantine.refused_moves import (
    give_up,
    take_back,
    take_back_thumbnails,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.moves import Freed, MoveResult
    from retentiond.targets.dendrite_media.store.context import StoreSession

SQL: Final = named_queries(__package__, "entries.sql")
_STANDS: Final = frozenset({"returned", "whole_already"})
"""The outcomes of a return with a live file."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A blob without rows, or some thumbnails of one that stays: claimed, recorded, and to be renamed."""

    entry: EntryPath
    bytes: int
    thumbnails: tuple[Thumbnail, ...] = ()


@dataclass(slots=True)
class Moves:
    """The outcome of a batch of entries: in quarantine, returned to a row, lost, failed.

    Of the failed ones, `taken_back` are the rows that were inserted again, and `errors` the errors of the disk.
    """

    quarantined: int = 0
    returned: int = 0
    lost: int = 0
    failed: int = 0
    taken_back: list[Record] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def fail(self, results: Sequence[MoveResult], taken_back: Sequence[Record] = ()) -> None:
        """Count moves that failed, and the rows inserted again because of that."""
        self.failed += len(results)
        self.errors.update(result.error for result in results)
        self.taken_back.extend(taken_back)


async def carry_out(session: StoreSession, entries: Sequence[EntryPath]) -> Moves:
    """Rename claimed, intended entries into the quarantine, record it, check again, and return blobs with a row.

    The release of a blob that stays in place is taken back.
    """
    moves = Moves()
    results = await session.context.disk.share(
        quarantine_blobs(session.tree, session.claimant.guard), entries
    )
    missing = [result.entry for result in results if result.outcome == "missing"]
    await record_lost(session, missing, "gone before it could be moved")
    moves.lost = len(missing)
    stayed = [result for result in results if result.outcome == "stayed"]
    moves.fail(stayed, await take_back(session, stayed))
    failed = [result for result in results if result.outcome == "failed"]
    await give_up(session, failed)
    moves.fail(failed)
    moved = [result.entry.entry_id for result in results if result.outcome in {"moved", "already"}]
    rows = await quarantined(session, moved)
    wanted = [entry_path(row) for row in rows if row["wanted"]]
    moves.returned = await return_to_rows(session, wanted)
    moves.quarantined = len(rows) - moves.returned
    return moves


async def carry_out_thumbnails(session: StoreSession, intents: Sequence[Intent]) -> Moves:
    """Rename the thumbnails of claimed, intended entries into the quarantine, and record it."""
    results = await session.context.disk.share(
        quarantine_thumbnails(session.tree, session.claimant.guard),
        [ThumbnailMove(intent.entry, intent.thumbnails) for intent in intents],
    )
    failed = [
        (Return(intent.entry, intent.thumbnails), result)
        for intent, result in zip(intents, results, strict=True)
        if result.outcome == "failed"
    ]
    moved = [result.entry.entry_id for result in results if result.outcome == "moved"]
    missing = [result.entry.entry_id for result in results if result.outcome == "missing"]
    await change(session, Change.THUMBNAILS_QUARANTINED, moved)
    await change(session, Change.INTENT_DROPPED, missing)
    moves = Moves(quarantined=len(moved))
    moves.fail([result for _, result in failed], await take_back_thumbnails(session, failed))
    return moves


async def return_to_rows(session: StoreSession, entries: Sequence[EntryPath]) -> int:
    """Return claimed entries to their rows, with the thumbnails in the database; return the number of returned ones."""
    if not entries:
        return 0
    known = await known_thumbnails(session.context.pool, [entry.hash for entry in entries])
    returns = [Return(entry, known.get(entry.hash, frozenset())) for entry in entries]
    results = await session.context.disk.share(bring_back(session.tree, session.claimant), returns)
    await _record_returned(session, results)
    return tell_returns(session, results)


async def known_thumbnails(db: Conn | Db, blobs: Sequence[Hash]) -> dict[Hash, set[Thumbnail]]:
    """Return the thumbnails in the database, by blob."""
    return thumbnails_by_hash(await db.fetch(SQL["wanted_thumbnails"], list(blobs)))


def tell_returns(session: StoreSession, results: Sequence[ReturnResult]) -> int:
    """Log the returns, and those that failed; return the number of returned entries."""
    log = get_logger(target=session.context.name)
    for result in results:
        if result.outcome == "returned":
            log.info("blob_restored", hash=result.entry.hash, pass_id=result.entry.pass_id)
        elif result.outcome not in _STANDS:
            log.error("item_failed", kind="not_returned", hash=result.entry.hash, error=result.error)
    return sum(result.outcome == "returned" for result in results)


async def _record_returned(session: StoreSession, results: Sequence[ReturnResult]) -> None:
    """Record the entries whose live file exists as spare copies; end the claims of the others."""
    returned = [result for result in results if result.outcome in _STANDS]
    others = [result for result in results if result.outcome not in _STANDS]
    await change(session, Change.RETURNED, [result.entry.entry_id for result in returned])
    await note_failures(
        session, [(result.entry, result.error or "no copy in quarantine to restore") for result in others]
    )


async def record_lost(session: StoreSession, entries: Sequence[EntryPath], problem: str) -> None:
    """Record claimed entries of which neither the source nor the destination is visible."""
    log = get_logger(target=session.context.name)
    for entry in entries:
        log.warning("inconsistency", kind="lost_blob", hash=entry.hash, pass_id=entry.pass_id)
    if entries:
        await lose(session, [entry.entry_id for entry in entries], problem)


async def mark_purging(session: StoreSession, rows: Sequence[Record], *, live: bool = False) -> set[int]:
    """Mark entries that we have claimed as purging, except held ones; return the marked.

    Beside a hold whose references are unread only copies of `live` blobs are marked. From then on the ledger has the
    bytes that their purge frees: they are, or may be, further names of live files.
    """
    if not rows:
        return set()
    entries = sorted(entry_path(row) for row in rows)
    measured = await session.context.disk.share(measure_entries(session.tree), entries)
    async with session.context.pool.acquire() as connection, connection.transaction():
        if not await lock_known_holds(connection) and not live:
            return set()
        return await purging(connection, session, entries, *_freed_columns(measured))


async def measure_shared(session: StoreSession, entries: Sequence[EntryPath]) -> None:
    """Record the bytes that the purge of entries frees, of those with files that have other names."""
    disk, tree = session.context.disk, session.tree
    shared = await disk.share(linked_elsewhere(tree), entries)
    unsure = [entry for entry, is_shared in zip(entries, shared, strict=True) if is_shared]
    if unsure:
        measured = await disk.share(measure_entries(tree), unsure)
        await note_freed(session, unsure, *_freed_columns(measured))


def _freed_columns(measured: Sequence[Freed | None]) -> tuple[list[int | None], list[int | None]]:
    return (
        [of_entry.files if of_entry else None for of_entry in measured],
        [of_entry.bytes if of_entry else None for of_entry in measured],
    )


async def known_entries(pool: Db, entries: Sequence[EntryPath]) -> set[EntryPath]:
    """Return those of these entries that the ledger knows."""
    rows = await pool.fetch(SQL["known_entries"], [entry.entry_id for entry in entries])
    return {entry_path(row) for row in rows}


async def intended(pool: Db, blobs: Collection[Hash]) -> set[Hash]:
    """Return those of these blobs that are about to be renamed."""
    return {row["hash"] for row in await pool.fetch(SQL["intended_hashes"], list(blobs))}


async def with_rows(pool: Db, blobs: Sequence[Hash]) -> set[Hash]:
    """Return those of these blobs that have rows."""
    return {row["hash"] for row in await pool.fetch(SQL["wanted_hashes"], list(blobs))}


async def quarantine_again(session: StoreSession, rows: Sequence[Record]) -> None:
    """Make returned copies (claimed by us) wait again, and quarantine the files that were linked into place for them.

    The sweeps still look for an unfinished upload, whose file exists and whose row does not yet. If the live blob
    stays, since the disk refuses the move, its copies stay returned until a later sweep tries again.
    """
    if not rows:
        return
    blobs = {row["hash"] for row in rows}
    # A pass that has just released the last row renames the file itself.
    moving = await intended(session.context.pool, blobs)
    looks = await session.context.disk.share(look_at_blobs(session.tree), sorted(blobs - moving))
    present = {look.blob: look for look in looks if look.result == "present"}
    refused = {look.blob: look.problem for look in looks if look.result == "failed"}
    for row in rows:
        look = present.pop(row["hash"], None)
        if look is None:
            continue
        async with session.context.pool.acquire() as connection, connection.transaction():
            recorded = await intend(connection, session, row["pass_id"], [look])
        moves = await carry_out(
            session, [EntryPath(row["pass_id"], entry["hash"], entry["entry_id"]) for entry in recorded]
        )
        refused |= dict.fromkeys([look.blob] if moves.failed else [], ", ".join(moves.errors))
    stay = [(entry_path(row), refused[row["hash"]]) for row in rows if row["hash"] in refused]
    await note_failures(session, stay)
    moved = [row["entry_id"] for row in rows if row["hash"] not in refused]
    await change(session, Change.QUARANTINED_AGAIN, moved)
