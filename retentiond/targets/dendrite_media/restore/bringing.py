"""Restores: rows, thumbnail rows and files come back as they were; newer ones of dendrite win.

Intent first: the rows are marked, then the files are linked into place, then one transaction inserts the rows whose
files exist. The copy in quarantine stays as a spare until its grace is over, since a dendrite upload whose insert
fails removes the live directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, named_queries
from retentiond.ledger.records import add_record
from retentiond.model.text import sentence
from retentiond.targets.dendrite_media.database.rows import entry_path, media_key
from retentiond.targets.dendrite_media.disk.bring_back import (
    LiveBlob,
    Return,
    bring_back,
    live_blobs,
    sizes_at_hand,
    standing,
)
from retentiond.targets.dendrite_media.disk.layout import Thumbnail
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import restored_record
from retentiond.targets.dendrite_media.quarantine.entries import known_thumbnails
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, change, note_failures
from retentiond.targets.dendrite_media.quarantine.refused_moves import SWALLOWED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from asyncpg import Record

    from retentiond.model.media import Hash, MediaKey
    from retentiond.targets.dendrite_media.store.context import StoreSession

SQL: Final = named_queries(__package__, "bringing.sql")


@dataclass(slots=True)
class Brought:
    """The outcome of a restore, by URI: rows restored, there already, without a file, failed on the disk."""

    restored: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    without_file: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, other: Brought) -> None:
        """Add the outcome of another restore."""
        self.restored += other.restored
        self.present += other.present
        self.without_file += other.without_file
        self.failed += other.failed


async def bring(session: StoreSession, blobs: Sequence[Hash], copies: Sequence[Record]) -> Brought:
    """Restore the rows of these blobs that we have marked, from copies that we have claimed."""
    if not blobs:
        return Brought()
    failed, seen = await _bring_files(session, blobs, copies)
    unseen = [blob for blob in blobs if blob not in seen]
    live = [*seen.values(), *await session.context.disk.share(live_blobs(session.tree), unseen)]
    failed |= {blob.blob: blob.error for blob in live if blob.error}
    brought = await _insert(session, live, failed)
    there = {blob.blob for blob in live if blob.size is not None}
    await _let_go(session, copies, there, failed)
    log = get_logger(target=session.context.name)
    for uri in brought.restored:
        log.info("restored", media=uri)
    return brought


async def _let_go(
    session: StoreSession, copies: Sequence[Record], there: set[Hash], failed: Mapping[Hash, str]
) -> None:
    """End our claims: a copy whose live file exists is a spare, and the others wait in quarantine as before."""
    intents = [row for row in copies if row["state"] == "intended"]
    stands = await session.context.disk.share(standing(session.tree), [entry_path(row) for row in intents])
    moved = {row["entry_id"]: stood for row, stood in zip(intents, stands, strict=True)}
    # The file never left its place, and its rows are back: no move is open any more.
    closed = [row["entry_id"] for row in intents if row["hash"] in there and moved[row["entry_id"]] is False]
    await change(session, Change.INTENT_DROPPED, closed)
    spares = [
        row["entry_id"]
        for row in copies
        if row["kind"] == "blob" and row["hash"] in there and moved.get(row["entry_id"], True)
    ]
    await change(session, Change.RETURNED, spares)
    done = {*closed, *spares}
    others = [row for row in copies if row["entry_id"] not in done]
    problems = [(entry_path(row), failed[row["hash"]]) for row in others if row["hash"] in failed]
    await note_failures(session, problems)
    others = [row for row in others if row["hash"] not in failed]
    await change(session, Change.DEMOTED, [row["entry_id"] for row in others if row["state"] != "intended"])
    await change(session, Change.LET_GO, [row["entry_id"] for row in others if row["state"] == "intended"])


async def _bring_files(
    session: StoreSession, blobs: Sequence[Hash], copies: Sequence[Record]
) -> tuple[dict[Hash, str], dict[Hash, LiveBlob]]:
    """Put the files of blobs in place for which a row will be inserted; return the errors, and the live files."""
    found = await session.context.disk.share(sizes_at_hand(session.tree), [entry_path(row) for row in copies])
    on_this_host = [
        (row["hash"], size) for row, sizes in zip(copies, found, strict=True) for size in sizes.sizes
    ]
    restorable = {
        row["hash"]
        for row in await session.context.pool.fetch(
            SQL["restorable_hashes"],
            [blob for blob, _ in on_this_host],
            [size for _, size in on_this_host],
            session.claimant.claimant_id,
        )
    }
    wanted = await _wanted_thumbnails(session, blobs)
    failed = {row["hash"]: sizes.error for row, sizes in zip(copies, found, strict=True) if sizes.error}
    live: dict[Hash, LiveBlob] = {}
    # Blobs before the stray thumbnails of them: those go into their directories.
    for kind in ("blob", "thumbnails"):
        returns = [
            Return(
                entry_path(row),
                # Thumbnails that were released alone wait for rows of their own.
                None if row["all_rows"] and kind == "blob" else wanted.get(row["hash"], set()),
            )
            for row in copies
            if row["kind"] == kind and row["hash"] in restorable
        ]
        results = await session.context.disk.share(bring_back(session.tree, session.claimant), returns)
        for result in results:
            live[result.entry.hash] = result.live
            if result.outcome == "failed":
                failed[result.entry.hash] = result.error
    for blob, error in failed.items():
        get_logger(target=session.context.name).error(
            "item_failed", kind="not_restored", hash=blob, error=error
        )
    return failed, live


async def _wanted_thumbnails(session: StoreSession, blobs: Sequence[Hash]) -> dict[Hash, set[Thumbnail]]:
    wanted = await known_thumbnails(session.context.pool, blobs)
    for row in await session.context.pool.fetch(SQL["restoring_thumbnails"], list(blobs)):
        thumbnail = Thumbnail(row["width"], row["height"], row["resize_method"])
        wanted.setdefault(row["hash"], set()).add(thumbnail)
    return wanted


async def _insert(session: StoreSession, live: Sequence[LiveBlob], failed: Collection[Hash]) -> Brought:
    """Insert the rows of these blobs; if the database refuses, each on its own: one must not block the others."""
    try:
        return await _insert_at_once(session, live, failed)
    except LOST:
        raise
    except asyncpg.PostgresError as error:
        if len(live) == 1:
            return await _leave(session, live[0].blob, error)
    brought = Brought()
    for blob in live:
        brought.add(await _insert(session, [blob], failed))
    return brought


async def _leave(session: StoreSession, blob: Hash, error: asyncpg.PostgresError) -> Brought:
    left = await released_rows.leave(session.context.pool, session.claimant.claimant_id, blob)
    return Brought(failed=_tell_failed(session, map(media_key, left), sentence(str(error))))


def _tell_failed(session: StoreSession, keys: Iterable[MediaKey], why: str) -> list[str]:
    uris = [key.uri for key in keys]
    for uri in uris:
        get_logger(target=session.context.name).error(
            "item_failed", kind="not_restored", media=uri, error=why
        )
    return uris


async def _insert_at_once(
    session: StoreSession, live: Sequence[LiveBlob], failed: Collection[Hash]
) -> Brought:
    async with session.context.pool.acquire() as connection, connection.transaction():
        rows, left = await released_rows.insert_restored(connection, session.claimant.claimant_id, live)
        inserted = [row for row in rows if row["inserted"]]
        await session.context.ledger.count_restored(connection, [row["pass_id"] for row in inserted])
        if inserted:
            await add_record(connection, restored_record(session.context.name, inserted))
    swallowed = {media_key(row) for row in rows} & {media_key(row) for row in left}
    _tell_failed(session, sorted(swallowed), SWALLOWED)
    unable = {media_key(row) for row in left if row["hash"] in failed} | swallowed
    return Brought(
        [media_key(row).uri for row in inserted],
        [media_key(row).uri for row in rows if not row["inserted"] and media_key(row) not in swallowed],
        [media_key(row).uri for row in left if media_key(row) not in unable],
        [key.uri for key in sorted(unable)],
    )
