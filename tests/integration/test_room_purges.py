"""The purge of a room by a dendrite that answers as recorded: the last look, lost answers, deaths, and trouble."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

import aiohttp
import pytest
from yarl import URL

from retentiond.engine.target import Stop
from retentiond.ledger.lease import hold_lease
from retentiond.model.errors import RefusedError
from retentiond.model.room_purge import OBSTACLES, Obstacle, PurgeTerms, RoomOrder
from retentiond.targets.dendrite_rooms.admin_api import AdminAddress, AdminApiError
from retentiond.targets.dendrite_rooms.context import SCHEMA, RoomLedger
from retentiond.targets.dendrite_rooms.purges import purge
from retentiond.targets.dendrite_rooms.purges.purge import Purger, open_purger
from retentiond.targets.dendrite_rooms.purges.tables import Component, Databases
from retentiond.targets.dendrite_rooms.purges.trouble import accept_trouble, find_stop
from tests.support.dendrite_admin import ADMIN, GUEST, USER, RecordedDendrite, Step, recorded_dendrite
from tests.support.rooms_store import RoomsStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import asyncpg

    from retentiond.ledger.lease import Lease
    from retentiond.model.room_purge import PurgeOutcome

ROOM, OTHER = "!gone:there.test", "!other:there.test"
FAST = PurgeTerms(patience=timedelta(seconds=0.3), poll=timedelta(seconds=0.01), answer=timedelta(seconds=5))
# Where nothing may be given up because the machine is slow.
PATIENT = PurgeTerms(patience=timedelta(minutes=2), poll=timedelta(seconds=0.01))


class Bench:
    """A purger on a test's rooms and a recorded dendrite."""

    def __init__(self, database: str, rooms: RoomsStore, dendrite: RecordedDendrite, lease: Lease) -> None:
        self.database = database
        self.rooms = rooms
        self.dendrite = dendrite
        self.lease = lease
        self.connection = rooms.connection

    @asynccontextmanager
    async def purger(self, terms: PurgeTerms = PATIENT) -> AsyncIterator[Purger]:
        databases = dict.fromkeys(get_args(Component), self.database)
        async with open_purger(
            "rooms", databases, AdminAddress(self.dendrite.url, None, ADMIN), terms, {"here.test"}
        ) as purger:
            yield purger

    async def purge(
        self, room_id: str = ROOM, terms: PurgeTerms = PATIENT, stop: Stop | None = None, **keys: Any
    ) -> PurgeOutcome:
        async with self.purger(terms) as purger:
            return await purger.purge_room(
                RoomOrder(room_id, "left", **keys), lease=self.lease, pass_id=None, stop=stop or Stop()
            )

    async def resume(self, terms: PurgeTerms = PATIENT) -> list[str]:
        """Sweep once; return the rooms that are purged now."""
        async with self.purger(terms) as purger:
            return [purge.room_id for purge in (await purger.resume()).purged]

    async def states(self) -> list[tuple[str, str]]:
        rows = await self.connection.fetch(
            "SELECT room_id, state FROM retentiond.room_purge ORDER BY purge_id"
        )
        return [(row["room_id"], row["state"]) for row in rows]

    async def records(self) -> list[dict[str, Any]]:
        rows = await self.connection.fetch("SELECT content FROM retentiond.record ORDER BY number")
        found = [json.loads(row["content"]) for row in rows]
        return [one["body"] for one in found if one["kind"] == "room_purged"]

    async def let_pass(self, time: timedelta) -> None:
        await self.connection.execute(
            "UPDATE retentiond.room_purge SET sent_at = sent_at - $1::interval, emptied_at = emptied_at - $1::interval",
            time,
        )


@pytest.fixture
async def bench(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[Bench]:
    rooms = RoomsStore(connection)
    await rooms.prepare()
    await RoomLedger().make(connection, SCHEMA)
    await rooms.add(ROOM)
    await rooms.add(OTHER)
    await rooms.see_empty()
    async with (
        recorded_dendrite(database) as dendrite,
        hold_lease(database, "once", patience=10.0) as lease,
    ):
        yield Bench(database, rooms, dendrite, lease)


async def test_a_purged_room_is_verified_and_recorded_with_the_rows_of_each_table(bench: Bench) -> None:
    outcome = await bench.purge(bytes=123)
    assert (outcome.kind, outcome.trouble, outcome.left) == ("purged", None, {"syncapi_relations": 1})
    assert await bench.rooms.rooms() == {OTHER}
    assert await bench.states() == [(ROOM, "purged")]
    (record,) = await bench.records()
    assert (record["room"], record["policy"], record["bytes"], record["left"]) == (ROOM, "left", 123, {})
    assert record["rows"]["roomserver_events"] == 6
    assert record["rows"]["syncapi_output_room_events"] == 6
    assert "syncapi_relations" not in record["rows"]
    assert bench.dendrite.purges == {ROOM: 1}


async def block(bench: Bench, obstacle: Obstacle) -> PurgeTerms:
    """Let one obstacle be in the way of the purge."""
    rooms, connection = bench.rooms, bench.connection
    terms = PATIENT
    if obstacle == "room_gone":
        await connection.execute("DELETE FROM roomserver_rooms WHERE room_id = $1", ROOM)
    elif obstacle in {"joined", "invite", "knock"}:
        membership = {"joined": "join"}.get(obstacle, obstacle)
        await rooms.member(ROOM, "@left:here.test", membership)
        await rooms.see_empty()
    elif obstacle == "hold":
        await connection.execute(
            "INSERT INTO retentiond.hold (kind, subject, reason, added_at, added_by) VALUES ('room', $1, '', now(), '')",
            ROOM,
        )
    elif obstacle == "room_not_listed":
        await connection.execute(
            "UPDATE roomserver_events SET event_type_nid = 2 WHERE event_type_nid = 5 AND room_nid ="
            " (SELECT room_nid FROM roomserver_rooms WHERE room_id = $1)",
            ROOM,
        )
    elif obstacle == "sync_behind_room":
        await rooms.event(ROOM, "m.room.message", None, {}, "@far:there.test", in_sync=False)
        await rooms.event(OTHER, "m.room.message", None, {}, "@far:there.test")
        await rooms.see_empty()
    elif obstacle in {"recent_event", "room_in_cache"}:
        await rooms.see_empty(age=timedelta(minutes=1 if obstacle == "recent_event" else 20))
    elif obstacle == "too_large":
        terms = PurgeTerms(max_duration=timedelta(microseconds=0))
        await connection.execute(
            "INSERT INTO roomserver_previous_events SELECT 'x' || n, '{}' FROM generate_series(1, 1000) n"
        )
    elif obstacle == "purge_too_late":
        terms = PurgeTerms(look_lasts=timedelta(seconds=-1))
    elif obstacle == "purge_under_way":
        await connection.execute(
            "INSERT INTO retentiond.room_purge (target, room_id, room_nid, policy, state, sent_at, bytes, rows_before, about)"
            " VALUES ('rooms', $1, 1, 'left', 'sent', now(), 0, '{}', '{}')",
            ROOM,
        )
    return terms


@pytest.mark.parametrize("obstacle", [one for one in get_args(Obstacle) if one != "changed"])
async def test_the_second_look_keeps_a_room_for_each_reason_and_sends_nothing(
    bench: Bench, obstacle: Obstacle
) -> None:
    terms = await block(bench, obstacle)
    outcome = await bench.purge(terms=terms)
    assert (outcome.kind, outcome.obstacle) == ("kept", obstacle)
    assert OBSTACLES[obstacle]
    assert not bench.dendrite.purges
    assert await bench.records() == []


async def purge_while(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[], Awaitable[object]],
    stop: Stop | None = None,
) -> PurgeOutcome:
    """Purge the room, and do something between the count of its rows and the last look."""
    count = Databases.count_rows

    async def count_and_act(self: Databases, *arguments: Any) -> dict[str, int]:
        rows = await count(self, *arguments)
        await act()
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(Databases, "count_rows", count_and_act)
        return await bench.purge(stop=stop)


@pytest.mark.parametrize(
    ("obstacle", "statement"),
    [
        ("joined", "UPDATE roomserver_membership SET membership_nid = 3 WHERE target_local"),
        # An older event, which another server has sent.
        ("changed", "DELETE FROM roomserver_events WHERE event_nid IN (SELECT min(event_nid) FROM roomserver_events GROUP BY room_nid)"),
        ("room_gone", "DELETE FROM roomserver_rooms"),
    ],
)  # fmt: skip
async def test_a_room_that_changes_between_the_count_and_the_last_look_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, obstacle: Obstacle, statement: str
) -> None:
    outcome = await purge_while(bench, monkeypatch, lambda: bench.connection.execute(statement))
    assert (outcome.kind, outcome.obstacle) == ("kept", obstacle)
    assert not bench.dendrite.purges


async def test_a_stop_before_the_request_sends_none_and_withdraws_the_purge(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()

    async def ask() -> None:
        stop.ask()

    outcome = await purge_while(bench, monkeypatch, ask, stop)
    assert (outcome.kind, outcome.obstacle) == ("kept", "purge_too_late")
    assert await bench.states() == [(ROOM, "withdrawn")]
    assert not bench.dendrite.purges


async def test_an_answer_that_is_lost_is_no_failure_where_the_room_is_gone(bench: Bench) -> None:
    bench.dendrite.answers = False
    assert (await bench.purge()).kind == "purged"
    assert await bench.states() == [(ROOM, "purged")]
    assert len(await bench.records()) == 1


async def test_a_purge_that_takes_longer_than_its_client_waits_is_followed_in_the_database(
    bench: Bench,
) -> None:
    bench.dendrite.wait_at = "commit"
    terms = PurgeTerms(
        answer=timedelta(seconds=0.2), patience=timedelta(seconds=0.2), poll=timedelta(seconds=0.01)
    )
    purging = asyncio.ensure_future(bench.purge(terms=terms))
    await bench.dendrite.arrived.wait()
    # Far longer than the patience, which begins anew while the room's row is locked.
    await asyncio.sleep(1)
    assert not purging.done()
    bench.dendrite.go_on.set()
    assert (await purging).kind == "purged"


@pytest.mark.parametrize("step", [one for one in get_args(Step) if one not in {"answer", "delivery"}])
async def test_a_dendrite_that_is_killed_before_its_commit_leaves_the_room_whole(
    bench: Bench, step: Step
) -> None:
    bench.dendrite.die_at = step
    outcome = await bench.purge(terms=FAST)
    assert outcome.kind == "failed"
    assert outcome.trouble is not None
    assert outcome.trouble.limit == "dendrite_trouble"
    assert await bench.states() == [(ROOM, "undone")]
    assert await bench.records() == []
    await bench.dendrite.start()
    with pytest.raises(RefusedError):
        await bench.purge()
    await accept_trouble(bench.connection, "rooms")
    assert (await bench.purge()).kind == "purged"
    assert bench.dendrite.purged == {ROOM: 1}


@pytest.mark.parametrize("step", ["answer", "delivery"])
async def test_a_dendrite_that_is_killed_after_its_commit_purges_the_rest_after_its_start(
    bench: Bench, step: Step
) -> None:
    bench.dendrite.die_at = step
    outcome = await bench.purge(terms=FAST)
    assert outcome.kind == "open"
    assert outcome.trouble is not None
    assert await bench.rooms.rows_of_sync(ROOM)
    assert await bench.states() == [(ROOM, "emptied")]
    assert await bench.resume() == []
    await bench.dendrite.start()
    await bench.dendrite.delivered()
    assert await bench.resume() == [ROOM]
    assert await bench.resume() == []
    assert await bench.states() == [(ROOM, "purged")]
    assert len(await bench.records()) == 1
    assert bench.dendrite.purges == {ROOM: 1}


async def test_rows_that_stay_stop_the_target_and_are_reported_by_table(bench: Bench) -> None:
    bench.dendrite.sync = "never"
    outcome = await bench.purge(terms=FAST)
    assert outcome.kind == "open"
    assert outcome.trouble is not None
    assert "move its jetstream directory" in outcome.trouble.hint
    assert "quarantine accept rooms" in outcome.trouble.hint
    with pytest.raises(RefusedError):
        await bench.purge(OTHER)
    await bench.let_pass(timedelta(hours=2))
    assert await bench.resume(FAST) == []
    assert await bench.states() == [(ROOM, "rows_stay")]
    (record,) = await bench.records()
    assert record["left"]["syncapi_output_room_events"] == 6
    assert "roomserver_events" not in record["left"]
    # They are gone at last: that is no second disposal.
    bench.dendrite.sync = "now"
    await bench.dendrite.restart()
    await bench.dendrite.delivered()
    await bench.resume(FAST)
    assert await bench.states() == [(ROOM, "purged")]
    assert len(await bench.records()) == 1


async def test_a_sync_that_receives_nothing_after_a_purge_stops_the_target(bench: Bench) -> None:
    purging = asyncio.ensure_future(bench.purge(terms=FAST))
    while not bench.dendrite.purged:
        await asyncio.sleep(0.001)
    # The message that sync takes again and again: health is good, and nothing newer arrives.
    await bench.rooms.event(OTHER, "m.room.message", None, {}, "@far:there.test", in_sync=False)
    outcome = await purging
    assert outcome.kind == "purged"
    assert outcome.trouble is not None
    assert "sync" in str(outcome.trouble.value)
    assert await find_stop(bench.connection, "rooms") is not None
    assert len(await bench.records()) == 1


async def test_nothing_is_purged_while_sync_is_behind(bench: Bench) -> None:
    await bench.rooms.event(OTHER, "m.room.message", None, {}, "@far:there.test", in_sync=False)
    with pytest.raises(RefusedError) as refused:
        await bench.purge(terms=FAST)
    assert refused.value.refusal.limit == "sync_behind"
    assert not bench.dendrite.purges


async def test_an_event_that_was_lost_with_a_queue_long_ago_does_not_count_as_a_sync_that_is_behind(
    bench: Bench,
) -> None:
    await bench.rooms.add("!lost:there.test", in_sync=False)
    await bench.rooms.event(OTHER, "m.room.message", None, {}, "@far:there.test")
    await bench.rooms.see_empty()
    assert (await bench.purge(terms=FAST)).kind == "purged"


async def test_a_dendrite_that_is_not_healthy_purges_nothing(bench: Bench) -> None:
    bench.dendrite.healthy = False
    with pytest.raises(AdminApiError):
        await bench.purge()
    assert not bench.dendrite.purges
    assert await bench.states() == []


async def test_a_stop_during_a_purge_leaves_it_to_the_next_sweep(bench: Bench) -> None:
    bench.dendrite.wait_at = "commit"
    stop = Stop()
    purging = asyncio.ensure_future(bench.purge(stop=stop))
    await bench.dendrite.arrived.wait()
    stop.ask()
    assert (await purging).kind == "open"
    # The purge goes on without its client; a sweep leaves it alone, and so does a second purge.
    await bench.let_pass(timedelta(hours=1))
    assert await bench.resume() == []
    assert (await bench.purge()).obstacle == "purge_under_way"
    bench.dendrite.go_on.set()
    while not bench.dendrite.purged:
        await asyncio.sleep(0.001)
    await bench.dendrite.delivered()
    assert await bench.resume() == [ROOM]
    assert bench.dendrite.purges == {ROOM: 1}


async def test_two_hosts_never_purge_one_room_twice(bench: Bench) -> None:
    bench.dendrite.wait_at = "transaction"
    first = asyncio.ensure_future(bench.purge())
    await bench.dendrite.arrived.wait()
    assert (await bench.purge()).obstacle == "purge_under_way"
    # The claim of a live process is left alone.
    assert await bench.resume() == []
    bench.dendrite.go_on.set()
    assert (await first).kind == "purged"
    assert bench.dendrite.purges == {ROOM: 1}


async def test_a_room_that_comes_back_by_federation_is_seen_once(bench: Bench) -> None:
    assert (await bench.purge()).kind == "purged"
    await bench.rooms.add(ROOM, members={"@new:here.test": "join"})
    async with bench.purger() as purger:
        assert (await purger.resume()).returned == [ROOM]
        assert (await purger.resume()).returned == []


async def test_a_hold_that_is_added_at_the_last_moment_waits_for_the_purge_or_stops_it(bench: Bench) -> None:
    add = "INSERT INTO retentiond.hold (kind, subject, reason, added_at, added_by) VALUES ('room', $1, '', now(), '')"
    outcome, _ = await asyncio.gather(bench.purge(), bench.connection.execute(add, ROOM))
    assert (outcome.obstacle == "hold") == (not bench.dendrite.purges)


@pytest.mark.parametrize(
    "obstacle",
    [
        "joined",
        "invite",
        "knock",
        "hold",
        "room_not_listed",
        "sync_behind_room",
        "recent_event",
        "room_in_cache",
        "too_large",
        "purge_under_way",
    ],
)
async def test_without_its_guard_each_of_these_rooms_would_be_purged(
    bench: Bench, obstacle: Obstacle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above would notice a guard that is missing."""
    terms = await block(bench, obstacle)
    if obstacle == "purge_under_way":
        await bench.connection.execute("DROP INDEX retentiond.room_purge_open")
    elif obstacle == "too_large":
        monkeypatch.setattr(purge, "expected_duration", lambda *_some: timedelta())
    else:
        monkeypatch.setattr(purge, "find_obstacle", lambda *_some, **_keys: None)
    assert (await bench.purge(terms=terms)).kind == "purged"
    assert bench.dendrite.purges == {ROOM: 1}


RECORDED: list[tuple[str, str, str | None, int, dict[str, Any]]] = [
    ("GET", "emptyRooms", None, 401, {"errcode": "M_MISSING_TOKEN", "error": "missing access token"}),
    (
        "GET",
        "emptyRooms",
        "Basic eDp5",
        401,
        {"errcode": "M_MISSING_TOKEN", "error": "invalid Authorization header"},
    ),
    ("GET", "emptyRooms", "Bearer nonsense", 401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Unknown token"}),
    (
        "GET",
        "emptyRooms",
        f"Bearer {USER}",
        403,
        {"errcode": "M_FORBIDDEN", "error": "This API can only be used by admin users."},
    ),
    (
        "GET",
        "emptyRooms",
        f"Bearer {GUEST}",
        403,
        {"errcode": "M_GUEST_ACCESS_FORBIDDEN", "error": "Guest access not allowed"},
    ),
    (
        "POST",
        "emptyRooms",
        f"Bearer {ADMIN}",
        405,
        {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"},
    ),
    ("GET", "nosuch", f"Bearer {ADMIN}", 404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}),
    (
        "GET",
        "purgeRoom/%21nosuchroom%3Ahall.test",
        f"Bearer {ADMIN}",
        405,
        {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"},
    ),
    (
        "POST",
        "purgeRoom/%21nosuchroom%3Ahall.test",
        f"Bearer {ADMIN}",
        500,
        {"message": "room !nosuchroom:hall.test does not exist"},
    ),
    (
        "POST",
        "purgeRoom/%21nosuchroom%3Ahall.test/",
        f"Bearer {ADMIN}",
        404,
        {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"},
    ),
    (
        "POST",
        "evacuateRoom/%21nosuchroom%3Ahall.test",
        f"Bearer {ADMIN}",
        404,
        {"errcode": "M_NOT_FOUND", "error": "room does not exist"},
    ),
]
"""Requests, and the answers that a dendrite 0.15.2 was recorded with."""


async def test_the_dendrite_of_these_tests_answers_as_a_recorded_one(bench: Bench) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path, authorization, status, body in RECORDED:
            headers = {} if authorization is None else {"Authorization": authorization}
            url = URL(f"{bench.dendrite.url}/_dendrite/admin/{path}", encoded=True)
            async with session.request(method, url, headers=headers) as response:
                assert (response.status, await response.json()) == (status, body), (method, path)
        listed = f"{bench.dendrite.url}/_dendrite/admin/emptyRooms"
        await bench.connection.execute("TRUNCATE roomserver_rooms")
        async with session.get(listed, headers={"Authorization": f"Bearer {ADMIN}"}) as response:
            assert await response.json() == {"empty_rooms": None}
