"""The purges of chats in the ledger: their beginning, the report that commits with each batch, and their end.

Also the names of an account (the place of its chats, and the earlier names of that place in the configuration), and the
holds on it under each of its names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.holds import lock_holds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.engine.target import PurgeRequest
    from retentiond.model.purge import PurgeReport
    from retentiond.targets.chat_database.context import ChatContext

_SQL: Final = named_queries(__package__, "purge_table.sql")


async def begin_purge(connection: Conn, pass_id: int, request: PurgeRequest, cutoff: datetime) -> None:
    """Record the terms of an account's purge, in the transaction that begins the pass."""
    terms = (request.account, request.to_date, cutoff, request.file_messages, request.stats)
    await connection.execute(_SQL["begin"], pass_id, *terms)


async def note_purge(connection: Conn, pass_id: int, report: PurgeReport) -> None:
    """Record the report so far, in the transaction of the batch that it includes."""
    await connection.execute(_SQL["note"], pass_id, report.account, json.dumps(report.as_json()))


async def committed_report(pool: Db, pass_id: int | None, account: str) -> dict[str, Any]:
    """Return the report that committed with the last batch; empty without a batch."""
    report = await pool.fetchval(_SQL["committed"], pass_id, account)
    return dict(json.loads(report)) if report else {}


async def end_purge(pool: Db, pass_id: int | None, report: PurgeReport) -> None:
    """Record the state and the final report."""
    await pool.execute(_SQL["end"], pass_id, report.account, report.state, json.dumps(report.as_json()))


async def database_clock(connection: Conn) -> datetime:
    """Return the time of the server."""
    now: datetime = await connection.fetchval(_SQL["clock"])
    return now


async def note_name(connection: Conn, context: ChatContext, account: str) -> None:
    """Record where the chats of an account are."""
    await connection.execute(_SQL["note_name"], *_place(context, account), account)


async def names_of(connection: Conn, context: ChatContext, account: str) -> list[str]:
    """Return the account's name, and the earlier names of the same chats."""
    if not await connection.fetchval(_SQL["knows_names"]):
        return [account]
    rows = await connection.fetch(_SQL["names"], *_place(context, account))
    return [account, *(row["account"] for row in rows if row["account"] != account)]


def _place(context: ChatContext, account: str) -> tuple[str, str]:
    return context.schema_of(account), context.column_value_of(account) or ""


async def has_dated_hold(connection: Conn, names: Sequence[str]) -> bool:
    """Return whether a hold in force begins on a day: then the newest date of each chat is needed."""
    return bool(await connection.fetchval(_SQL["dated"], names))


async def hold_beyond_stores(
    db: Conn | Db, names: Sequence[str], cutoff: datetime, timezone: str, visitor: str | None
) -> Record | None:
    """Return a hold that a secondary store cannot respect by the IDs of chats: its number and its restrictions."""
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
