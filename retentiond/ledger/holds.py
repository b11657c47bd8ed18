"""The holds of a ledger: put on, told of, released; what they keep is the target's to say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.host import actor
from retentiond.model.holds import Hold, HoldSubject, Narrowing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.holds import HoldRequest

SQL: Final = named_queries(__package__, "holds.sql")
_PAGE: Final = 1000


async def lock_holds(connection: Conn) -> None:
    """Let no hold be added or released until this transaction ends."""
    await connection.execute(SQL["lock_holds"])


async def add_hold(connection: Conn | Db, request: HoldRequest) -> int:
    """Record a hold, and return its number."""
    hold_id: int = await connection.fetchval(
        SQL["add_hold"],
        request.subject.kind,
        request.subject.name,
        request.until,
        request.reason,
        actor(),
        json.dumps(request.subject.narrowed.as_json()),
    )
    return hold_id


async def holds_on_record(
    db: Conn | Db, *, closed: bool, hold_ids: list[int] | None = None
) -> AsyncIterator[Hold]:
    """Stream holds by number: those in force, or all."""
    after = 0
    while page := await db.fetch(SQL["holds_page"], after, _PAGE, closed, hold_ids):
        for row in page:
            yield _hold(row)
        after = page[-1]["hold_id"]


async def release_holds(
    connection: Conn, hold_ids: list[int], subject: HoldSubject | None, reason: str
) -> list[Hold]:
    """Release holds by number, or all on a subject; return them as they are on record now."""
    rows = await connection.fetch(
        SQL["release_holds"],
        actor(),
        reason,
        hold_ids,
        subject.kind if subject else None,
        subject.name if subject else None,
        json.dumps(subject.narrowed.as_json()) if subject else None,
    )
    released = sorted(row["hold_id"] for row in rows)
    return [hold async for hold in holds_on_record(connection, closed=True, hold_ids=released)]


async def count_holds(connection: Conn | Db) -> int:
    """Return how many holds are in force."""
    return int(await connection.fetchval(SQL["count_holds"]))


def _hold(row: Record) -> Hold:
    fields = dict(row)
    narrowed = Narrowing.from_json(json.loads(fields.pop("narrowed")))
    return Hold(subject=HoldSubject(fields.pop("kind"), fields.pop("subject"), narrowed), **fields)
