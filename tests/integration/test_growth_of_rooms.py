"""The reading of rooms: each event is read so many times, however many rooms there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from retentiond.adapters.postgres import connect
from retentiond.model.mentions import ROOM_KINDS, room_source
from retentiond.targets.dendrite_media.references.sources import MEMBERS, MESSAGES, Sources, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from tests.support.database import DatabaseServer

ROOMS, EVENTS, GROWTH = 20, 120, 5
FILL = """
INSERT INTO roomserver_rooms (room_id, room_version) SELECT '!' || n, '10' FROM generate_series(1, $1) n;
INSERT INTO roomserver_membership (room_nid, target_nid, target_local, membership_nid, event_nid)
SELECT room_nid, n, true, 1, n FROM roomserver_rooms, generate_series(1, $2) n;
INSERT INTO syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key, headered_event_json, membership)
SELECT room_id, '$' || room_nid || '-' || n, 'm.room.member', u.id, false, u.id,
       '{"origin_server_ts": 1600000000000, "content": {}}', CASE WHEN n % 2 = 0 THEN 'join' ELSE 'leave' END
FROM roomserver_rooms, generate_series(1, $2) n,
     LATERAL (SELECT '@' || n || CASE WHEN n % 2 = 0 THEN ':there.test' ELSE ':here.test' END) AS u(id);
INSERT INTO syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key, headered_event_json, added_at)
SELECT room_id, t.type || room_nid, t.type, '@1:here.test', false, '',
       '{"origin_server_ts": 1600000000000, "content": {"replacement_room": "!new"}}', 1000000000
FROM roomserver_rooms, unnest(ARRAY['m.room.tombstone', 'm.room.encryption']) AS t(type);
INSERT INTO syncapi_output_room_events (event_id, room_id, headered_event_json, type, sender, contains_url)
SELECT '$m' || room_nid || '-' || n, room_id,
       '{"origin_server_ts": 1500000000000, "content": {"url": "mxc://there.test/' || room_nid || '-' || n || '"}}',
       'm.room.message', '@1:here.test', true
FROM roomserver_rooms, generate_series(1, $2) n;
INSERT INTO syncapi_invite_events (event_id, room_id, target_user_id, headered_event_json, deleted)
SELECT '$i' || room_nid, room_id, '@1:here.test', '{}', room_nid % 3 > 0 FROM roomserver_rooms;
ANALYZE;
"""


class Counting:
    """A connection that counts the rows of each node of the plan of each statement, as the server ran it."""

    def __init__(self, connection: Conn) -> None:
        self._connection = connection
        self.visited: dict[str, float] = {}

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Run a statement."""
        command = next(line for line in statement.splitlines() if not line.startswith("--"))
        if not command.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
            await self._connection.execute(statement, *arguments)
            return
        text = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
        found: list[Record] = await self._connection.fetch(text, *arguments)
        ((plan,),) = found
        self.visited[statement] = sum(_visited(json.loads(plan)[0]["Plan"]))


def _visited(node: dict[str, Any]) -> Iterator[float]:
    left_out = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    yield (node["Actual Rows"] + left_out) * node["Actual Loops"]
    for below in node.get("Plans", ()):
        yield from _visited(below)


async def visited(postgres: DatabaseServer, rooms: int) -> dict[str, float]:
    """Return the number of rows that each statement over a store with so many left rooms visits."""
    dsn = await postgres.clone()
    connection = await connect(dsn)
    try:
        await connection.execute(FILL.replace("$1", str(rooms)).replace("$2", str(EVENTS)))
        await prepare(connection)
        # What these hash tables exceed, those of large stores exceed at their work_mem.
        await connection.execute("SET work_mem TO '64kB'")
        counting = Counting(connection)
        sources = ["messages_in", *(room_source(kind) for kind in ROOM_KINDS)]
        read: Any = counting
        assert await Sources(dsn, {}, frozenset({"here.test"})).classify_rooms(read, connection, sources)
        found = await connection.fetch(
            "SELECT kind, since_ms IS NOT NULL, count(*) FROM pg_temp.retentiond_room GROUP BY 1, 2"
        )
        assert {tuple(row) for row in found} == {
            ("no_local_members", True, rooms - rooms // 3), ("upgraded", True, rooms),
        }  # fmt: skip
        await counting.execute(MESSAGES.text, sources)
        await counting.execute(MEMBERS.text, ["here.test"])
        return counting.visited
    finally:
        await connection.close()
        await postgres.drop(dsn)


async def test_no_statement_reads_the_events_once_for_each_room(postgres: DatabaseServer) -> None:
    """With 1,000 left rooms and 1,000,000 events of their state a plan came to no end."""
    few, many = [await visited(postgres, rooms) for rooms in (ROOMS, GROWTH * ROOMS)]
    assert few.keys() == many.keys()
    grown = {
        statement for statement, rows in few.items() if many[statement] > 1.5 * GROWTH * max(rows, ROOMS)
    }
    assert not grown
