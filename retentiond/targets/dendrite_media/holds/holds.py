"""The holds of a media target: added, listed, released, with the rows that each covers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import translate_errors
from retentiond.ledger.holds import RecordedHolds, add_hold
from retentiond.model.errors import MissingRightError, RefusedError
from retentiond.model.holds import Coverage, HeldMembers
from retentiond.model.media import parse_media_uri
from retentiond.targets.dendrite_media.database.rows import SCHEMA
from retentiond.targets.dendrite_media.holds.held import SQL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.holds import Hold, HoldRequest
    from retentiond.targets.dendrite_media.store.context import TargetContext

_STANDS: Final = "the hold is in force, and no pass and no purge begins until this is fixed"


class MediaHolds(RecordedHolds):
    """The holds of one store, as the engine's protocol defines them."""

    def __init__(self, context: TargetContext) -> None:
        super().__init__(context.name, context.pool, context.ledger)
        self._context = context

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Add a hold, and return its coverage. Once this returns, no item that it covers is deleted any more."""
        context = self._context
        with translate_errors("the database"):
            async with context.pool.acquire() as connection:
                await context.ledger.make(connection, SCHEMA)
                async with connection.transaction():
                    hold_id = await add_hold(connection, request)
                    key = parse_media_uri(request.subject.name) if request.subject.kind == "media" else None
                    if key is not None:
                        await context.hold_references.add_medium(connection, hold_id, key)
                hold = await self._added(connection, hold_id)
                coverage = await self._coverage(connection, hold)
                return await self._with_members(connection, hold), coverage

    async def _coverage(self, connection: Conn, hold: Hold) -> Coverage:
        context = self._context
        try:
            await context.hold_references.refresh(connection, begun_after=hold.added_at)
        except RefusedError as error:
            raise RefusedError(replace(error.refusal, hint=f"{_STANDS}: {error.refusal.hint}")) from error
        except MissingRightError as error:
            raise MissingRightError(f"{_STANDS}: {error}") from error
        counts = await connection.fetchrow(
            SQL["coverage"], hold.hold_id, hold.subject.kind, hold.subject.name
        )
        encryption = "plain"
        if hold.subject.kind == "room":
            encryption = await context.hold_references.encryption(connection, hold.subject.name)
        names = context.settings.server_names
        server = hold.subject.name.partition(":")[2].lower()
        return Coverage(
            **dict(counts or {}),
            encrypted=encryption != "plain",
            encryption_known=encryption != "unknown",
            remote_user=hold.subject.kind == "user" and bool(names) and server not in names,
        )

    async def on_record(self, *, closed: bool) -> AsyncIterator[Hold]:
        """Stream the holds in force, and with `closed` all past holds; those of rooms with their members."""
        async for hold in super().on_record(closed=closed):
            yield await self._with_members(self._context.pool, hold)

    async def _with_members(self, db: Conn | Db, hold: Hold) -> Hold:
        if not hold.with_members:
            return hold
        found = await db.fetch(SQL["members"], hold.hold_id)
        users, servers = (
            tuple(row["subject"] for row in found if row["kind"] == kind) for kind in ("user", "origin")
        )
        return replace(hold, members=HeldMembers(users, servers))
