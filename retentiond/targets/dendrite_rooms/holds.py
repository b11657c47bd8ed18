"""The holds of a room target: on rooms by their ID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, translate_errors
from retentiond.ledger.holds import RecordedHolds, add_hold
from retentiond.model.errors import Refusal, RefusedError, UsageError
from retentiond.model.holds import Coverage
from retentiond.model.text import printable
from retentiond.targets.dendrite_rooms.context import SCHEMA, ensure_tables
from retentiond.targets.dendrite_rooms.purges.purge_table import has_open_purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.model.holds import Hold, HoldRequest
    from retentiond.targets.dendrite_rooms.context import RoomContext

SQL: Final = named_queries(__package__, "holds.sql")


class RoomHolds(RecordedHolds):
    """The holds on rooms, as the engine's Protocol wants them."""

    def __init__(self, context: RoomContext) -> None:
        super().__init__(context.name, context.pool, context.ledger)
        self._context = context

    async def on_record(self, *, closed: bool) -> AsyncIterator[Hold]:
        """Stream the holds on rooms; a media target that shares the ledger has others, too."""
        async for hold in super().on_record(closed=closed):
            if hold.subject.kind == "room":
                yield hold

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Add a hold. Once this returns, no purge of the room begins; raise RefusedError where one was sent before.

        Where a media target shares the ledger, an equal hold may be in force already, and is not added twice.
        """
        subject = request.subject
        if subject.kind != "room":
            raise UsageError(
                f"{self._context.name} holds rooms, and {subject.kind} means nothing there; name the TARGET of the media"
            )
        with translate_errors("the database"):
            async with self._context.pool.acquire() as connection:
                await ensure_tables(connection)
                await self._context.ledger.make(connection, SCHEMA)
                async with connection.transaction():
                    await connection.execute(SQL["lock_holds"])
                    hold_id = await connection.fetchval(
                        SQL["equal_hold"], subject.name, request.until, request.reason, request.with_members
                    )
                    if hold_id is None:
                        hold_id = await add_hold(connection, request)
                if await has_open_purge(connection, subject.name):
                    raise RefusedError(
                        Refusal(
                            "hold_too_late",
                            f"a purge of {printable(subject.name)} was sent before",
                            None,
                            f"hold {hold_id} is recorded, and a request that dendrite has cannot be taken back; "
                            f"`retentiond status {self._context.name}` shows the purge, and if the room stays, the hold keeps it",
                        )
                    )
                known = bool(await connection.fetchval(SQL["knows_room"], subject.name))
                return await self._added(connection, hold_id), Coverage(int(known), 0)
