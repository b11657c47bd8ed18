"""The second look at a room, immediately before its purge: what the databases say in that moment, and how long it would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.room_purge import RoomLook

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.targets.dendrite_rooms.admin_api import AdminApi

SQL: Final = named_queries(__package__, "second_look.sql")
_COMPARED: Final = 1000


async def look_at_room(
    connection: Conn, room_id: str, *, watched: tuple[int, datetime] | None = None
) -> RoomLook | None:
    """Look at a room in the room server's database, by one statement; None where it is not there.

    `watched` is the newest event and since when it has been that, of a caller that has watched the room itself.
    """
    row = await connection.fetchrow(SQL["look"], room_id)
    if row is None:
        return None
    fields = dict(row)
    if watched is not None:
        fields["seen_event_nid"], fields["seen_at"] = watched
    return RoomLook(**fields)


async def sync_knows(sync: Db, room_id: str, event_id: str | None) -> tuple[bool, bool]:
    """Return whether sync has the room's last event, and whether it knows of a pending invite."""
    row = await sync.fetchrow(SQL["sync"], room_id, event_id)
    assert row is not None  # noqa: S101 - the statement has one row always
    return row["has_event"], row["invited"]


async def count_previous_events(room_server: Db) -> int:
    """Count the rows of roomserver_previous_events on the whole server; a purge compares each with the room's events."""
    return int(await room_server.fetchval(SQL["previous_events"]))


async def is_locked(room_server: Db, room_id: str) -> bool:
    """Return whether a transaction under way has locked the room's row, as a purge does first."""
    return bool(await room_server.fetchval(SQL["locked"], room_id))


async def is_there(room_server: Db, room_id: str, room_nid: int | None = None) -> bool:
    """Return whether the room server has a room, and under that number if one is given: a room that came back has another."""
    return bool(await room_server.fetchval(SQL["is_there"], room_id, room_nid))


async def is_held(connection: Conn, room_id: str) -> bool:
    """Return whether a hold on the room is in force."""
    return bool(await connection.fetchval(SQL["held"], room_id))


async def ensure_own_dendrite(
    room_server: Db, api: AdminApi, server_names: AbstractSet[str]
) -> frozenset[str]:
    """Return the rooms that dendrite calls empty; raise RefusedError unless it is the server of this database.

    The token's user must be of this server, and most of the rooms that one side calls empty must be so for the other. Two
    servers may have one room: what the other one calls empty must not be taken for ours, nor may its users leave it.
    """
    empty_rooms = await api.empty_rooms()
    user = await api.user()
    if user.partition(":")[2].lower() not in server_names:
        raise _another_dendrite(
            f"the token's user is {user}, and the server is {', '.join(sorted(server_names))}"
        )
    rooms = sorted(empty_rooms)[:_COMPARED]
    known = int(await room_server.fetchval(SQL["known"], rooms))
    expected = await room_server.fetch(SQL["expected"], _COMPARED)
    listed = sum(row["room_id"] in empty_rooms for row in expected)
    # A room may go or come in between.
    for fitting, count, found in (
        (known, len(rooms), "rooms that dendrite calls empty are not in the database"),
        (listed, len(expected), "rooms that are empty by the database are not listed by dendrite"),
    ):
        if fitting * 2 < count:
            raise _another_dendrite(f"{count - fitting} of {count} {found}")
    return empty_rooms


def _another_dendrite(sign: str) -> RefusedError:
    hint = "`admin_api` and `database` belong to different servers, or dendrite works on SQLite: correct one of them"
    return RefusedError(Refusal("another_dendrite", sign, 0, f"nothing was purged; {hint}"))
