"""Rooms that a purge must not take although a pass has found them due, and records that must not be missing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from retentiond.engine.target import PassOptions
from retentiond.model.errors import RefusedError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.targets.dendrite_rooms.admin_api import AdminApiError
from retentiond.targets.dendrite_rooms.purges import by_hand, due
from retentiond.targets.dendrite_rooms.purges.second_look import count_previous_events
from tests.integration.test_room_purges import FAST, PATIENT
from tests.support.rooms_store import GONE, STAYS, RoomsStore

if TYPE_CHECKING:
    from tests.support.database import DatabaseServer
    from tests.support.dendrite_admin import RecordedDendrite
    from tests.support.room_target import RoomRetention


async def test_what_protects_a_room_after_the_survey_of_a_long_pass_keeps_it(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    """An alias and the entry of a space are no events of the room."""
    dendrite.wait_at = "request"
    passing = asyncio.ensure_future(room_retention.one_pass())
    await dendrite.arrived.wait()
    (first,) = dendrite.purges
    alias, child = (room for room in GONE if room != first)
    await rooms.connection.execute(
        "INSERT INTO roomserver_room_aliases VALUES ('#new:here.test', $1, '@in:here.test')", alias
    )
    await rooms.event(STAYS, "m.space.child", child, {"via": ["here.test"]}, "@in:here.test")
    dendrite.go_on.set()
    report = await passing
    assert (report.removed_items, report.kept["local_alias"], report.kept["space_child"]) == (1, 1, 1)
    assert await rooms.rooms() == {alias, child, STAYS}


async def test_a_purge_by_hand_confirms_no_first_pass(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: replace(PATIENT, quiet=timedelta(seconds=0.1)))
    async with room_retention.opened() as target:
        assert (await target.purge_room(GONE[0], PassOptions("delete"))).removed_items == 1
        report = await target.run_pass(PassOptions("run"))
    assert report.refused is not None
    assert report.refused.limit == "first_pass"
    assert await rooms.rooms() == {GONE[1], GONE[2], STAYS}


async def test_no_user_of_another_dendrite_leaves_for_a_purge_by_hand(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention, postgres: DatabaseServer
) -> None:
    other = await postgres.clone()
    connection = await asyncpg.connect(other)
    store = RoomsStore(connection)
    await store.prepare()
    await store.add(STAYS, members={"@in:here.test": "join"})
    await connection.close()
    dendrite.database = other
    async with room_retention.opened() as target:
        report = await target.purge_room(STAYS, PassOptions("delete"))
    assert report.refused is not None
    assert report.refused.limit == "another_dendrite"
    assert not any("evacuate" in path for _, path in dendrite.requests)


async def test_no_user_of_another_dendrite_leaves_although_neither_has_an_empty_room(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    for room in GONE:
        await rooms.connection.execute(
            "UPDATE roomserver_membership m SET membership_nid = 3 FROM roomserver_rooms r"
            " WHERE r.room_nid = m.room_nid AND r.room_id = $1",
            room,
        )
    dendrite.user = "@admin:elsewhere.test"
    async with room_retention.opened() as target:
        report = await target.purge_room(STAYS, PassOptions("delete"))
        check = await target.check()
    assert report.refused is not None
    assert report.refused.limit == "another_dendrite"
    assert "@admin:elsewhere.test" in str(report.refused)
    assert any("@admin:elsewhere.test" in str(problem) for problem in check.problems)
    assert not any("evacuate" in path for _, path in dendrite.requests)


async def test_users_that_left_are_on_record_even_where_the_answer_was_lost(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def leave_without_answer(*_arguments: object) -> tuple[str, ...]:
        await rooms.member(STAYS, "@in:here.test", "leave")
        raise AdminApiError("lost", "closed the connection without an answer", sent=True)

    monkeypatch.setattr("retentiond.targets.dendrite_rooms.admin_api.AdminApi.evacuate", leave_without_answer)
    async with room_retention.opened() as target:
        report = await target.purge_room(STAYS, PassOptions("delete"))
        records = [one async for one in target.records() if one["kind"] == "room_evacuated"]
    assert report.state == "interrupted"
    assert [one["body"] for one in records] == [{"room": STAYS, "users": ["@in:here.test"]}]


async def test_a_purge_by_hand_does_not_wait_for_sync_for_ever(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: replace(FAST, quiet=timedelta(seconds=0.1)))
    monkeypatch.setattr(by_hand, "_LONGEST_WAIT", timedelta())
    await rooms.event(GONE[0], "m.room.message", None, {}, "@far:there.test", in_sync=False)
    await rooms.event(STAYS, "m.room.message", None, {}, "@in:here.test")
    async with room_retention.opened() as target:
        report = await target.purge_room(GONE[0], PassOptions("delete"))
    assert report.refused is not None
    assert report.refused.limit == "room_not_quiet"
    assert not dendrite.purges


async def test_the_state_of_a_room_of_large_events_is_kept_in_part(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    """Anybody can send 64 KiB as a state event, thousands of times; the database's JSON ends at 256 MiB."""
    await rooms.connection.execute(
        "INSERT INTO syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key, headered_event_json)"
        " SELECT $1, '$big' || n, 'x', '@far:there.test', false, n::text, '\"' || repeat('x', 60000) || '\"' FROM generate_series(1, 300) n",
        GONE[0],
    )
    assert (await room_retention.one_pass(keep_state=True)).removed_items == 3
    text = await rooms.connection.fetchval(
        "SELECT about FROM retentiond.room_purge WHERE room_id = $1", GONE[0]
    )
    about = json.loads(text)
    assert about["cut"]
    assert "m.room.create" in {event["type"] for event in about["state"]}
    assert 1 << 20 < len(text) < 10 << 20


async def test_a_clock_that_went_back_dates_no_first_look(
    rooms: RoomsStore, room_retention: RoomRetention
) -> None:
    """The look would count as one of a year ago as soon as the clock is right again."""
    await rooms.connection.execute("DELETE FROM retentiond.room_empty")
    await rooms.connection.execute("UPDATE retentiond.store SET last_pass_at = now() + interval '1 year'")
    async with room_retention.opened() as target:
        with pytest.raises(RefusedError, match="clock_behind"):
            await target.sweep(everything=True)
    assert await rooms.connection.fetchval("SELECT count(*) FROM retentiond.room_empty") == 0


async def test_nothing_is_purged_beside_a_purge_of_an_earlier_pass(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    """retentiond was killed; dendrite is at it for minutes."""
    await rooms.connection.execute(
        "INSERT INTO retentiond.room_purge (target, room_id, room_nid, policy, state, sent_at, bytes, rows_before, about)"
        " SELECT 'rooms', room_id, room_nid, 'left', 'sent', now(), 0, '{}', '{}' FROM roomserver_rooms WHERE room_id = $1",
        GONE[0],
    )
    report = await room_retention.one_pass()
    assert (report.state, report.removed_items, report.not_reached.items) == ("finished", 0, 3)
    assert any("an earlier purge is not over" in remark for remark in report.remarks)
    assert not dendrite.purges


async def test_a_hold_that_comes_after_the_request_says_so(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    dendrite.wait_at = "commit"
    passing = asyncio.ensure_future(room_retention.one_pass())
    await dendrite.arrived.wait()
    (room,) = dendrite.purges
    async with room_retention.opened() as target:
        with pytest.raises(RefusedError, match="hold_too_late"):
            await target.holds.add(HoldRequest(HoldSubject("room", room), None, "case 17"))
        assert [hold.subject.name async for hold in target.holds.on_record(closed=False)] == [room]
    dendrite.go_on.set()
    assert (await passing).removed_items == 3


async def test_a_stop_while_dendrite_does_not_answer_after_a_purge_waits_no_minute(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: replace(PATIENT, patience=timedelta(hours=1)))
    dendrite.wait_at = "answer"
    async with room_retention.opened() as target:
        options = PassOptions("run", over_limits=True)
        passing = asyncio.ensure_future(target.run_pass(options))
        await dendrite.arrived.wait()
        dendrite.healthy = False
        asked = len(dendrite.requests)
        dendrite.go_on.set()
        while len(dendrite.requests) < asked + 2:
            await asyncio.sleep(0.005)
        options.stop.ask()
        report = await passing
    assert (report.state, report.removed_items) == ("interrupted", 1)
    assert len(dendrite.purges) == 1


async def test_statistics_that_a_crash_has_reset_make_no_purge_short(
    rooms: RoomsStore, database: str
) -> None:
    connection = rooms.connection
    await connection.execute("TRUNCATE roomserver_previous_events")
    await connection.execute("ANALYZE roomserver_previous_events")
    await connection.execute(
        "INSERT INTO roomserver_previous_events SELECT 'x' || n, '{}' FROM generate_series(1, 1000) n"
    )
    await connection.execute("UPDATE pg_class SET reltuples = 3 WHERE relname = 'roomserver_previous_events'")
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        assert await count_previous_events(pool) == 1000
