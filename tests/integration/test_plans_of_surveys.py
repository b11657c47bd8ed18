"""The plans of the statements that read whole tables: the server's workers share them."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.adapters.postgres import connect
from retentiond.model.match import Match
from retentiond.model.policy import Policy, Rules
from retentiond.targets.dendrite_media.references.shown import SQL as SHOWN
from retentiond.targets.dendrite_media.references.sources import prepare
from retentiond.targets.dendrite_media.surveys.gone import SQL as GONE
from retentiond.targets.dendrite_media.surveys.sizes import MEASURED_BY_AGE
from retentiond.targets.dendrite_media.surveys.survey import SQL
from retentiond.targets.dendrite_media.surveys.verdicts import compiled
from retentiond.targets.dendrite_media.views.plan import SQL as PLAN
from retentiond.targets.dendrite_media.views.plan import due_blobs_filter
from retentiond.targets.dendrite_media.views.statistics import SQL as STATISTICS
from retentiond.targets.dendrite_media.views.usage import SQL as STORED
from retentiond.targets.dendrite_media.views.usage import make_stored
from retentiond.targets.dendrite_rooms.survey import SQL as ROOMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from retentiond.adapters.postgres import Conn

FILL = """
INSERT INTO mediaapi_media_repository
SELECT 'media' || n, 'there.test', 'image/png', 1, 1, '', md5(n::text) || repeat('A', 11), ''
FROM generate_series(1, 30000) n;
INSERT INTO syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key, headered_event_json)
SELECT '!room', '$' || n, 'm.room.member', '@a:here.test', false, '@u' || n, '{"content":{"avatar_url":"mxc://a/b"}}'
FROM generate_series(1, 30000) n;
INSERT INTO syncapi_output_room_events (event_id, room_id, headered_event_json, type, sender, contains_url)
SELECT '$' || n, '!room', '{"content":{"url":"mxc://a/' || n || '"}}', 'm.room.message', '@a:here.test', true
FROM generate_series(1, 30000) n;
ANALYZE;
"""
FILL_THUMBNAILS = """
INSERT INTO mediaapi_thumbnail
    (media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height, resize_method)
SELECT media_id, media_origin, content_type, 1, 1, width, width, 'crop'
FROM mediaapi_media_repository CROSS JOIN (VALUES (32), (96)) AS made (width);
ANALYZE mediaapi_thumbnail;
"""
SMALL_IS_LARGE = "SET min_parallel_table_scan_size TO 0; SET parallel_setup_cost TO 0"
RULES = Rules(
    (
        Policy("large", Match(larger_than=1, content_type="video/*"), timedelta(days=7)),
        Policy("remote", Match(origin="remote"), timedelta(days=30)),
    ),
    frozenset({"here.test"}),
)


@pytest.fixture
async def large(database: str) -> AsyncIterator[Conn]:
    """A connection to a store that its planner takes for a large one."""
    connection = await connect(database)
    await connection.execute(FILL)
    await connection.execute(SMALL_IS_LARGE)
    yield connection
    await connection.close()


async def shared(connection: Conn, statement: str, *arguments: Any) -> set[str]:
    """Return the relations and functions that the workers of a statement read."""
    found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)

    def walk(node: dict[str, Any], *, by_workers: bool) -> Iterator[str]:
        if by_workers and (name := node.get("Relation Name") or node.get("Function Name")):
            yield name
        for child in node.get("Plans", ()):
            yield from walk(child, by_workers=by_workers or node["Node Type"].startswith("Gather"))

    return set(walk(json.loads(found)[0]["Plan"], by_workers=False))


async def test_the_workers_of_the_server_share_the_verdicts(large: Conn) -> None:
    policies = compiled(RULES, datetime.now(UTC))
    counting = SQL["count_verdicts"].replace("{verdict}", policies.text)
    for statement, arguments in (
        (counting, policies.arguments),
        policies.due_rows(SQL["take_due"], 1000),
        (SQL["sample"], (10, 1, 2**62)),
    ):
        assert await shared(large, statement, *arguments) == {"mediaapi_media_repository"}


async def test_the_workers_of_the_server_look_for_the_rows_of_due_blobs(large: Conn) -> None:
    await large.execute(SQL["make_due"])
    await large.execute(
        "INSERT INTO due (hash, media_id, media_origin, policy)"
        " SELECT base64hash, media_id, media_origin, 0 FROM mediaapi_media_repository LIMIT 100"
    )
    await large.execute(GONE["make_gone"])
    near = await due_blobs_filter(large, 1)
    counting = PLAN["count_bearers"].replace("{near}", near.condition)
    assert await shared(large, counting, *near.arguments) == {"mediaapi_media_repository"}
    await large.execute(counting, *near.arguments)
    # The filter lets rows through that are not due, never the other way round.
    assert await large.fetchval("SELECT sum(rows) FROM bearers") == 100


async def test_no_event_is_unread_in_the_share_of_the_process_that_makes_the_table(large: Conn) -> None:
    """It caught its own error in each event, and every mention in it counted, old avatars too."""
    await prepare(large)
    await large.execute("SET max_parallel_workers TO 0")
    reading = (
        "SELECT pg_temp.retentiond_content(headered_event_json) AS content FROM syncapi_current_room_state"
    )
    await large.execute(f"CREATE TEMPORARY TABLE found AS {reading}")
    assert await large.fetchval("SELECT count(*) FROM pg_temp.found WHERE content IS NULL") == 0


async def scans(connection: Conn, statement: str, *arguments: Any) -> tuple[Counter[str], set[str]]:
    """Return how often the plan of a statement reads each relation, and the kinds of its nodes."""
    found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
    read: Counter[str] = Counter()
    kinds: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        kinds.add(node["Node Type"])
        if name := node.get("Relation Name"):
            assert node["Node Type"] == "Seq Scan", node
            read[name] += 1
        for child in node.get("Plans", ()):
            walk(child)

    walk(json.loads(found)[0]["Plan"])
    return read, kinds


async def test_the_used_space_is_measured_by_whole_readings_however_many_keys_there_are(large: Conn) -> None:
    """No row, no key and no division is looked for by itself: the cost of a sample grows as its tables do."""
    await large.execute(FILL_THUMBNAILS)
    for statement in ("make_several", "analyze_several", "make_shared", "analyze_shared"):
        await large.execute(STORED[statement])
    policies = compiled(RULES, datetime.now(UTC))
    making = STORED["make_stored"].replace("{verdict}", policies.text)
    read, _ = await scans(large, making, *policies.arguments)
    assert (read["mediaapi_media_repository"], read["mediaapi_thumbnail"]) == (1, 1)
    await large.execute(making, *policies.arguments)
    await prepare(large)
    shown = SHOWN["make_shown"].replace("{source}", SHOWN["shown"])
    read, _ = await scans(large, shown)
    assert read == {"syncapi_output_room_events": 1, "syncapi_current_room_state": 1}
    await large.execute(shown)
    await large.execute("ANALYZE pg_temp.stored, pg_temp.shown")
    divisions = ["class", "server", "room", "user", "type", "age"]
    read, _ = await scans(large, STORED["largest"], 100, divisions, ["here.test"], [10**12, 2 * 10**12])
    assert read == {"stored": 1, "shown": 1}
    read, _ = await scans(large, STORED["largest_files"], 100)
    assert read == {"stored": 1}


async def test_the_report_reads_the_measured_rows_and_no_table_of_dendrite_again(large: Conn) -> None:
    policies = compiled(RULES, datetime.now(UTC))
    await large.execute("UPDATE mediaapi_media_repository SET creation_ts = 1500000000000")
    await make_stored(large, policies)
    read, _ = await scans(large, STATISTICS["take_due"], policies.indexes)
    assert read == {"stored": 1}
    await large.execute(STATISTICS["take_due"], policies.indexes)
    await large.execute(SQL["analyze_due"])
    assert await large.fetchval("SELECT count(*) FROM pg_temp.due") == 30000
    read, _ = await scans(large, MEASURED_BY_AGE, 2 * 10**12, [0, 0])
    # One reading for single rows and one for shared ones; the others are of rows that the server left to `decide`.
    assert (read["mediaapi_media_repository"], read["mediaapi_thumbnail"]) == (0, 0)
    assert (read["due"], read["stored"]) == (4, 2)


FILL_ROOMS = """
INSERT INTO roomserver_rooms (room_id, room_version) SELECT '!room' || n, '10' FROM generate_series(1, 2000) n;
INSERT INTO roomserver_events (room_nid, event_type_nid, event_state_key_nid, event_id)
SELECT r.room_nid, 5, n, '$' || r.room_nid || '-' || n FROM roomserver_rooms r, generate_series(1, 20) n;
INSERT INTO roomserver_event_json SELECT event_nid, '{"origin_server_ts": 1}' FROM roomserver_events;
INSERT INTO roomserver_membership (room_nid, target_nid, membership_nid, event_nid, target_local)
SELECT r.room_nid, n, 1, 0, true FROM roomserver_rooms r, generate_series(1, 5) n;
ANALYZE;
"""


async def test_the_survey_of_rooms_reads_the_events_of_all_of_them_at_once(large: Conn) -> None:
    await large.execute(files("tests.support").joinpath("dendrite_rooms.sql").read_text())
    await large.execute(FILL_ROOMS)
    for name in ("sent_at_function", "sender_function", "content_function", "make_rooms"):
        await large.execute(ROOMS[name])
    await large.execute(ROOMS["take_rooms"], True, None)
    await large.execute(ROOMS["analyze_rooms"])
    for statement, arguments in (("date_rooms", ()), ("state_of_rooms", (["here.test"],))):
        found = await large.fetchval(f"EXPLAIN (FORMAT JSON) {ROOMS[statement]}", *arguments)
        # Of a million events, a look at each by itself takes minutes.
        assert not [one for one in looked_up(json.loads(found)[0]["Plan"]) if one in LARGE_TABLES]


LARGE_TABLES = {"roomserver_events", "syncapi_output_room_events", "syncapi_current_room_state"}


def looked_up(node: dict[str, Any], *, again: bool = False) -> Iterator[str]:
    """Yield the relations on the inner side of a nested loop."""
    if again and "Relation Name" in node:
        yield node["Relation Name"]
    for child in node.get("Plans", ()):
        inner = node["Node Type"] == "Nested Loop" and child["Parent Relationship"] == "Inner"
        yield from looked_up(child, again=(again or inner) and child["Node Type"] != "Materialize")
