"""The holds of a ledger: added, listed, released; the target defines their coverage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries, translate_errors
from retentiond.ledger.host import actor
from retentiond.model.holds import Hold, HoldSubject, Narrowing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.ledger.ledger import Ledger
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
        request.with_members,
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


class RecordedHolds:
    """The holds of a target as its ledger has them; adding one, and its coverage, is the target's part."""

    def __init__(self, target: str, db: Db, ledger: Ledger) -> None:
        self._target = target
        self._db = db
        self._ledger = ledger

    async def on_record(self, *, closed: bool) -> AsyncIterator[Hold]:
        """Stream the holds in force, and with `closed` the past ones, too."""
        with translate_errors("the database"):
            if await self._ledger.exists(self._db):
                async for hold in holds_on_record(self._db, closed=closed):
                    yield hold

    async def release(self, hold_ids: list[int], subject: HoldSubject | None, reason: str) -> list[Hold]:
        """Release holds that are in force; return them as they are on record now."""
        with translate_errors("the database"):
            if not await self._ledger.exists(self._db):
                return []
            async with self._db.acquire() as connection, connection.transaction():
                released = await release_holds(connection, hold_ids, subject, reason)
        for hold in released:
            self._log(hold, "released", hold.released_by, hold.release_reason)
        return released

    async def _added(self, connection: Conn, hold_id: int) -> Hold:
        """Return a hold that was just added, and log it."""
        [hold] = [h async for h in holds_on_record(connection, closed=True, hold_ids=[hold_id])]
        self._log(hold, "added", hold.added_by, hold.reason)
        return hold

    def _log(self, hold: Hold, change: str, by: str | None, reason: str | None) -> None:
        get_logger(target=self._target).info(
            "hold_changed",
            change=change,
            hold_id=hold.hold_id,
            kind=hold.subject.kind,
            subject=hold.subject.name,
            narrowed=hold.subject.narrowed.as_json(),
            with_members=hold.with_members,
            until=hold.until.isoformat() if hold.until else None,
            by=by,
            reason=reason,
        )


def _hold(row: Record) -> Hold:
    fields = dict(row)
    narrowed = Narrowing.from_json(json.loads(fields.pop("narrowed")))
    return Hold(subject=HoldSubject(fields.pop("kind"), fields.pop("subject"), narrowed), **fields)
