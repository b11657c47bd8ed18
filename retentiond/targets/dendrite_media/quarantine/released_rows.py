"""The tables of released rows: every write to them is in this module.

A released row is the ledger's copy of a media row (`released_media`), of thumbnail rows that were released while their
media row stays (`thumbnail_release`), or of thumbnail rows that a repair released (`released_thumbnail`, on record only). It has
no states: it is there from its release, in the transaction that deletes dendrite's row, until its grace is over and it is
deleted, or until the row is restored. `restoring` marks a row that is being restored, with the claim owner.

Two smaller tables are written by the same transactions, and so from here: `shared_blob`, blobs that stayed although
some of their rows were released; `restored`, the media that are kept since they were restored by hand.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from retentiond.adapters.postgres import named_queries
from retentiond.model.report import CancelledPurge
from retentiond.targets.dendrite_media.database.rows import key_columns
from retentiond.targets.dendrite_media.holds.holds import HELD, WITHOUT_ENTRY, lock_known_holds
from retentiond.targets.dendrite_media.quarantine import entry_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import timedelta

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.ledger.clocks import Gap
    from retentiond.model.audit import FindingKind
    from retentiond.model.media import Hash, MediaKey
    from retentiond.targets.dendrite_media.disk.bring_back import LiveBlob
    from retentiond.targets.dendrite_media.store.context import StoreSession


def _statements(released: str, kind: str) -> Mapping[str, str]:
    return named_queries(
        __package__,
        "released_rows.sql",
        released=released,
        kind=kind,
        held=HELD,
        without_entry=WITHOUT_ENTRY,
        oldest=entry_table.OLDEST,
    )


SQL: Final = _statements("retentiond.released_media", "blob")
ALONE: Final = _statements("retentiond.thumbnail_release", "thumbnails")
"""The same statements for thumbnail rows that were released alone."""
_REPAIRED: Final = _statements("retentiond.released_thumbnail", "")


class Selected(NamedTuple):
    """A page of released rows that a user selected: of a pass, of a key, or all, after a blob."""

    after: str
    batch: int
    pass_id: int | None
    media_id: str | None
    media_origin: str | None


# Release.


async def release(connection: Conn, pass_id: int, *columns: Any) -> list[Record]:
    """Copy media rows with their thumbnail rows, or old thumbnail rows alone, and delete them.

    `columns` are the media IDs, origins, policies, hashes, file sizes, newest dates of thumbnails that are released
    alone, and facts; then the first believable date, grace, and whether protections were overruled. Return the counts
    of deleted and copied rows, and beside them, one a row, the thumbnails that were released alone.
    """
    return await connection.fetch(SQL["release"], pass_id, *columns)


async def release_orphan_thumbnails(
    connection: Conn, pass_id: int, finding: FindingKind, grace: timedelta, *columns: Any
) -> list[Record]:
    """Copy thumbnail rows (keys, sizes) without a media row, and delete them; return the deleted."""
    return await connection.fetch(SQL["release_orphan_thumbnails"], pass_id, finding, grace, *columns)


async def release_dead_thumbnails(
    connection: Conn, pass_id: int, finding: FindingKind, grace: timedelta, *columns: Any
) -> list[Record]:
    """Copy thumbnail rows (keys, sizes, hashes) whose file is missing or of another size, and delete them.

    Return the deleted.
    """
    return await connection.fetch(SQL["release_dead_thumbnails"], pass_id, finding, grace, *columns)


async def note_shared(db: Conn | Db, pass_id: int, settle: timedelta, blobs: Collection[Hash]) -> None:
    """Record those of these blobs that stay, since their thumbnails may become strays."""
    await db.execute(SQL["note_shared"], pass_id, settle, list(blobs))


async def forget_shared(pool: Db, blobs: Sequence[Hash]) -> None:
    """Delete the record of blobs whose stray thumbnails were removed."""
    await pool.execute(SQL["forget_shared"], list(blobs))


# Return: first the marks.


async def mark_selected(connection: Conn, selected: Selected, mark: Mapping[str, Any]) -> list[Record]:
    """Mark a page of selected rows; return its blobs, each with whether it is free, stuck and marked."""
    await entry_table.lock_selected(connection, *selected)
    return await connection.fetch(SQL["select_to_restore"], *selected, json.dumps(mark))


async def mark_wanted(
    connection: Conn, claimant: int, protected: Sequence[Hash], refuted: Mapping[int, Hash]
) -> list[Hash]:
    """Mark the rows of protected blobs, and the rows by release whose facts are refuted; return their blobs."""
    await entry_table.lock_copies(connection, sorted({*protected, *refuted.values()}))
    rows = await connection.fetch(SQL["mark_protected"], list(protected), claimant)
    rows += await connection.fetch(SQL["mark_refuted"], list(refuted), claimant)
    return _hashes(rows)


async def mark_held(connection: Conn, claimant: int, blobs: Sequence[Hash]) -> list[Hash]:
    """Mark the held rows of these blobs; return the blobs."""
    await entry_table.lock_copies(connection, blobs)
    return _hashes(await connection.fetch(SQL["mark_held"], list(blobs), claimant))


async def inherit_restores(
    connection: Conn, claimant: int, dead: Sequence[int], batch: int, *, alone: bool = False
) -> list[Hash]:
    """Take over a page of the marks of dead claim owners, on media or on thumbnails alone; return the blobs."""
    statements = ALONE if alone else SQL
    return _hashes(await connection.fetch(statements["inherit_restores"], list(dead), batch, claimant))


async def mark_selected_thumbnails(
    connection: Conn, selected: Selected, mark: Mapping[str, Any]
) -> list[Record]:
    """Mark a page of selected thumbnails; return its blobs, each with the number of marked ones."""
    return await connection.fetch(SQL["mark_thumbnails"], *selected, json.dumps(mark))


async def mark_refuted_thumbnails(
    connection: Conn, claimant: int, release_ids: Collection[int]
) -> list[Hash]:
    """Mark thumbnails that were released alone and whose facts are refuted; return their blobs."""
    return _hashes(await connection.fetch(ALONE["mark_refuted"], list(release_ids), claimant))


# Then the rows, in one transaction each; a row that dendrite has again wins.


async def take_back(
    connection: Conn, blobs: Sequence[tuple[int, Hash, str]]
) -> tuple[list[Record], list[Record]]:
    """Insert the rows that passes released with blobs (pass, hash, why), and delete the copies.

    Return the rows in the table, with `inserted`, and those that dendrite's table took without an error and does not
    have.
    """
    chosen = await connection.fetch(SQL["rows_to_take_back"], *map(list, _columns(blobs, 3)))
    reasons = {row["release_id"]: row["reason"] for row in chosen}
    rows = await _insert(connection, reasons, [[]] * 5, whole=True)
    forgotten = await _forget(connection, rows)
    stand = [row for row in rows if row["release_id"] in forgotten]
    return stand, [row for row in rows if row["release_id"] not in forgotten]


async def insert_restored(
    connection: Conn, claimant: int, live: Sequence[LiveBlob]
) -> tuple[list[Record], list[Record]]:
    """Insert the marked rows of blobs whose live files exist, and keep them; delete the copies.

    Return the rows, with `inserted`, and those without a whole file, whose mark is ended.
    """
    blobs = [blob.blob for blob in live]
    chosen = await connection.fetch(SQL["rows_to_restore"], blobs, [blob.size for blob in live], claimant)
    rows = await _insert(
        connection, {row["release_id"]: None for row in chosen}, _thumbnail_columns(live), whole=False
    )
    await connection.execute(SQL["mark_restored"], [row["release_id"] for row in rows if row["inserted"]])
    await _forget(connection, rows)
    return rows, await connection.fetch(SQL["not_restored"], blobs, claimant)


async def leave(pool: Db, claimant: int, blob: Hash) -> list[Record]:
    """End the marks of a blob that the database refuses; return its rows."""
    return await pool.fetch(SQL["not_restored"], [blob], claimant)


async def take_back_thumbnails(connection: Conn, blobs: Sequence[tuple[int, Hash, str]]) -> list[Record]:
    """Insert the thumbnail rows that passes released alone (pass, hash, why), and delete the copies.

    Return the rows.
    """
    return await connection.fetch(SQL["take_back_thumbnail_rows"], *map(list, _columns(blobs, 3)))


async def insert_thumbnails(
    connection: Conn, claimant: int, live: Sequence[LiveBlob]
) -> tuple[list[Record], list[Record]]:
    """Insert the marked thumbnail rows whose live files exist, and keep their media; delete the copies.

    Return the inserted rows, and those without a file or a media row, whose mark is ended.
    """
    inserted = await connection.fetch(SQL["insert_thumbnails"], claimant, *_thumbnail_columns(live))
    ids = [row["release_id"] for row in inserted]
    await connection.execute(ALONE["mark_restored"], ids)
    back = await connection.fetch(SQL["forget_restored_thumbnails"], ids)
    blobs = [blob.blob for blob in live]
    return list(back), await connection.fetch(ALONE["not_restored"], blobs, claimant)


async def end_marks(pool: Db, keys: Collection[MediaKey] | None) -> list[Record]:
    """End the mark `restored` of these media, or of all; return the media that had it."""
    columns = (None, None) if keys is None else key_columns(keys)
    return await pool.fetch(SQL["end_marks"], *columns)


async def _insert(
    connection: Conn, reasons: Mapping[int, str | None], thumbnails: Sequence[list[Any]], *, whole: bool
) -> list[Record]:
    rows = await connection.fetch(SQL["insert_restored"], list(reasons), list(reasons.values()))
    inserted = [row["release_id"] for row in rows if row["inserted"]]
    await connection.execute(SQL["insert_restored_thumbnails"], inserted, *thumbnails, whole)
    return list(rows)


async def _forget(connection: Conn, rows: Sequence[Record]) -> set[int]:
    forgotten = await connection.fetch(SQL["forget_restored"], [row["release_id"] for row in rows])
    return {row["release_id"] for row in forgotten}


# Grace, and the end.


async def end_grace(connection: Conn, settle: timedelta) -> None:
    """End the grace of all rows by hand, no sooner than their settle, which is `settle` if no entry has it."""
    for statement in (SQL["end_grace"], ALONE["end_grace"], SQL["end_grace_of_thumbnails"]):
        await connection.execute(statement, settle)


async def give_back_grace(connection: Conn) -> CancelledPurge:
    """Restore the grace that was ended by hand; call entry_table.give_back_grace first."""
    row = await connection.fetchrow(SQL["give_back_grace"])
    for statement in (ALONE["give_back_grace"], SQL["give_back_grace_of_thumbnails"]):
        await connection.execute(statement)
    busy = await connection.fetchval(SQL["grace_not_given_back"])
    return CancelledPurge(row["items"], row["until"], busy) if row else CancelledPurge(busy=busy)


async def shorten_grace(connection: Conn, wanted: int) -> int:
    """End the grace of the rows of the oldest entries, so many bytes, until then; return the number of blobs."""
    contents: int = await connection.fetchval(SQL["shorten_grace"], wanted)
    return contents + await entry_table.shorten_grace(connection, wanted)


async def put_off_graces(connection: Conn, gap: Gap, grace: timedelta) -> None:
    """Let no grace end by time that is not known to have passed; where nothing is known, each begins now.

    `grace` is that of entries without released rows. To be called in the transaction that notes the clock.
    """
    if gap.began is None:
        await begin_anew(connection, grace)
        return
    for statements in (SQL, _REPAIRED, ALONE):
        await connection.execute(statements["put_off_graces"], gap.began, gap.ended)
    await entry_table.put_off_grace(connection, gap)


async def begin_anew(connection: Conn, grace: timedelta) -> None:
    """Let each grace begin now, that of entries without released rows with `grace`: after a wrong clock no end is known."""
    for statements in (SQL, _REPAIRED, ALONE):
        await connection.execute(statements["begin_graces_anew"])
    await entry_table.begin_anew(connection, grace)


async def forget_purged(connection: Conn, blobs: Collection[Hash]) -> None:
    """Delete the copies of rows whose blobs were unlinked, their grace being over."""
    await connection.execute(SQL["forget_rows"], sorted(blobs))


async def forget_without_entry(session: StoreSession, release_ids: Sequence[int]) -> None:
    """Delete those of these copies that still have no entry and no hold."""
    if not release_ids:
        return
    async with session.context.pool.acquire() as connection, connection.transaction():
        # Else a later sweep forgets them.
        if await lock_known_holds(connection):
            await connection.execute(SQL["forget_rows_without_entry"], list(release_ids))


async def forget_thumbnails(pool: Db) -> None:
    """Delete thumbnail rows that a repair released, their grace being over."""
    await pool.execute(SQL["forget_thumbnails"])


async def forget_thumbnails_alone(pool: Db) -> None:
    """Delete thumbnail rows that were released alone, their grace being over and none of their files in quarantine."""
    await pool.execute(SQL["forget_thumbnails_alone"])


def _hashes(rows: Iterable[Record]) -> list[Hash]:
    return sorted({row["hash"] for row in rows})


def _thumbnail_columns(live: Sequence[LiveBlob]) -> list[list[Any]]:
    return _columns(
        [(blob.blob, *thumbnail, size) for blob in live for thumbnail, size in blob.thumbnails.items()], 5
    )


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
