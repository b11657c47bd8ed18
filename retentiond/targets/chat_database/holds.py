"""The holds of a chat target: on an account, one chat or visitor of it, or a range of days; put on, told of, released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import reaching
from retentiond.engine.purge import PurgeWish
from retentiond.ledger.holds import add_hold, holds_on_record, release_holds
from retentiond.model.errors import UsageError
from retentiond.model.holds import Coverage
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.account import look_at
from retentiond.targets.chat_database.place import SCHEMA
from retentiond.targets.chat_database.statements import HOLDS_SQL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.adapters.postgres import Conn
    from retentiond.model.holds import Hold, HoldRequest, HoldSubject
    from retentiond.targets.chat_database.place import Place


class ChatHolds:
    """The holds of one chat database, as the engine's Protocol wants them."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Put a hold on, and say what it covers. Once this returns, no purge takes that any more."""
        self._check(request.subject)
        place = self._place
        with reaching("the database"):
            async with place.pool.acquire() as connection:
                await place.ledger.make(connection, SCHEMA)
                hold_id = await add_hold(connection, request)
                [hold] = [h async for h in holds_on_record(connection, closed=True, hold_ids=[hold_id])]
                self._log(hold, "added", hold.added_by, hold.reason)
                return hold, await self._coverage(connection, hold)

    def _check(self, subject: HoldSubject) -> None:
        place = self._place
        if subject.kind != "account":
            raise UsageError(
                f"{place.name} holds chats, and {subject.kind} means nothing there; name the TARGET of the media"
            )
        place.account(subject.name)
        if subject.narrowed.visitor is not None and place.layout.root.visitor is None:
            raise UsageError(
                f"the layout of {place.name} names no column of visitors; add `visitor` to it, or hold the chats"
            )

    async def _coverage(self, connection: Conn, hold: Hold) -> Coverage:
        wish = PurgeWish(hold.subject.name, hold.added_at.date())
        purge = await look_at(self._place, connection, wish, 0, dry_run=True)
        statement = purge.chats.tree.fill(HOLDS_SQL["count_covered"])
        values = purge.chats.values | {"hold_id": hold.hold_id}
        return Coverage(int(await statements.fetchval(connection, statement, values)), 0)

    async def on_record(self, *, closed: bool) -> AsyncIterator[Hold]:
        """Stream the holds in force, and with `closed` all that ever were."""
        if await self._place.ledger.exists(self._place.pool):
            async for hold in holds_on_record(self._place.pool, closed=closed):
                yield hold

    async def release(self, hold_ids: list[int], subject: HoldSubject | None, reason: str) -> list[Hold]:
        """Release holds that are in force; return them as they are on record now."""
        place = self._place
        with reaching("the database"):
            if not await place.ledger.exists(place.pool):
                return []
            async with place.pool.acquire() as connection, connection.transaction():
                released = await release_holds(connection, hold_ids, subject, reason)
        for hold in released:
            self._log(hold, "released", hold.released_by, hold.release_reason)
        return released

    def _log(self, hold: Hold, change: str, by: str | None, reason: str | None) -> None:
        get_logger(target=self._place.name).info(
            "hold_changed",
            change=change,
            hold_id=hold.hold_id,
            kind=hold.subject.kind,
            subject=hold.subject.name,
            narrowed=hold.subject.narrowed.as_json(),
            until=hold.until.isoformat() if hold.until else None,
            by=by,
            reason=reason,
        )
