"""Passes over rooms: due rooms are purged through dendrite one after the other, and trouble stops the target until it is accepted."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from retentiond.cli import execute
from retentiond.cli.environment import Environment
from retentiond.engine.target import AuditOptions, NullProgress, PassOptions, Stop
from retentiond.model.report import Tally
from retentiond.targets.dendrite_rooms.purges import due
from retentiond.targets.dendrite_rooms.purges.left_rows import find_left_rows
from retentiond.targets.dendrite_rooms.purges.tables import Databases
from retentiond.targets.registry import open_target
from tests.integration.test_room_purges import FAST, PATIENT
from tests.support.room_target import RoomRetention, configure_rooms
from tests.support.rooms_store import GONE, STAYS, RoomsStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from retentiond.model.audit import Finding
    from tests.support.database import DatabaseServer
    from tests.support.dendrite_admin import RecordedDendrite

    Typed = Callable[..., Awaitable[tuple[int, str]]]


async def test_a_pass_purges_what_is_due_and_nothing_else(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    report = await room_retention.one_pass()
    assert (report.state, report.removed_items, report.error, report.not_reached.items) == (
        "finished",
        3,
        None,
        0,
    )
    assert await rooms.rooms() == {STAYS}
    assert dendrite.purges == dict.fromkeys(GONE, 1)
    assert (await room_retention.one_pass()).removed_items == 0
    async with room_retention.opened() as target:
        kinds = [one["kind"] async for one in target.records()]
    assert kinds.count("room_purged") == 3


async def test_trouble_stops_the_target_until_it_is_accepted(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: FAST)
    dendrite.sync = "never"
    report = await room_retention.one_pass()
    assert (report.state, report.refused and report.refused.limit) == ("refused", "dendrite_trouble")
    assert sum(dendrite.purges.values()) == 1
    assert (await room_retention.one_pass()).refused == report.refused
    dendrite.sync = "now"
    await dendrite.restart()
    await dendrite.delivered()
    assert (await room_retention.one_pass()).state == "refused"
    async with room_retention.opened() as target:
        assert [one.limit for one in (await target.accept(yes=False)).refused] == ["dendrite_trouble"]
        assert (await target.accept(yes=True)).accepted
    monkeypatch.undo()
    assert (await room_retention.one_pass()).removed_items == 2
    assert await rooms.rooms() == {STAYS}
    assert dendrite.purges == dict.fromkeys(GONE, 1)


async def test_rows_that_stay_for_good_stop_the_target_once_and_not_again_after_their_acceptance(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A queue in memory ends with dendrite: sync never hears of the purge."""
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: FAST)
    dendrite.sync = "never"
    assert (await room_retention.one_pass()).state == "refused"
    async with room_retention.opened() as target:
        assert (await target.accept(yes=True)).accepted
    dendrite.sync = "now"
    report = await room_retention.one_pass()
    assert (report.state, report.removed_items) == ("finished", 2), report.refused
    states = await rooms.connection.fetch("SELECT state FROM retentiond.room_purge ORDER BY purge_id")
    assert [row["state"] for row in states] == ["rows_stay", "purged", "purged"]


async def test_rooms_wait_for_the_hours_of_the_window(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    begin = datetime.now(UTC).astimezone() + timedelta(hours=2)
    window = f"{begin:%H:%M}-{begin + timedelta(hours=1):%H:%M}"
    report = await room_retention.one_pass(pace={"window": window})
    assert (report.removed_items, report.not_reached.items) == (0, 3)
    assert any("window" in remark for remark in report.remarks)
    assert not dendrite.purges
    assert len(await rooms.rooms()) == 4


async def test_the_state_of_a_room_is_kept_without_its_messages(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    assert (await room_retention.one_pass(keep_state=True)).removed_items == 3
    row = await rooms.connection.fetchval(
        "SELECT about FROM retentiond.room_purge WHERE room_id = $1", GONE[0]
    )
    about = json.loads(row)
    assert {event["type"] for event in about["state"]} == {"m.room.create", "m.room.member"}
    assert len(about["events"]) == 6
    assert "message 1" not in row
    assert about["creator"] == "here.test"


async def test_a_dendrite_that_is_down_interrupts_the_pass_and_says_what_to_do(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    await dendrite.kill()
    report = await room_retention.one_pass()
    assert report.state == "interrupted"
    assert report.error is not None
    assert "start dendrite" in report.error
    assert len(await rooms.rooms()) == 4


async def test_a_room_is_purged_by_hand_after_its_local_users_have_left(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: replace(PATIENT, quiet=timedelta(seconds=0.1)))
    async with room_retention.opened() as target:
        plan = await target.plan_room(STAYS)
        assert plan.removed_items == 1
        assert any("@in:here.test" in remark for remark in plan.remarks)
        assert await rooms.rooms() == {*GONE, STAYS}
        report = await target.purge_room(STAYS, PassOptions("delete"))
    assert (report.state, report.removed_items, report.error) == ("finished", 1, None)
    assert await rooms.rooms() == set(GONE)
    async with room_retention.opened() as target:
        records = [one async for one in target.records()]
    assert [one["kind"] for one in records if one["kind"].startswith("room")] == [
        "room_evacuated",
        "room_purged",
    ]
    assert records[-2]["body"]["room"] == STAYS


@pytest.fixture
def typed(
    dendrite: RecordedDendrite, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Typed:
    """Run a command, and return its status and all of its output."""
    # The command runs in a thread beside the server of this test, and signals belong to the main one.
    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", lambda *_some: None)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(configure_rooms(database, dendrite.url)))

    async def run(*words: str) -> tuple[int, str]:
        out, err = io.StringIO(), io.StringIO()
        place = Environment(
            variables={"RETENTIOND_CONFIG": str(config)},
            stdin=io.StringIO(),
            stdout=out,
            stderr=err,
            open_target=open_target,
        )
        status = await asyncio.to_thread(execute, words, place)
        return status, out.getvalue() + err.getvalue()

    return run


async def test_the_command_and_purge_plans_asks_and_purges(
    rooms: RoomsStore, dendrite: RecordedDendrite, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: replace(PATIENT, quiet=timedelta(seconds=0.1)))
    delete = ("delete", "--room", STAYS, "--and-purge")
    status, said = await typed(*delete)
    assert (status, "--yes" in said) == (2, True)
    status, said = await typed(*delete, "--dry-run")
    assert status == 0, said
    assert "@in:here.test" in said
    assert not dendrite.purges
    status, said = await typed(*delete, "--yes")
    assert status == 0, said
    assert dendrite.purges == {STAYS: 1}
    assert await rooms.rooms() == set(GONE)


async def test_an_acceptance_of_trouble_with_dendrite_names_no_files(rooms: RoomsStore, typed: Typed) -> None:
    await rooms.connection.execute(
        "INSERT INTO retentiond.room_trouble VALUES ('rooms', 'dendrite_down', '!r:here.test', '', now())"
    )
    status, said = await typed("quarantine", "accept", "rooms")
    assert (status, "dendrite does not answer" in said, "disk" in said) == (0, True, False), said
    status, said = await typed("quarantine", "accept", "rooms", "--yes")
    assert (status, "Accepted: passes run again." in said) == (0, True), said


async def test_a_hold_stops_a_purge_by_hand_before_any_user_leaves(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    await rooms.connection.execute(
        "INSERT INTO retentiond.hold (kind, subject, reason, added_at, added_by) VALUES ('room', $1, '', now(), '')",
        STAYS,
    )
    async with room_retention.opened() as target:
        assert (await target.plan_room(STAYS)).kept == {"hold": 1}
        report = await target.purge_room(STAYS, PassOptions("delete"))
    assert report.refused is not None
    assert report.refused.limit == "hold"
    assert not any("evacuate" in path for _, path in dendrite.requests)
    assert STAYS in await rooms.rooms()


async def test_users_that_dendrite_does_not_let_leave_stop_a_purge_by_hand(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    dendrite.evacuates = False
    async with room_retention.opened() as target:
        report = await target.purge_room(STAYS, PassOptions("delete"))
    assert report.refused is not None
    assert report.refused.limit == "room_not_evacuated"
    assert not dendrite.purges


async def test_a_stop_while_a_purge_by_hand_waits_for_quiet_purges_nothing(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    options = PassOptions("delete")
    async with room_retention.opened() as target:
        waiting = asyncio.ensure_future(target.purge_room(STAYS, options))
        while not any("evacuate" in path for _, path in dendrite.requests):
            await asyncio.sleep(0.005)
        options.stop.ask()
        report = await waiting
    assert report.state == "interrupted"
    assert not dendrite.purges
    assert STAYS in await rooms.rooms()


async def test_the_dendrite_of_another_database_is_asked_to_purge_nothing(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    postgres: DatabaseServer,
    database: str,
) -> None:
    """Two servers have the same rooms; the other one would purge its own."""
    other = await postgres.clone()
    connection = await asyncpg.connect(other)
    store = RoomsStore(connection)
    await store.prepare()
    for room in [*GONE, *(f"!of-the-other{number}:there.test" for number in range(9))]:
        await store.add(room)
    try:
        dendrite.database = other
        report = await room_retention.one_pass()
        assert report.refused is not None
        assert report.refused.limit == "another_dendrite"
        assert not dendrite.purges
        async with room_retention.opened() as target:
            check = await target.check()
        assert any("another_dendrite" in str(problem) for problem in check.problems)
    finally:
        await connection.close()


async def test_status_and_check_config_say_what_stops_the_target(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with room_retention.opened() as target:
        assert (await target.status()).problems == ()
        assert not [one for one in (await target.check()).problems if "first_pass" not in str(one)]
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: FAST)
    dendrite.sync = "never"
    await room_retention.one_pass()
    async with room_retention.opened() as target:
        stopped, unfinished = (await target.status()).problems
        assert "quarantine accept rooms" in stopped
        assert "rows of sync are awaited" in unfinished
        assert any("dendrite_trouble" in str(problem) for problem in (await target.check()).problems)


async def test_rows_that_are_left_of_purged_rooms_are_found_by_table(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention, database: str
) -> None:
    number = await rooms.connection.fetchval(
        "SELECT room_nid FROM roomserver_rooms WHERE room_id = $1", GONE[0]
    )
    assert (await room_retention.one_pass()).removed_items == 3
    # A join with a stale number in dendrite's cache leaves the event of a room that is not there.
    await rooms.connection.execute(
        "INSERT INTO roomserver_events (room_nid, event_type_nid, event_state_key_nid, event_id) VALUES ($1, 1, 1, '$stale')",
        number,
    )
    await rooms.connection.execute(
        "INSERT INTO syncapi_memberships VALUES ($1, '@u:here.test', 'leave', '$e')", GONE[1]
    )
    pools = await asyncpg.create_pool(database, min_size=1, max_size=2)
    try:
        found = [one async for one in find_left_rows(Databases(*(pools,) * 4), "rooms")]
    finally:
        await pools.close()
    assert found == [(GONE[0], {"roomserver_events": 1}), (GONE[1], {"syncapi_memberships": 1})]
    # A purge that is not in the ledger leaves such an event, too.
    await rooms.connection.execute(
        "INSERT INTO roomserver_events (room_nid, event_type_nid, event_state_key_nid, event_id) VALUES (99999, 1, 1, '$other')"
    )
    findings: list[Finding] = []
    async with room_retention.opened() as target:
        report = await target.audit(AuditOptions("audit", listen=findings.append))
        status = await target.status()
    assert [(one.kind, one.path, one.detail) for one in sorted(findings, key=lambda one: one.detail)] == [
        ("rows_without_room", GONE[0], "1 in roomserver_events"),
        ("rows_without_room", GONE[1], "1 in syncapi_memberships"),
        ("rows_without_room", "", "room number 99999; 1 in roomserver_events"),
    ]
    assert report.found_items == 3
    assert status.last_audit is not None
    assert status.last_audit["findings"]["rows_without_room"]["items"] == 3


async def test_a_pass_names_the_dead_rows_that_a_vacuum_makes_reusable(
    rooms: RoomsStore, room_retention: RoomRetention
) -> None:
    await rooms.connection.execute("ALTER TABLE syncapi_receipts SET (autovacuum_enabled = off)")
    await rooms.connection.execute(
        "INSERT INTO syncapi_receipts (room_id, receipt_type, user_id, event_id, receipt_ts)"
        " SELECT '!other', 'm.read', '@u' || n || ':here.test', repeat('e', 200), 0 FROM generate_series(1, 20000) n"
    )
    await rooms.connection.execute("DELETE FROM syncapi_receipts WHERE room_id = '!other'")
    # It counts the dead rows at once.
    await rooms.connection.execute("ANALYZE syncapi_receipts")
    report = await room_retention.one_pass()
    assert report.removed_items == 3
    [remark] = [one for one in report.remarks if "VACUUM" in one]
    assert "VACUUM (ANALYZE) syncapi_receipts;" in remark


async def test_rows_of_a_room_in_a_database_of_the_federations_own_are_counted(
    postgres: DatabaseServer, rooms: RoomsStore, database: str
) -> None:
    elsewhere = await postgres.clone()
    try:
        async with (
            asyncpg.create_pool(database, min_size=1, max_size=1) as own,
            asyncpg.create_pool(elsewhere, min_size=1, max_size=1) as federation,
        ):
            await federation.execute(
                "CREATE TABLE federationsender_joined_hosts AS SELECT $1 AS room_id FROM generate_series(1, 5)",
                GONE[0],
            )
            number = await own.fetchval("SELECT room_nid FROM roomserver_rooms WHERE room_id = $1", GONE[0])
            rows = await Databases(own, own, own, federation).count_rows(GONE[0], number)
        assert rows["federationsender_joined_hosts"] == 5
    finally:
        await postgres.drop(elsewhere)


async def test_a_sweep_goes_on_with_an_open_purge(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "PurgeTerms", lambda **_keys: FAST)
    dendrite.sync = "never"
    await room_retention.one_pass()
    async with room_retention.opened() as target:
        assert (await target.sweep(everything=False)).purged == 0
        dendrite.sync = "now"
        await dendrite.restart()
        await dendrite.delivered()
        swept = await target.sweep(everything=False)
        statistics = await target.statistics(NullProgress())
    assert swept.purged == 1
    assert swept.stopped is not None
    assert swept.stopped.limit == "dendrite_trouble"
    assert statistics.totals is not None
    [room] = await rooms.connection.fetch("SELECT bytes FROM retentiond.room_purge")
    assert statistics.totals.taken == Tally(1, room["bytes"])
    assert [(day.items, day.bytes) for day in statistics.freed] == [(1, room["bytes"])]


async def test_a_purged_room_that_comes_back_is_seen_by_the_daemon_without_a_pass(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    await room_retention.one_pass()
    await rooms.add(GONE[0], members={"@new:here.test": "join"})
    async with room_retention.opened() as target:
        await target.sweep(everything=True)
    seen = await rooms.connection.fetch(
        "SELECT room_id FROM retentiond.room_purge WHERE returned_at IS NOT NULL"
    )
    assert [row["room_id"] for row in seen] == [GONE[0]]


async def test_dendrite_has_a_pause_after_each_room_that_the_last_look_keeps(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention
) -> None:
    class Waits(Stop):
        def __init__(self) -> None:
            super().__init__()
            self.waited: list[float] = []

        async def wait(self, seconds: float) -> None:
            self.waited.append(seconds)

    stop = Waits()
    async with room_retention.opened(pace={"pause": "10s", "cache": "3650d"}) as target:
        report = await target.run_pass(PassOptions("once", over_limits=True, stop=stop))
    assert (report.kept["room_in_cache"], stop.waited) == (3, [1.0, 1.0])
