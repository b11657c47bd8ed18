"""The holds of a media target: put on, told of, released, with what each covers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import reaching
from retentiond.ledger.holds import add_hold, holds_on_record, release_holds
from retentiond.model.errors import RefusedError
from retentiond.model.holds import Coverage
from retentiond.model.media import parse_media_uri
from retentiond.targets.dendrite_media.database import SCHEMA
from retentiond.targets.dendrite_media.held import SQL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.adapters.postgres import Conn
    from retentiond.model.holds import Hold, HoldRequest, HoldSubject
    from retentiond.targets.dendrite_media.workplace import Place


class MediaHolds:
    """The holds of one store, as the engine's Protocol wants them."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Put a hold on, and say what it covers. Once this returns, nothing that it covers is taken any more."""
        place = self._place
        with reaching("the database"):
            async with place.pool.acquire() as connection:
                await place.ledger.make(connection, SCHEMA)
                async with connection.transaction():
                    hold_id = await add_hold(connection, request)
                    key = parse_media_uri(request.subject.name) if request.subject.kind == "media" else None
                    if key is not None:
                        await connection.execute(SQL["hold_medium"], hold_id, *key)
                [hold] = [h async for h in holds_on_record(connection, closed=True, hold_ids=[hold_id])]
                self._log(hold, "added", hold.added_by, hold.reason)
                return hold, await self._coverage(connection, hold)

    async def _coverage(self, connection: Conn, hold: Hold) -> Coverage:
        place = self._place
        try:
            await place.hold_references.refresh(connection, begun_after=hold.added_at)
        except RefusedError as error:
            stands = f"the hold stands all the same, and until this is mended no pass and no purge begins: {error.refusal.hint}"
            raise RefusedError(replace(error.refusal, hint=stands)) from error
        counts = await connection.fetchrow(
            SQL["coverage"], hold.hold_id, hold.subject.kind, hold.subject.name
        )
        encrypted = hold.subject.kind == "room" and await place.hold_references.encrypted(
            connection, hold.subject.name
        )
        return Coverage(**dict(counts or {}), encrypted=encrypted)

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
            until=hold.until.isoformat() if hold.until else None,
            by=by,
            reason=reason,
        )
