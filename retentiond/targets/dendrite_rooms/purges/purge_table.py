"""The table of the purges of rooms: every write to it is in this module.

The states, and the changes that are allowed, which `CHANGES` in `model/room_purge.py` has as data:

    (no purge) -- intend(), before the request -----------> sent
    sent -------- the room server's rows are gone --------> emptied
    sent -------- no request was sent --------------------> withdrawn
    sent -------- dendrite refused, the room stays -------> refused
    sent -------- dendrite was interrupted, it is whole --> undone
    emptied ----- sync's rows are gone, too --------------> purged
    emptied ----- they stay ------------------------------> rows_stay
    rows_stay --- they are gone at last ------------------> purged

Only its claimant changes a purge. While a purge is `sent` or `emptied`, no other purge of the room can be recorded. The record
of the disposal is written with the change to `purged` or `rows_stay`, once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries, pages
from retentiond.ledger.records import Record, add_record
from retentiond.model.errors import LeaseLostError
from retentiond.model.room_purge import CHANGES
from retentiond.model.statistics import Freed
from retentiond.targets.dendrite_rooms.purges.tables import left_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import timedelta

    from asyncpg import Record as Row

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.room_purge import PurgeState, RoomLook, RoomOrder

SQL: Final = named_queries(__package__, "purge_table.sql")
_PAGE: Final = 1000
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Purge:
    """A purge that is ours: its room, its state as we took it, and its age."""

    purge_id: int
    claimant: int
    room_id: str
    room_nid: int
    rows: Mapping[str, int]
    state: PurgeState = "sent"
    sent_ago: timedelta | None = None
    emptied_ago: timedelta | None = None
    accepted: bool = False
    """An administrator knows of its rows that stay."""


async def intend(
    connection: Conn,
    target: str,
    pass_id: int | None,
    order: RoomOrder,
    look: RoomLook,
    rows: Mapping[str, int],
    claimant: int,
) -> Purge | None:
    """Record a purge that will be sent; None where another purge of the room is not over."""
    purge_id = await connection.fetchval(
        SQL["intend"],
        target,
        pass_id,
        look.room_id,
        look.room_nid,
        order.policy,
        claimant,
        order.bytes,
        json.dumps(dict(rows)),
        json.dumps(dict(order.about)),
    )
    return purge_id and Purge(purge_id, claimant, look.room_id, look.room_nid, rows)


async def change_state(
    db: Db,
    purge: Purge,
    state: PurgeState,
    *,
    reason: str | None = None,
    rows: Mapping[str, int] | None = None,
) -> None:
    """Change a purge that we have claimed; the end of one is recorded in the same transaction."""
    allowed = [before for before, after in CHANGES.items() if state in after and before is not None]
    counted = None if rows is None else json.dumps(dict(rows))
    async with db.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            SQL["change_state"], purge.purge_id, purge.claimant, state, allowed, reason, counted
        )
        if row is None:
            raise LeaseLostError("another retentiond has taken the purge of a room over; it goes on with it")
        # Rows that are gone at last were recorded as left before.
        if state == "rows_stay" or (state == "purged" and purge.state != "rows_stay"):
            await add_record(
                connection, Record("room_purged", row["target"], row["pass_id"], _record(row, purge.rows))
            )


def _record(row: Row, before: Mapping[str, int]) -> dict[str, Any]:
    after: dict[str, int] = json.loads(row["rows_after"])
    return {
        "room": row["room_id"],
        "policy": row["policy"],
        "state": row["state"],
        "sent_at": row["sent_at"].isoformat(),
        "closed_at": row["closed_at"].isoformat(),
        "bytes": row["bytes"],
        "rows": {
            name: count - after.get(name, 0) for name, count in before.items() if count > after.get(name, 0)
        },
        "left": left_rows(after),
    }


async def leave(db: Db, purge: Purge) -> None:
    """End the claim; a sweep goes on with the purge."""
    await db.execute(SQL["leave"], purge.purge_id, purge.claimant)


async def unfinished(db: Db, target: str) -> dict[int, int | None]:
    """Return the purges that are not over, or whose rows stay, each with its claimant."""
    return {row["purge_id"]: row["claimant"] for row in await db.fetch(SQL["unfinished"], target)}


async def claim(db: Db, purge_id: int, claimant: int, dead: Sequence[int]) -> Purge | None:
    """Take a purge over; None where its claimant is alive, or it is over."""
    row = await db.fetchrow(SQL["claim"], purge_id, claimant, list(dead))
    if row is None:
        return None
    return Purge(
        row["purge_id"],
        claimant,
        row["room_id"],
        row["room_nid"],
        json.loads(row["rows_before"]),
        row["state"],
        row["sent_ago"],
        row["emptied_ago"],
        row["accepted"],
    )


async def accept_rows(connection: Conn, target: str) -> None:
    """Let the next look end the purges whose rows stay, and report those."""
    await connection.execute(SQL["accept_rows"], target)


async def note_returned(db: Db, target: str) -> list[str]:
    """Note the purged rooms that are there again, and log those that were not noted before; return these."""
    returned = [row["room_id"] for row in await db.fetch(SQL["note_returned"], target)]
    for room_id in returned:
        get_logger(target=target).warning("purged_room_returned", room=room_id)
    return returned


async def purged_rooms(db: Db, target: str) -> AsyncIterator[list[tuple[str, int]]]:
    """Stream the purged rooms that are not there again, and their old numbers, in pages."""
    after = 0
    while page := await db.fetch(SQL["purged_page"], after, _PAGE, target):
        yield [(row["room_id"], row["room_nid"]) for row in page]
        after = page[-1]["purge_id"]


async def purged_by_day(connection: Conn, target: str) -> tuple[Freed, ...]:
    """Return the purged rooms and their bytes by day in UTC, whether a pass, a sweep or a purge by hand ended the purge."""
    if not await connection.fetchval(SQL["is_there"]):
        return ()
    return tuple(Freed(*row) for row in await connection.fetch(SQL["purged_by_day"], target))


async def kept_rooms(db: Db, target: str, room_id: str | None) -> AsyncIterator[dict[str, Any]]:
    """Stream what is kept of purged rooms, or of one, in the order of their purges."""
    async with db.acquire() as connection:
        if not await connection.fetchval(SQL["is_there"]):
            return
        # A row may have megabytes of state.
        async for page in pages(connection, SQL["kept_page"], target, room_id, size=1, after=(0,)):
            for row in page:
                yield {
                    "room": row["room_id"],
                    "policy": row["policy"],
                    "purged_at": row["closed_at"].isoformat(),
                    "bytes": row["bytes"],
                    "kept": json.loads(row["about"]),
                }


async def has_open_purge(connection: Conn, room_id: str) -> bool:
    """Return whether a purge of the room is under way."""
    return bool(await connection.fetchval(SQL["has_open"], room_id))


async def open_purges(connection: Conn | Db, target: str) -> list[Row]:
    """Return the first unfinished purges: the room, the state and the time of the request."""
    return list(await connection.fetch(SQL["open_purges"], target, _SHOWN))
