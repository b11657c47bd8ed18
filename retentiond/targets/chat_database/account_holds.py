"""Questions about the holds on an account, under each of its names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.holds import lock_holds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db

_SQL: Final = named_queries(__package__, "account_holds.sql")


async def has_dated_hold(connection: Conn, names: Sequence[str]) -> bool:
    """Return whether a hold in force begins on a day: then the newest date of each chat is needed."""
    return bool(await connection.fetchval(_SQL["dated"], names))


async def hold_beyond_stores(
    db: Conn | Db, names: Sequence[str], cutoff: datetime, timezone: str, visitor: str | None
) -> Record | None:
    """Return a hold that a secondary store cannot keep by the IDs of chats: its number and what narrows it."""
    return await db.fetchrow(_SQL["beyond_other_stores"], names, cutoff, timezone, visitor)


async def newest_hold(connection: Conn) -> int:
    """Return the number of the newest hold of all, after waiting for holds that are being added."""
    async with connection.transaction():
        # A number is given before its hold is visible.
        await lock_holds(connection)
        newest: int = await connection.fetchval(_SQL["newest"])
        return newest


async def newer_hold(db: Conn | Db, names: Sequence[str], than: int) -> int | None:
    """Return the first hold in force that is newer than a number."""
    newer: int | None = await db.fetchval(_SQL["newer"], names, than)
    return newer
