"""Rooms in dendrite's tables, of the room server and of sync, as a dendrite of `here.test` has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from retentiond.ledger.clocks import look_at_clock, save_clock

if TYPE_CHECKING:
    import asyncpg

LONG_AGO: Final = timedelta(days=400)
GONE: Final = [f"!gone{number}:there.test" for number in range(3)]
STAYS: Final = "!joined:there.test"
"""The rooms of the fixture `rooms`: without local users, and with one."""
_MEMBERSHIPS: Final = {"leave": 1, "invite": 2, "join": 3, "knock": 4}


class RoomsStore:
    """Makes rooms; each method writes what dendrite would write."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection
        self._events = 0

    async def prepare(self) -> None:
        """Make the tables that only purges need."""
        await self.connection.execute(files("tests.support").joinpath("dendrite_rooms.sql").read_text())

    async def add(
        self,
        room_id: str,
        *,
        members: dict[str, str] | None = None,
        messages: int = 3,
        age: timedelta = LONG_AGO,
        in_sync: bool = True,
    ) -> int:
        """Make a room, which `@left:here.test` created and left unless `members` says otherwise; return its number."""
        members = {"@left:here.test": "leave"} if members is None else members
        nid: int = await self.connection.fetchval(
            "INSERT INTO roomserver_rooms (room_id, room_version) VALUES ($1, '10') RETURNING room_nid",
            room_id,
        )
        creator = next(iter(members), "@far:there.test")
        await self.event(room_id, "m.room.create", "", {"creator": creator}, creator, age, in_sync=in_sync)
        for user, membership in members.items():
            if membership != "invite":
                await self.event(
                    room_id, "m.room.member", user, {"membership": "join"}, user, age, in_sync=in_sync
                )
            await self.member(room_id, user, membership, age=age, in_sync=in_sync)
        for number in range(messages):
            content = {"msgtype": "m.text", "body": f"message {number}"}
            await self.event(room_id, "m.room.message", None, content, creator, age, in_sync=in_sync)
        snapshot = "INSERT INTO roomserver_state_snapshots (room_nid, state_block_nids) VALUES ($1, $2)"
        block = await self.connection.fetchval(
            "INSERT INTO roomserver_state_block (event_nids) VALUES ('{}') RETURNING state_block_nid"
        )
        await self.connection.execute(snapshot, nid, [block])
        await self.connection.execute(
            "INSERT INTO syncapi_receipts (room_id, receipt_type, user_id, event_id, receipt_ts)"
            " VALUES ($1, 'm.read', $2, '$e', 0)",
            room_id,
            creator,
        )
        await self.connection.execute(
            "INSERT INTO federationsender_joined_hosts VALUES ($1, '$e', 'there.test')", room_id
        )
        await self.connection.execute(
            "INSERT INTO syncapi_relations (room_id, event_id, child_event_id, child_event_type, rel_type)"
            " VALUES ($1, '$e', '$f', 'm.reaction', 'm.annotation')",
            room_id,
        )
        return nid

    async def member(
        self, room_id: str, user: str, membership: str, *, age: timedelta = timedelta(), in_sync: bool = True
    ) -> None:
        """Write a member's event and row, as a join or a leave does."""
        event_nid = await self.event(
            room_id, "m.room.member", user, {"membership": membership}, user, age, in_sync=in_sync
        )
        await self.connection.execute(
            "INSERT INTO roomserver_membership (room_nid, target_nid, membership_nid, event_nid, target_local)"
            " SELECT r.room_nid, $2, $3, $4, $5 FROM roomserver_rooms r WHERE r.room_id = $1"
            " ON CONFLICT (room_nid, target_nid) DO UPDATE"
            " SET membership_nid = excluded.membership_nid, event_nid = excluded.event_nid",
            room_id,
            await self._state_key(user),
            _MEMBERSHIPS[membership],
            event_nid,
            user.endswith(":here.test"),
        )

    async def event(
        self,
        room_id: str,
        kind: str,
        state_key: str | None,
        content: dict[str, Any],
        sender: str,
        age: timedelta = timedelta(),
        *,
        in_sync: bool = True,
    ) -> int:
        """Write one event, sent to sync; it arrived there unless `in_sync` is False."""
        self._events += 1
        event_id = f"$event{self._events}:{room_id}"
        sent = int((datetime.now(UTC) - age).timestamp() * 1000)
        text = json.dumps({
            "type": kind, "room_id": room_id, "sender": sender, "content": content, "origin_server_ts": sent,
            **({} if state_key is None else {"state_key": state_key}),
        })  # fmt: skip
        connection = self.connection
        type_nid = await connection.fetchval(
            "SELECT event_type_nid FROM roomserver_event_types WHERE event_type = $1", kind
        )
        previous = await connection.fetchval(
            "SELECT e.event_id FROM roomserver_rooms r JOIN roomserver_events e ON e.event_nid = r.last_event_sent_nid"
            " WHERE r.room_id = $1",
            room_id,
        )
        nid: int = await connection.fetchval(
            "INSERT INTO roomserver_events (room_nid, event_type_nid, event_state_key_nid, event_id, sent_to_output)"
            " SELECT room_nid, $2, $3, $4, true FROM roomserver_rooms WHERE room_id = $1 RETURNING event_nid",
            room_id,
            type_nid,
            0 if state_key is None else await self._state_key(state_key),
            event_id,
        )
        await connection.execute("INSERT INTO roomserver_event_json VALUES ($1, $2)", nid, text)
        await connection.execute(
            "UPDATE roomserver_rooms SET last_event_sent_nid = $2 WHERE room_id = $1", room_id, nid
        )
        if previous is not None:
            await connection.execute(
                "INSERT INTO roomserver_previous_events VALUES ($1, $2)", previous, [nid]
            )
        if in_sync:
            await self._in_sync(room_id, kind, state_key, content, sender, event_id, text)
        return nid

    async def _in_sync(
        self,
        room_id: str,
        kind: str,
        state_key: str | None,
        content: dict[str, Any],
        sender: str,
        event_id: str,
        text: str,
    ) -> None:
        position = await self.connection.fetchval(
            "INSERT INTO syncapi_output_room_events (event_id, room_id, headered_event_json, type, sender, contains_url)"
            " VALUES ($1, $2, $3, $4, $5, false) RETURNING id",
            event_id,
            room_id,
            text,
            kind,
            sender,
        )
        await self.connection.execute(
            "INSERT INTO syncapi_output_room_events_topology VALUES ($1, 1, $2, $3)",
            event_id,
            position,
            room_id,
        )
        if state_key is None:
            return
        await self.connection.execute(
            "INSERT INTO syncapi_current_room_state"
            " (room_id, event_id, type, sender, contains_url, state_key, headered_event_json, membership)"
            " VALUES ($1, $2, $3, $4, false, $5, $6, $7) ON CONFLICT (room_id, type, state_key) DO UPDATE"
            " SET event_id = excluded.event_id, headered_event_json = excluded.headered_event_json,"
            " membership = excluded.membership",
            room_id,
            event_id,
            kind,
            sender,
            state_key,
            text,
            content.get("membership"),
        )

    async def _state_key(self, state_key: str) -> int:
        nid: int = await self.connection.fetchval(
            "INSERT INTO roomserver_event_state_keys (event_state_key) VALUES ($1)"
            " ON CONFLICT (event_state_key) DO UPDATE SET event_state_key = excluded.event_state_key"
            " RETURNING event_state_key_nid",
            state_key,
        )
        return nid

    async def rooms(self) -> set[str]:
        """Return the rooms that the room server has."""
        return {row["room_id"] for row in await self.connection.fetch("SELECT room_id FROM roomserver_rooms")}

    async def rows_of_sync(self, room_id: str) -> int:
        """Count sync's events and state of a room."""
        count: int = await self.connection.fetchval(
            "SELECT (SELECT count(*) FROM syncapi_output_room_events WHERE room_id = $1)"
            " + (SELECT count(*) FROM syncapi_current_room_state WHERE room_id = $1)",
            room_id,
        )
        return count

    async def see_empty(self, *, age: timedelta = LONG_AGO) -> None:
        """Let the ledger have seen all rooms as they are now, so long ago, on a machine that has run since."""
        await save_clock(self.connection, await look_at_clock(self.connection, "rooms"))
        await self.connection.execute(
            "INSERT INTO retentiond.room_empty (room_id, room_nid, last_event_nid, first_seen)"
            " SELECT r.room_id, r.room_nid, max(e.event_nid), clock_timestamp() - $1::interval"
            " FROM roomserver_rooms r JOIN roomserver_events e USING (room_nid) GROUP BY 1, 2"
            " ON CONFLICT (room_id) DO UPDATE SET room_nid = excluded.room_nid,"
            " last_event_nid = excluded.last_event_nid, first_seen = excluded.first_seen",
            age,
        )
