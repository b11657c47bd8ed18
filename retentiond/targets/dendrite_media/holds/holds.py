"""The holds of a media target: the rows that each covers, and their listing, addition and release.

Passes, purges and sweeps read them in the transaction that deletes, never from memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, translate_errors
from retentiond.ledger.holds import RecordedHolds, add_hold, lock_holds
from retentiond.model.errors import MissingRightError, RefusedError
from retentiond.model.holds import Coverage, HeldMembers
from retentiond.model.media import parse_media_uri
from retentiond.targets.dendrite_media.database.rows import SCHEMA
from retentiond.targets.dendrite_media.references.of_holds import (
    KEPT_HOLDS,
    PLAN_HOLDS,
    HoldTables,
    any_never_read,
    has_unread,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.holds import Hold, HoldRequest
    from retentiond.model.media import Hash, MediaKey, MediaRow
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext


def _statements(tables: HoldTables) -> Mapping[str, str]:
    found = named_queries(__package__, "holds.sql", **tables._asdict())
    for condition in ("without_entry", "held", "held_by"):
        found = {name: text.replace(f"{{{condition}}}", found[condition]) for name, text in found.items()}
    return found


SQL: Final = _statements(KEPT_HOLDS)
HELD: Final = SQL["held"]
"""A condition in statements of others: is there a hold on the row `k`?"""
WITHOUT_ENTRY: Final = SQL["without_entry"]
"""A condition in statements of others: is the grace of the released row `k` over, without an entry or a hold?"""
_PLAN_SQL: Final = _statements(PLAN_HOLDS)
_KEEPING: Final = tuple(name for name in SQL if name.startswith("keep_held_"))
_STANDS: Final = "the hold is in force, and no pass and no purge begins until this is fixed"


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
    if await has_unread(connection, begun_after):
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


async def lock_known_holds(connection: Conn) -> bool:
    """Lock the holds, for a transaction after which media are gone for good: no hold is added or released until it ends.

    Return False if the references of one were never read: it was added after the others had been read.
    """
    await lock_holds(connection)
    return not await any_never_read(connection)


async def due_rows_without_entry(session: StoreSession, after: int) -> list[Record]:
    """Return a page of the ledger's copies whose grace is over and that have no entry, after a release ID."""
    return list(await session.context.pool.fetch(SQL["due_rows_without_entry"], after, session.context.batch))


async def any_hold(db: Conn | Db) -> bool:
    """Return whether any hold is in force."""
    return bool(await db.fetchval(SQL["any_hold"]))


async def held_in_quarantine(pool: Db, after: str, batch: int) -> list[Hash]:
    """Return a page of blobs, after a blob, of which a released row is held."""
    return [row["hash"] for row in await pool.fetch(SQL["held_in_quarantine"], after, batch)]


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
