"""The statements about rooms, as the server plans them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from retentiond.targets.dendrite_rooms.survey import SQL

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

FILL = """
INSERT INTO syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key, headered_event_json, membership)
SELECT '!' || r, '$' || r || '-' || n, CASE WHEN n = 1 THEN 'm.space.child' ELSE 'm.room.member' END, '@1:here.test', false,
       CASE WHEN n = 1 THEN '!' || r + 1 ELSE '@' || n || ':there.test' END, '{"content": {"via": ["here.test"]}}', 'join'
FROM generate_series(1, 300) r, generate_series(1, 20) n;
INSERT INTO syncapi_output_room_events (event_id, room_id, headered_event_json, type, sender, contains_url)
SELECT '$m' || r || '-' || n, '!' || r, '{}', 'm.room.message', '@1:here.test', false
FROM generate_series(1, 300) r, generate_series(1, 20) n;
ANALYZE;
"""


def _read_whole(node: dict[str, Any]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan":
        yield node["Relation Name"]
    for below in node.get("Plans", ()):
        yield from _read_whole(below)


async def test_the_look_at_one_room_before_its_purge_reads_by_the_indexes_of_dendrite(
    connection: Connection,
) -> None:
    """Sync's state of a server was read once for each room that was purged."""
    await connection.execute(FILL)
    for name, statement in SQL.items():
        if name.endswith("_function") or name == "make_rooms":
            await connection.execute(statement)
    await connection.execute(
        "INSERT INTO pg_temp.retentiond_room (room_nid, room_id, version, wanted, joined, invites)"
        " VALUES (7, '!7', '10', true, 0, 0); ANALYZE pg_temp.retentiond_room"
    )
    [plan] = await connection.fetch(f"EXPLAIN (FORMAT JSON) {SQL['state_of_rooms']}", ["here.test"])
    # No index of dendrite has the rooms of invites.
    assert set(_read_whole(json.loads(plan[0])[0]["Plan"])) <= {"retentiond_room", "syncapi_invite_events"}
    [row] = await connection.fetch(SQL["state_of_rooms"], ["here.test"])
    assert (row["room_id"], row["parents"]) == ("!7", ["!6"])
