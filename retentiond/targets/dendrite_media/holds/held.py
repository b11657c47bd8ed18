"""The items that holds keep, for passes, purges and sweeps: read in the transaction that deletes, never from memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.holds import lock_holds
from retentiond.targets.dendrite_media.references.of_holds import KEPT_HOLDS, PLAN_HOLDS, HoldTables
from retentiond.targets.dendrite_media.references.of_holds import SQL as READING_SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.media import Hash, MediaKey, MediaRow
    from retentiond.targets.dendrite_media.store.context import StoreSession


def _statements(tables: HoldTables) -> Mapping[str, str]:
    found = named_queries(__package__, "holds.sql", **tables._asdict())
    for condition in ("without_entry", "held", "held_by"):
        found = {name: text.replace(f"{{{condition}}}", found[condition]) for name, text in found.items()}
    return found


SQL: Final = _statements(KEPT_HOLDS)
_PLAN_SQL: Final = _statements(PLAN_HOLDS)
_KEEPING: Final = tuple(name for name in SQL if name.startswith("keep_held_"))


async def keep_held(connection: Conn, *, plan: bool) -> None:
    """Mark the due rows of a survey that holds keep; a plan reads its own copy."""
    if await any_hold(connection):
        for statement in _KEEPING:
            await connection.execute((_PLAN_SQL if plan else SQL)[statement])


async def lock_and_find_held(
    connection: Conn, rows: Iterable[MediaRow], *, begun_after: datetime
) -> set[MediaKey] | None:
    """Return the held rows, for a transaction that deletes: no hold is added or released until it ends.

    None if a hold was added meanwhile whose references have not been read: read them, and begin again.
    """
    await lock_holds(connection)
    if not await any_hold(connection):
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


async def due_rows_without_entry(session: StoreSession, after: int) -> list[Record]:
    """Return a page of the ledger's copies whose grace is over and that have no entry, after a release ID."""
    return list(await session.context.pool.fetch(SQL["due_rows_without_entry"], after, session.context.batch))


async def any_hold(db: Conn | Db) -> bool:
    """Return whether any hold is in force."""
    return bool(await db.fetchval(SQL["any_hold"]))


async def held_in_quarantine(pool: Db, after: str, batch: int) -> list[Hash]:
    """Return a page of blobs, after a blob, of which a released row is held."""
    return [row["hash"] for row in await pool.fetch(SQL["held_in_quarantine"], after, batch)]
