"""What holds keep, as passes, purges and sweeps ask: read in the transaction that deletes, and never from memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.holds import lock_holds
from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.disk.moves import measure_entries
from retentiond.targets.dendrite_media.references.of_holds import KEPT_HOLDS, PLAN_HOLDS, HoldTables
from retentiond.targets.dendrite_media.references.of_holds import SQL as READING_SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.model.media import MediaKey, MediaRow
    from retentiond.targets.dendrite_media.store.workplace import Workplace


def _statements(tables: HoldTables) -> Mapping[str, str]:
    found = named_queries(__package__, "holds.sql", **tables._asdict())
    for condition in ("without_entry", "held", "held_by"):
        found = {name: text.replace(f"{{{condition}}}", found[condition]) for name, text in found.items()}
    return found


SQL: Final = _statements(KEPT_HOLDS)
_PLAN_SQL: Final = _statements(PLAN_HOLDS)
_KEEPING: Final = tuple(name for name in SQL if name.startswith("keep_held_"))


async def keep_held(connection: Conn, *, plan: bool) -> None:
    """Mark the due rows of a survey that holds keep; a plan asks its own copy."""
    if await connection.fetchval(SQL["any_hold"]):
        for statement in _KEEPING:
            await connection.execute((_PLAN_SQL if plan else SQL)[statement])


async def lock_and_find_held(
    connection: Conn, rows: Iterable[MediaRow], *, begun_after: datetime
) -> set[MediaKey] | None:
    """Say which rows are held, for a transaction that deletes: no hold is added or released until it ends.

    None where a hold came meanwhile of which nobody has read yet what it refers to: read that, and begin again.
    """
    await lock_holds(connection)
    if not await connection.fetchval(SQL["any_hold"]):
        return set()
    if await connection.fetch(READING_SQL["unread_holds"], begun_after):
        return None
    rows = list(rows)
    found = await connection.fetch(
        SQL["held_keys"],
        [row.media_id for row in rows],
        [row.media_origin for row in rows],
        [row.user_id for row in rows],
    )
    by_name = {(row.media_id, row.media_origin): row.key for row in rows}
    return {by_name[record["media_id"], record["media_origin"]] for record in found}


async def mark_purging(work: Workplace, rows: Sequence[Record]) -> set[int]:
    """Mark entries that are claimed by us as purging, but for those that a hold is on; return the marked.

    From then on the ledger says of them what their purge frees.
    """
    if not rows:
        return set()
    entries = sorted((entry_path(row) for row in rows), key=lambda entry: (entry.hash, entry.entry_id))
    freed = await work.place.disk.share(measure_entries(work.tree), entries)
    async with work.place.pool.acquire() as connection, connection.transaction():
        await lock_holds(connection)
        marked = await connection.fetch(
            SQL["entries_purging"],
            [entry.entry_id for entry in entries],
            work.claimant.claimant_id,
            [of_entry.files if of_entry else None for of_entry in freed],
            [of_entry.bytes if of_entry else None for of_entry in freed],
        )
    return {row["entry_id"] for row in marked}


async def due_rows_without_entry(work: Workplace, after: int) -> list[Record]:
    """Return a page of the ledger's copies whose grace is over and that have no entry, after a release ID."""
    return list(await work.place.pool.fetch(SQL["due_rows_without_entry"], after, work.place.batch))


async def forget_rows_without_entry(work: Workplace, release_ids: Sequence[int]) -> None:
    """Forget those of these copies that still have no entry and no hold."""
    if not release_ids:
        return
    async with work.place.pool.acquire() as connection, connection.transaction():
        await lock_holds(connection)
        await connection.execute(SQL["forget_rows_without_entry"], list(release_ids))
