"""The space of rooms: divisions, samples and statistics, against the rooms as they were made."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import NullProgress
from retentiond.model.report import Tally
from retentiond.model.usage import NOT_KNOWN, OTHERS
from retentiond.targets.dendrite_rooms.context import SCHEMA, RoomLedger
from tests.support.room_target import RoomRetention
from tests.support.rooms_store import RoomsStore

if TYPE_CHECKING:
    import asyncpg

    from retentiond.model.usage import UsageRow

NOWHERE = "http://127.0.0.1:9"
LEFT, JOINED, FAR, BROKEN = "!left:here.test", "!in:here.test", "!far:there.test", "!broken:there.test"


@pytest.fixture
async def rooms(connection: asyncpg.Connection[asyncpg.Record]) -> RoomsStore:
    store = RoomsStore(connection)
    await store.prepare()
    await store.add(LEFT, messages=5)
    await store.add(JOINED, members={"@in:here.test": "join"}, messages=50, age=timedelta(days=3))
    await store.add(
        FAR, members={"@far:there.test": "leave", "@left:here.test": "leave"}, age=timedelta(days=60)
    )
    await store.add(BROKEN, messages=0)
    await connection.execute(
        "UPDATE roomserver_event_json j SET event_json = '{' FROM roomserver_events e JOIN roomserver_rooms r USING (room_nid)"
        " WHERE j.event_nid = e.event_nid AND r.room_id = $1",
        BROKEN,
    )
    return store


def by_key(rows: list[UsageRow]) -> dict[str, int]:
    return {row.key: row.items for row in rows}


async def sizes(rooms: RoomsStore) -> dict[str, int]:
    """Return the bytes of each room, by statements of the test's own."""
    rows = await rooms.connection.fetch(
        "SELECT r.room_id, (SELECT sum(pg_column_size(j.event_json)) FROM roomserver_events e"
        " JOIN roomserver_event_json j USING (event_nid) WHERE e.room_nid = r.room_nid)"
        " + (SELECT sum(pg_column_size(o.headered_event_json)) FROM syncapi_output_room_events o WHERE o.room_id = r.room_id)"
        " + (SELECT sum(pg_column_size(s.headered_event_json)) FROM syncapi_current_room_state s WHERE s.room_id = r.room_id)"
        " AS bytes FROM roomserver_rooms r"
    )
    return {row["room_id"]: row["bytes"] for row in rows}


@pytest.mark.parametrize("apart", [False, True])
async def test_rooms_with_local_users_take_space_too(
    rooms: RoomsStore, database: str, *, apart: bool
) -> None:
    """The survey of a pass reads no events of rooms with local users: most of a server's space was not counted."""
    expected = await sizes(rooms)
    keys = {"databases": {"sync_api": f"{database}?application_name=other"}} if apart else {}
    async with RoomRetention(database, NOWHERE).opened(**keys) as target:
        assert target.divisions == ("server", "room", "age")
        found = await target.usage("room", 10, NullProgress())
        assert {row.key: row.bytes for row in found} == expected
        assert [row.key for row in found] == sorted(expected, key=lambda room: -expected[room])
        cut = await target.usage("room", 1, NullProgress())
        assert [(row.key, row.items) for row in cut] == [(JOINED, 1), (OTHERS, 3)]
        assert sum(row.bytes for row in cut) == sum(expected.values())
        assert by_key(await target.usage("server", 10, NullProgress())) == {
            "here.test": 2, "there.test": 1, NOT_KNOWN: 1,
        }  # fmt: skip
        ages = await target.usage("age", 10, NullProgress())
        assert [(row.key, row.items) for row in ages] == [
            ("up to a week", 1), ("up to three months", 1), ("older than that", 1), (NOT_KNOWN, 1),
        ]  # fmt: skip
        # Reading makes no ledger.
        assert not await RoomLedger().exists(rooms.connection)


async def test_the_report_of_rooms_has_what_a_plan_has(rooms: RoomsStore, database: str) -> None:
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty(age=timedelta(days=40))
    expected = await sizes(rooms)
    retention = RoomRetention(database, NOWHERE)
    async with retention.opened(cool_off="7d") as target:
        plan = await target.plan(None, NullProgress())
        statistics = await target.statistics(NullProgress())
    assert statistics.total == Tally(4, sum(expected.values()))
    [curve] = statistics.curves
    assert curve.keep == 30
    # The broken room has no date, and the joined one no age: neither is on a curve.
    assert curve.older_than(30) == Tally(plan.removed_items, plan.removed_bytes)
    assert curve.older_than(30) == Tally(2, expected[LEFT] + expected[FAR])
    assert curve.older_than(41) == Tally(0, 0)
    limits = {one.limit: one.value for one in statistics.limits}
    assert (limits["max_share"], limits["max_items"]) == (0.5, 2)
    assert set(limits) == {"max_share", "max_items", "max_events_share", "max_database_share"}
    async with retention.opened(cool_off="60d") as target:
        [curve] = (await target.statistics(NullProgress())).curves
    # Nothing is due before the cool-off, at any age.
    assert (curve.keep, curve.older_than(0)) == (60, Tally(0, 0))


async def test_a_day_has_one_sample_of_rooms(rooms: RoomsStore, database: str) -> None:
    async with RoomRetention(database, NOWHERE).opened() as target:
        assert not await target.take_sample("once", NullProgress())
        await RoomLedger().make(rooms.connection, SCHEMA)
        assert await target.take_sample("once", NullProgress())
        assert not await target.take_sample("once", NullProgress())
        [sample] = await target.samples()
    assert sample.stored == Tally(4, sum((await sizes(rooms)).values()))
    assert {by: len(rows) for by, rows in sample.largest.items()} == {"server": 3, "room": 4}
