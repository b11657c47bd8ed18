"""What comes back although nobody selected it: what a hold or a protection wants, and what a dead restorer began."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.holds.held import SQL as HELD_SQL
from retentiond.targets.dendrite_media.quarantine.entries import SQL as ENTRY_SQL
from retentiond.targets.dendrite_media.restore.bringing import bring, claim_copies

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.store.workplace import Workplace

SQL: Final = named_queries(__package__, "wanted.sql")


async def finish_restores(work: Workplace) -> int:
    """Finish what restorers who are gone had marked; return how many rows came back."""
    restorers = [row["claimant"] for row in await work.place.pool.fetch(SQL["restorers"])]
    dead = await work.claimant.bury(restorers)
    count = 0
    while dead:
        async with work.place.pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                SQL["inherit_restores"], dead, work.place.batch, work.claimant.claimant_id
            )
            blobs = sorted({row["hash"] for row in rows})
            copies = await claim_copies(work, connection, blobs)
        if not blobs:
            break
        count += len((await bring(work, blobs, copies)).restored)
    return count


async def restore_protected(work: Workplace, entries: Sequence[Record]) -> int:
    """Bring back what has become protected, with its rows and without the mark; the entries are claimed by us."""
    if not entries:
        return 0
    # From one claim to the other at once: in between, another purge could go by an older copy of the protections.
    async with work.place.pool.acquire() as connection, connection.transaction():
        ids = [row["entry_id"] for row in entries]
        await connection.execute(ENTRY_SQL["let_go"], ids, work.claimant.claimant_id)
        blobs, copies = await _mark_protected(work, connection, sorted({row["hash"] for row in entries}))
    return len((await bring(work, blobs, copies)).restored)


async def restore_newly_protected(work: Workplace, *, begun_after: datetime) -> int:
    """Bring back what lies in quarantine and has become protected; raises RefusedError where nobody can tell."""
    references = work.place.references
    count, after = 0, ""
    while True:
        async with (
            work.place.pool.acquire() as connection,
            references.held(connection, begun_after=begun_after) as copy,
        ):
            page = await connection.fetch(
                SQL["protected_in_quarantine"], after, work.place.batch, copy, list(references.protections)
            )
            if not page:
                return count
            after = page[-1]["hash"]
            blobs, copies = await _mark_protected(work, connection, [row["hash"] for row in page])
        count += len((await bring(work, blobs, copies)).restored)


async def _mark_protected(
    work: Workplace, connection: Conn, blobs: Sequence[Hash]
) -> tuple[list[Hash], list[Record]]:
    await connection.execute(HELD_SQL["lock_copies_of"], blobs)
    rows = await connection.fetch(SQL["mark_protected"], blobs, work.claimant.claimant_id)
    marked = sorted({row["hash"] for row in rows})
    return marked, await claim_copies(work, connection, marked)


async def restore_held(work: Workplace) -> int:
    """Bring back what lies in quarantine and has become held, with its rows and without the mark."""
    count, after = 0, ""
    while page := await work.place.pool.fetch(HELD_SQL["held_in_quarantine"], after, work.place.batch):
        after = page[-1]["hash"]
        async with work.place.pool.acquire() as connection, connection.transaction():
            await connection.execute(HELD_SQL["lock_copies_of"], [row["hash"] for row in page])
            marked = await connection.fetch(
                HELD_SQL["mark_held"], [row["hash"] for row in page], work.claimant.claimant_id
            )
            blobs = sorted({row["hash"] for row in marked})
            copies = await claim_copies(work, connection, blobs)
        count += len((await bring(work, blobs, copies)).restored)
    return count
