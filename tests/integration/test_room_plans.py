"""Plans and passes over rooms, in exact cases: first looks, clocks, limits, holds, media, explanations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.engine.target import AuditOptions, NullProgress, PassOptions
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import UsageError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.targets.dendrite_media.database.rows import SCHEMA as MEDIA_SCHEMA
from retentiond.targets.dendrite_rooms import audit
from retentiond.targets.dendrite_rooms.context import SCHEMA, RoomLedger
from tests.support.dendrite_admin import RecordedDendrite, recorded_dendrite
from tests.support.room_target import LEFT, RoomRetention
from tests.support.rooms_store import RoomsStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.model.audit import Finding
    from retentiond.model.report import Item, PassReport
    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

GONE = "!gone:there.test"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
async def rooms(connection: Connection) -> RoomsStore:
    store = RoomsStore(connection)
    await store.prepare()
    return store


@pytest.fixture
async def dendrite(database: str) -> AsyncIterator[RecordedDendrite]:
    async with recorded_dendrite(database) as server:
        yield server


async def one_plan(database: str, **keys: Any) -> tuple[PassReport, dict[str, str]]:
    """Plan; return the report and the reason for each room."""
    found: dict[str, str] = {}
    async with RoomRetention(database, NOWHERE).opened(**keys) as target:
        report = await target.plan(lambda item: found.__setitem__(item.media, item.reason), NullProgress())
    return report, found


async def test_a_plan_of_rooms_changes_nothing(rooms: RoomsStore, database: str) -> None:
    await rooms.add(GONE)
    assert (await one_plan(database))[1] == {GONE: "first_seen"}
    assert not await RoomLedger().exists(rooms.connection)


async def test_a_room_that_everybody_left_a_year_ago_stays_until_it_was_seen_empty_for_its_time(
    rooms: RoomsStore, database: str, dendrite: RecordedDendrite
) -> None:
    """A kick by another server may bear any date, and so may a leave."""
    await rooms.add(GONE)
    retention = RoomRetention(database, dendrite.url)
    assert (await retention.one_pass()).kept == {"not_due": 1}
    await rooms.connection.execute(
        "UPDATE retentiond.room_empty SET first_seen = first_seen - interval '29 days'"
    )
    assert (await retention.one_pass()).kept == {"not_due": 1}
    await rooms.connection.execute(
        "UPDATE retentiond.room_empty SET first_seen = first_seen - interval '1 day'"
    )
    report = await retention.one_pass()
    assert (report.removed_items, report.kept.total()) == (1, 0)


async def test_the_hourly_sweep_of_the_daemon_begins_the_time_of_a_room(
    rooms: RoomsStore, database: str
) -> None:
    await rooms.add(GONE)
    await RoomLedger().make(rooms.connection, SCHEMA)
    async with RoomRetention(database, NOWHERE).opened() as target:
        await target.sweep(everything=False)
        assert await rooms.connection.fetchval("SELECT count(*) FROM retentiond.room_empty") == 0
        await target.sweep(everything=True)
    assert await rooms.connection.fetchval("SELECT room_id FROM retentiond.room_empty") == GONE


@pytest.mark.parametrize("change", ["event", "join", "invite"])
async def test_the_time_of_a_room_begins_anew_when_something_happens_in_it(
    rooms: RoomsStore, database: str, change: str
) -> None:
    await rooms.add(GONE)
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty()
    async with RoomRetention(database, NOWHERE).opened() as target:
        if change == "event":
            await rooms.event(GONE, "m.room.message", None, {"body": "late"}, "@far:there.test")
        else:
            await rooms.member(GONE, "@left:here.test", change)
            await target.sweep(everything=True)
            await rooms.member(GONE, "@left:here.test", "leave", age=timedelta(days=300))
        await target.sweep(everything=True)
    assert (await one_plan(database))[1] == {GONE: "not_due"}


async def test_a_leave_dated_in_the_future_counts_from_the_first_look(
    rooms: RoomsStore, database: str
) -> None:
    await rooms.add(GONE, age=timedelta(days=-40000))
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty(age=timedelta(days=29))
    assert (await one_plan(database))[1] == {GONE: "not_due"}
    await rooms.see_empty(age=timedelta(days=31))
    assert (await one_plan(database))[1] == {GONE: "due"}


async def test_the_cool_off_holds_for_a_shorter_policy(rooms: RoomsStore, database: str) -> None:
    await rooms.add(GONE)
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty(age=timedelta(days=3))
    policies = [LEFT | {"keep": "1h"}]
    assert (await one_plan(database, policies=policies))[1] == {GONE: "not_due"}
    assert (await one_plan(database, policies=policies, cool_off="2d"))[1] == {GONE: "due"}


async def test_the_first_purge_needs_a_yes_even_after_passes_without_due_rooms(
    rooms: RoomsStore, database: str, dendrite: RecordedDendrite
) -> None:
    await rooms.add(GONE)
    await rooms.add("!second:there.test")
    async with RoomRetention(database, dendrite.url).opened() as target:
        assert (await target.run_pass(PassOptions("run"))).state == "finished"
        await rooms.see_empty()
        refused = await target.run_pass(PassOptions("run"))
        assert refused.refused is not None
        assert (refused.refused.limit, refused.refused.value) == ("first_pass", 2)
        assert "retentiond once rooms --yes" in refused.refused.hint
        assert not dendrite.purges
        assert (await target.run_pass(PassOptions("once", over_limits=True))).removed_items == 2
        await rooms.add("!third:there.test")
        await rooms.see_empty()
        assert (await target.run_pass(PassOptions("run"))).removed_items == 1


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"max_share": 0.4}, "max_share"),
        ({"max_share": 1.0, "max_events_share": 0.1}, "max_events_share"),
        ({"max_share": 1.0, "max_events_share": 1.0, "max_database_share": 0.0}, "max_database_share"),
        ({"max_share": 1.0, "max_events_share": 1.0, "max_database_share": 1.0, "max_items": 1}, "max_items"),
    ],
)
async def test_a_pass_beyond_a_limit_purges_nothing(
    rooms: RoomsStore, database: str, limits: dict[str, Any], limit: str
) -> None:
    for number in range(2):
        await rooms.add(f"!gone{number}:there.test")
    await rooms.add("!in:there.test", members={"@in:here.test": "join"})
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty()
    async with RoomRetention(database, NOWHERE).opened(limits=limits) as target:
        report = await target.run_pass(PassOptions("run"))
    assert report.refused is not None
    assert (report.state, report.refused.limit) == ("refused", limit)
    assert "first pass" in report.refused.hint


async def test_a_hold_keeps_a_room_and_is_added_once_in_a_shared_ledger(
    rooms: RoomsStore, database: str
) -> None:
    await rooms.add(GONE)
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty()
    request = HoldRequest(HoldSubject("room", GONE), None, "case 17")
    async with RoomRetention(database, NOWHERE).opened() as target:
        hold, coverage = await target.holds.add(request)
        again, _ = await target.holds.add(request)
        assert (coverage.items, again.hold_id) == (1, hold.hold_id)
        assert (await one_plan(database))[1] == {GONE: "hold"}
        story = await target.explain(GONE, NullProgress())
        assert len(story.holds) == 1
        await target.holds.release([hold.hold_id], None, "over")
        with pytest.raises(UsageError, match="means nothing there"):
            await target.holds.add(HoldRequest(HoldSubject("user", "@a:here.test")))
    assert (await one_plan(database))[1] == {GONE: "due"}


async def test_a_room_waits_until_the_media_target_has_deleted_its_media(
    rooms: RoomsStore, store: DendriteStore, retention: Retention, database: str
) -> None:
    await rooms.add(GONE, members={"@left:here.test": "leave"})
    own, shared = await store.add(), await store.add()
    for room, media in ((GONE, own), (GONE, shared)):
        await rooms.event(room, "m.room.message", None, {"url": media.uri}, "@far:there.test", timedelta(400))
    await rooms.add("!in:there.test", members={"@in:here.test": "join"})
    await rooms.event("!in:there.test", "m.room.message", None, {"url": shared.uri}, "@far:there.test")
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty()
    # Without a media target nothing would ever delete them.
    report, found = await one_plan(database)
    assert found[GONE] == "due"
    assert any("1 media items" in remark and "they stay" in remark for remark in report.remarks)
    await Ledger().make(rooms.connection, MEDIA_SCHEMA)
    report, found = await one_plan(database)
    assert found[GONE] == "media"
    assert (await one_plan(database, media="leave"))[1][GONE] == "due"
    async with RoomRetention(database, NOWHERE).opened() as target:
        assert (await target.explain(GONE, NullProgress())).media == [own.uri]
    policies = [{"name": "left", "match": {"room": "no_local_members"}, "keep": "1d"}]
    keys = {"policies": policies, "encrypted_remote": "fetch_again", "grace": "0s", "settle": "0s"}
    gone = await retention.one_pass(**keys)
    assert gone.removed_items == 1
    # In quarantine it can still be restored.
    assert (await one_plan(database))[1][GONE] == "media"
    async with retention.opened(**keys) as media_target:
        await media_target.sweep(everything=True)
    assert (await one_plan(database))[1][GONE] == "due"


async def test_a_room_is_explained_by_its_id_and_by_its_alias(rooms: RoomsStore, database: str) -> None:
    await rooms.add(GONE)
    await rooms.connection.execute(
        "INSERT INTO roomserver_room_aliases VALUES ('#gone:here.test', $1, '@left:here.test')", GONE
    )
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty()
    async with RoomRetention(database, NOWHERE).opened() as target:
        stories = [await target.explain(name, NullProgress()) for name in (GONE, "#gone:here.test")]
        for story in stories:
            assert story.room is not None
            assert story.verdict is not None
            assert (story.room.room_id, story.verdict.reason) == (GONE, "local_alias")
            assert [one.decides for one in story.policies] == [True]
        assert (await target.explain("!none:there.test", NullProgress())).room is None
        with pytest.raises(UsageError, match="has no alias"):
            await target.explain("#none:here.test", NullProgress())


async def test_the_tables_of_components_may_be_in_databases_of_their_own(
    rooms: RoomsStore, database: str, postgres: DatabaseServer
) -> None:
    """Here sync, the users and the media are in another database than the room server."""
    await rooms.add(GONE)
    await rooms.event(GONE, "m.room.message", None, {"url": "mxc://x/1"}, "@far:there.test", timedelta(400))
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty()
    elsewhere = await postgres.clone()
    other = await asyncpg.connect(elsewhere)
    try:
        there = RoomsStore(other)
        await there.prepare()
        await there.add(GONE)
        await there.event(GONE, "m.room.message", None, {"url": "mxc://x/1"}, "@far:there.test")
        await there.add("!space:there.test")
        await there.event("!space:there.test", "m.space.child", GONE, {"via": ["x"]}, "@far:there.test")
        await other.execute(
            "INSERT INTO mediaapi_media_repository VALUES ('1', 'x', 'image/png', 7, 0, '', repeat('A', 43), '')"
        )
        databases = dict.fromkeys(("sync_api", "user_api", "media_api"), elsewhere)
        assert (await one_plan(database))[1] == {GONE: "due"}
        assert (await one_plan(database, databases=databases))[1] == {GONE: "space_child"}
        report, found = await one_plan(database, databases=databases, protect=[])
        assert found == {GONE: "due"}
        assert any("1 media items (7 bytes)" in remark for remark in report.remarks)
        await Ledger().make(other, MEDIA_SCHEMA)
        assert (await one_plan(database, databases=databases, protect=[]))[1] == {GONE: "media"}
        # Mixed: the media are in the room server's database again.
        mixed = databases | {"media_api": database}
        assert (await one_plan(database, databases=mixed, protect=[]))[1] == {GONE: "due"}
    finally:
        await other.close()
        await postgres.drop(elsewhere)


async def test_rooms_of_one_database_that_another_does_not_have_are_reported(
    rooms: RoomsStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_MOMENT", 0.0)
    await rooms.add(GONE)
    await rooms.add("!lost:there.test", in_sync=False)
    await rooms.add("!left-behind:there.test")
    await rooms.connection.execute(
        "WITH gone AS (DELETE FROM roomserver_rooms WHERE room_id = '!left-behind:there.test' RETURNING room_nid)"
        " DELETE FROM roomserver_events e USING gone WHERE e.room_nid = gone.room_nid"
    )
    await RoomLedger().make(rooms.connection, SCHEMA)
    found: list[Finding] = []
    async with RoomRetention(database, NOWHERE).opened() as target:
        report = await target.audit(AuditOptions("audit", listen=found.append))
        status = await target.status()
    assert [(one.kind, one.path) for one in found] == [
        ("room_only_in_sync", "!left-behind:there.test"),
        ("room_missing_in_sync", "!lost:there.test"),
    ]
    assert found[0].bytes > 0
    assert (report.rows, report.found_items, report.exit_status) == (2, 2, 0)
    assert status.last_audit is not None


async def test_what_is_kept_of_purged_rooms_can_be_read(
    rooms: RoomsStore, database: str, dendrite: RecordedDendrite
) -> None:
    await rooms.add(GONE)
    await RoomLedger().make(rooms.connection, SCHEMA)
    await rooms.see_empty()
    retention = RoomRetention(database, dendrite.url)
    assert (await retention.one_pass(keep_state=True)).removed_items == 1
    async with retention.opened() as target:
        [room] = [one async for one in target.kept_rooms(None)]
        assert (room["room"], room["policy"]) == (GONE, "left")
        assert {event["type"] for event in room["kept"]["state"]} == {"m.room.create", "m.room.member"}
        assert [one async for one in target.kept_rooms(GONE)] == [room]
        assert [one async for one in target.kept_rooms("!none:there.test")] == []
    assert datetime.fromisoformat(room["purged_at"]) < datetime.now(UTC)


async def test_a_list_says_how_many_events_a_room_has_and_since_when_it_is_empty(
    rooms: RoomsStore, database: str, dendrite: RecordedDendrite
) -> None:
    await rooms.add(GONE, age=timedelta(days=30))
    await rooms.add("!joined:there.test", members={"@in:here.test": "join"})
    retention = RoomRetention(database, dendrite.url)
    await retention.one_pass()
    items: dict[str, Item] = {}
    async with retention.opened() as target:
        await target.plan(lambda item: items.__setitem__(item.media, item), NullProgress())
    gone, joined = items[GONE].as_json(), items["!joined:there.test"].as_json()
    # The leave is a month old, but nobody had looked.
    assert datetime.fromisoformat(gone["since"]) > datetime.now(UTC) - timedelta(hours=1)
    assert (gone["events"], joined["since"]) == (6, None)
    assert items[GONE].details().startswith("6 events, empty since 20")
