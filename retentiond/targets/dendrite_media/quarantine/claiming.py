"""Claim entries of the quarantine a page at a time, and change what is claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from asyncpg import Record

    from retentiond.targets.dendrite_media.store.workplace import Workplace


async def claimed_pages(work: Workplace, statement: str, *arguments: Any) -> AsyncIterator[list[Record]]:
    """Go once through the entries that a statement claims, a page a transaction, in the order of their ids.

    The statement's parameters are the id to go on after, the page's size, the claimant, and the arguments.
    """
    after = 0
    while True:
        work.claimant.guard.ensure()
        async with work.place.pool.acquire() as connection, connection.transaction():
            page = await connection.fetch(
                statement, after, work.place.batch, work.claimant.claimant_id, *arguments
            )
        if not page:
            return
        yield sorted(page, key=lambda row: int(row["entry_id"]))
        after = max(row["entry_id"] for row in page)


async def change(work: Workplace, statement: str, entry_ids: Sequence[int]) -> list[Record]:
    """Do a statement to entries that we have claimed; its parameters are their ids and the claimant."""
    if not entry_ids:
        return []
    async with work.place.pool.acquire() as connection, connection.transaction():
        return list(await connection.fetch(statement, list(entry_ids), work.claimant.claimant_id))
