"""The table of the quarantine's entries: every write to it is in this module.

An entry is a blob, or thumbnails of one, in quarantine. Its states, and the changes that are allowed:

    (no entry) --- intend*, a release or a repair ---> intended
    (no entry) --- take_in, an acceptance -----------> quarantined, or returned if the live file exists

    intended ----- quarantined(), the rename is done -> quarantined
    intended ----- RETURNED, it has a row again ------> returned
    intended ----- INTENT_DROPPED, no file moved -----> (no entry)
    quarantined -- claim_copies, a restore -----------> restoring
    quarantined -- RETURNED, it has a row again ------> returned
    quarantined -- purging(), grace and settle over --> purging
    returned ----- QUARANTINED_AGAIN, it has no row -> quarantined
    returned ----- purging(), an expired spare -------> purging
    returned ----- FORGOTTEN, a missing spare --------> (no entry), by an acceptance
    restoring ---- RETURNED, the live file exists ----> returned
    restoring ---- purging(), a blob without rows ----> purging
    restoring ---- DEMOTED, not restored -------------> quarantined
    purging ------ DEMOTED, a crash before the unlink > quarantined
    purging ------ FORGOTTEN, the files are unlinked -> (no entry)
    intended, quarantined, returned -- lose(), the files are missing -> lost
    lost --------- forget_lost, no row is left -------> (no entry)

`CHANGES` has the same as data. Only its claim owner changes an entry. A claim is made in one transaction that locks the
entries (`claimed_pages`, `claim_copies`, and the intents), and holds as long as the owner's advisory lock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.holds.holds import HELD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.ledger.clocks import Gap
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.layout import EntryPath
    from retentiond.targets.dendrite_media.disk.look import BlobLook
    from retentiond.targets.dendrite_media.store.context import StoreSession

_TEXT: Final = named_queries(__package__, "entry_table.sql", held=HELD)
OLDEST: Final = _TEXT["oldest"]
"""A part of other statements: the oldest entries (entry_id, hash) whose settle is over and that hold $1 bytes
together.
"""
SQL: Final = {name: text.replace("{oldest}", OLDEST) for name, text in _TEXT.items()}

CHANGES: Final[Mapping[str | None, frozenset[str | None]]] = {
    None: frozenset({"intended", "quarantined", "returned"}),
    "intended": frozenset({"quarantined", "returned", "lost", None}),
    "quarantined": frozenset({"returned", "restoring", "purging", "lost"}),
    "returned": frozenset({"quarantined", "purging", "lost", None}),
    "restoring": frozenset({"quarantined", "returned", "purging"}),
    "purging": frozenset({"quarantined", None}),
    "lost": frozenset({None}),
}
"""The states that an entry may get, by its present state; None is no entry."""


_BY_ID: Final = "SET LOCAL enable_sort = off"
"""For pages in the order of the ids: else each would read and sort all entries that are left."""


class Claim(StrEnum):
    """Claims of a page of entries: the statement's name, with its arguments after the batch."""

    LOOK = "look_quarantined"
    """A sweep's look at entries in quarantine, of which it returns those with a row, and the last: (everything)."""
    RETURNED = "claim_returned"
    """Spares: (everything)."""
    THUMBNAILS = "claim_strays"
    """Thumbnails in quarantine: (everything)."""
    INHERITED = "inherit_claims"
    """Open steps of dead claimants: (the dead, everything)."""
    ROWLESS = "claim_rowless"
    """Blobs without released rows: (pass or None)."""
    STANDING = "claim_entries"
    """All entries in quarantine: ()."""


class Change(StrEnum):
    """Changes of entries that we have claimed; each ends the claim."""

    RETURNED = "entries_returned"
    QUARANTINED_AGAIN = "entries_quarantined_again"
    DEMOTED = "entries_demoted"
    THUMBNAILS_QUARANTINED = "strays_quarantined"
    INTENT_DROPPED = "drop_intents"
    FORGOTTEN = "forget_entries"
    LET_GO = "let_go"
    """No change: the entries are as they were before the claim."""


async def claimed_pages(session: StoreSession, claim: Claim, *arguments: Any) -> AsyncIterator[list[Record]]:
    """Go once through the entries of a claim, a page a transaction, in the order of their ids."""
    after = 0
    while True:
        session.claimant.guard.ensure()
        async with session.context.pool.acquire() as connection, connection.transaction():
            if after:
                await connection.execute(_BY_ID)
            page = await connection.fetch(
                SQL[claim], after, session.context.batch, session.claimant.claimant_id, *arguments
            )
        if not page:
            return
        yield sorted(page, key=lambda row: int(row["entry_id"]))
        # A look returns a few of its page.
        if claim is not Claim.LOOK and len(page) < session.context.batch:
            return
        after = max(row["entry_id"] for row in page)


async def lock_due(
    connection: Conn, session: StoreSession, after: int, read_at: datetime, *, everything: bool
) -> list[Record]:
    """Lock a page of entries whose grace and settle are over (settle before `read_at`), in the order of their ids.

    Each has `wanted`: whether a row has its hash.
    """
    session.claimant.guard.ensure()
    await connection.execute(_BY_ID)
    page = await connection.fetch(SQL["lock_due_entries"], after, session.context.batch, read_at, everything)
    await connection.execute("SET LOCAL enable_sort TO DEFAULT")
    return sorted(page, key=lambda row: int(row["entry_id"]))


async def claim_locked(connection: Conn, session: StoreSession, entry_ids: Sequence[int]) -> None:
    """Claim entries that this transaction has locked."""
    if entry_ids:
        await connection.execute(SQL["claim_locked"], list(entry_ids), session.claimant.claimant_id)


async def due_purging(connection: Conn, session: StoreSession, entry_ids: Sequence[int]) -> set[int]:
    """Claim entries that this transaction has locked, and mark them as purging, except held ones; return the marked."""
    if not entry_ids:
        return set()
    marked = await connection.fetch(SQL["due_purging"], list(entry_ids), session.claimant.claimant_id)
    return {row["entry_id"] for row in marked}


async def note_freed(
    session: StoreSession,
    entries: Sequence[EntryPath],
    files: Sequence[int | None],
    sizes: Sequence[int | None],
) -> None:
    """Record the files and bytes that a purge of claimed entries frees; None: unknown."""
    ids = [entry.entry_id for entry in entries]
    await session.context.pool.execute(
        SQL["note_freed"], ids, session.claimant.claimant_id, list(files), list(sizes)
    )


async def claim_copies(session: StoreSession, connection: Conn, blobs: Sequence[Hash]) -> list[Record]:
    """Claim the copies of these blobs in quarantine, in the transaction that marks their rows."""
    return await connection.fetch(SQL["claim_copies"], list(blobs), session.claimant.claimant_id)


async def claim_thumbnail_copies(
    session: StoreSession, connection: Conn, blobs: Sequence[Hash]
) -> list[Record]:
    """Claim the copies of these blobs' thumbnails in quarantine, in the transaction that marks their rows."""
    return await connection.fetch(SQL["claim_thumbnail_copies"], list(blobs), session.claimant.claimant_id)


async def change(session: StoreSession, to: Change, entry_ids: Sequence[int]) -> list[Record]:
    """Change entries that we have claimed, in a transaction of its own; return the closed ones."""
    if not entry_ids:
        return []
    async with session.context.pool.acquire() as connection, connection.transaction():
        return await change_on(connection, session, to, entry_ids)


async def change_on(
    connection: Conn, session: StoreSession, to: Change, entry_ids: Sequence[int]
) -> list[Record]:
    """Change entries that we have claimed, in the running transaction; return the closed ones."""
    return await connection.fetch(SQL[to], list(entry_ids), session.claimant.claimant_id)


async def quarantined(session: StoreSession, entry_ids: Sequence[int]) -> list[Record]:
    """Record that the blobs are renamed; return each with `wanted`: whether it has a row, and is still ours."""
    async with session.context.pool.acquire() as connection, connection.transaction():
        return await connection.fetch(SQL["quarantine_done"], list(entry_ids), session.claimant.claimant_id)


async def lose(session: StoreSession, entry_ids: Sequence[int], problem: str) -> None:
    """Record claimed entries whose files are missing."""
    await session.context.pool.execute(
        SQL["entries_lost"], list(entry_ids), session.claimant.claimant_id, problem
    )


async def purging(
    connection: Conn, session: StoreSession, entries: Sequence[EntryPath], files: Sequence[int | None],
    sizes: Sequence[int | None],
) -> set[int]:  # fmt: skip
    """Mark claimed entries as purging, except held ones; return the marked."""
    ids = [entry.entry_id for entry in entries]
    marked = await connection.fetch(
        SQL["entries_purging"], ids, session.claimant.claimant_id, list(files), list(sizes)
    )
    return {row["entry_id"] for row in marked}


async def note_failures(session: StoreSession, failures: Sequence[tuple[EntryPath, str]]) -> None:
    """End the claims of entries, each with its problem.

    Entries that were being restored are in quarantine as before.
    """
    if not failures:
        return
    async with session.context.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            SQL["note_failures"],
            [entry.entry_id for entry, _ in failures],
            [problem for _, problem in failures],
            session.claimant.claimant_id,
        )


async def looked_at_thumbnails(session: StoreSession, entry_ids: Sequence[int], at: datetime) -> None:
    """Record that a look at that time found no row for these thumbnails, and end their claims."""
    async with session.context.pool.acquire() as connection:
        await connection.execute(SQL["strays_looked"], list(entry_ids), session.claimant.claimant_id, at)


# Intents: each is claimed by us from its first moment.


async def intend(
    connection: Conn, session: StoreSession, pass_id: int, looks: Sequence[BlobLook]
) -> list[Record]:
    """Record the intent to quarantine each blob without rows; return the entries."""
    return await connection.fetch(
        SQL["record_entries"],
        pass_id,
        session.claimant.claimant_id,
        session.context.config.settle,
        *_columns_of(looks),
    )


async def intend_orphans(
    connection: Conn, session: StoreSession, pass_id: int, looks: Sequence[BlobLook]
) -> list[Record]:
    """Record the intent to quarantine blobs without rows that are not in quarantine; return the entries."""
    config = session.context.config
    return await connection.fetch(
        SQL["intend_orphans"],
        pass_id,
        session.claimant.claimant_id,
        config.settle,
        config.grace,
        *_columns_of(looks),
    )


async def intend_thumbnails(
    connection: Conn, session: StoreSession, pass_id: int, held: Mapping[Hash, tuple[int, int]]
) -> list[Record]:
    """Record the intent to quarantine thumbnails of blobs that stay: the number of files and bytes of each."""
    return await connection.fetch(
        SQL["record_thumbnails"],
        pass_id,
        session.claimant.claimant_id,
        session.context.config.settle,
        list(held),
        [files for files, _ in held.values()],
        [size for _, size in held.values()],
    )


async def intend_stray(
    session: StoreSession,
    pass_id: int,
    blob: Hash,
    held: tuple[int, int],
    settle: timedelta,
    grace: timedelta | None,
) -> int:
    """Record the intent to quarantine stray thumbnails of one blob; return the entry."""
    entry_id: int = await session.context.pool.fetchval(
        SQL["record_stray"], pass_id, blob, session.claimant.claimant_id, *held, settle, grace
    )
    return entry_id


async def lock_selected(connection: Conn, *selected: Any) -> None:
    """Lock the entries of a page of selected blobs, so that no entry is claimed between the look and the mark.

    `selected` are the parameters of released_rows.mark_selected.
    """
    await connection.execute(SQL["lock_copies"], *selected)


async def lock_copies(connection: Conn, blobs: Sequence[Hash]) -> None:
    """Lock the entries of blobs, so that no entry is claimed between the look and the mark."""
    await connection.execute(SQL["lock_copies_of"], list(blobs))


async def take_in(session: StoreSession, entries: Iterable[tuple[Any, ...]]) -> None:
    """Take entries on the disk into the ledger: (id, pass, hash, kind, state, files, bytes) of each."""
    columns = zip(*entries, strict=True)
    await session.context.pool.execute(SQL["take_in"], session.context.config.settle, *map(list, columns))


async def raise_ids(pool: Db, above: int) -> None:
    """Raise the ids of new entries above all in use, on the disk, too."""
    await pool.fetchval(SQL["ids_above"], above)


async def new_id(pool: Db) -> int:
    """Return an id that no entry has."""
    [row] = await pool.fetch(SQL["new_ids"], 1)
    return int(row["entry_id"])


def _columns_of(looks: Sequence[BlobLook]) -> tuple[list[Hash], list[int], list[int]]:
    return [look.blob for look in looks], [look.files for look in looks], [look.bytes for look in looks]


# Grace, of entries without released rows; released_rows.py has the rest.


async def end_grace(connection: Conn) -> None:
    """End the grace of entries by hand, no sooner than their settle."""
    await connection.execute(SQL["end_grace_of_entries"])


async def give_back_grace(connection: Conn) -> None:
    """Restore the grace that was ended by hand; of the entries first, so that no purge claims them meanwhile."""
    await connection.execute(SQL["give_back_grace_of_entries"])


async def shorten_grace(connection: Conn, wanted: int) -> int:
    """End the grace of the oldest entries that hold so many bytes; return the number of blobs."""
    contents: int = await connection.fetchval(SQL["shorten_grace_of_entries"], wanted)
    return contents


async def put_off_grace(connection: Conn, gap: Gap) -> None:
    """Let the grace of entries end so much later as a gap is long whose beginning is known."""
    await connection.execute(SQL["put_off_grace_of_entries"], gap.began, gap.ended)


async def begin_anew(connection: Conn, grace: timedelta) -> None:
    """Let each settle begin now, and each grace last at least this long: after a wrong clock no end is known."""
    await connection.execute(SQL["begin_settles_anew"], grace)


async def forget_lost(pool: Db) -> None:
    """Delete lost entries without released rows."""
    await pool.execute(SQL["forget_lost"])
