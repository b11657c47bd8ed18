"""Holds win: over every policy, over the purge of the quarantine, and over a pass that is under way."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.model.errors import RefusedError
from retentiond.model.holds import Hold, HoldRequest, HoldSubject, MediaKind
from retentiond.targets.dendrite_media.passes.steps import MediaSteps
from retentiond.targets.dendrite_media.references.of_holds import HoldReferences
from retentiond.targets.dendrite_media.sweeps import purge as purging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from retentiond.model.holds import Coverage
    from retentiond.model.report import PassReport
    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

OLD = timedelta(days=90)
ROOM = "!held:there.test"
INSERT_HOLD = (
    "INSERT INTO retentiond.hold (kind, subject, reason, added_at, added_by)"
    " VALUES ($1, $2, '', clock_timestamp(), 'ann')"
)
BOTH: dict[str, Any] = {
    "policies": [
        {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
        {"name": "local", "match": {"origin": "local"}, "keep": "30d"},
    ]
}
AT_ONCE: dict[str, Any] = {"grace": "0s", "settle": "0s"}


@pytest.fixture
async def hold(retention: Retention) -> Any:
    """Puts a hold on, and says what it covers."""

    async def put_on(kind: MediaKind, name: str, **keys: Any) -> tuple[Hold, Coverage]:
        async with retention.opened(**keys) as target:
            return await target.holds.add(HoldRequest(HoldSubject.read(kind, name)))

    return put_on


async def release(retention: Retention, *hold_ids: int) -> list[Hold]:
    async with retention.opened() as target:
        return await target.holds.release(list(hold_ids), None, "the case is closed")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("media", "mxc://there.test/kept"),
        ("user", "@ann:here.test"),
        ("origin", "There.Test:8448"),
        ("room", ROOM),
    ],
)
async def test_what_is_held_stays_in_plan_and_pass_and_nothing_else_does(
    retention: Retention, store: DendriteStore, hold: Any, kind: MediaKind, name: str
) -> None:
    kept = {
        "media": await store.add(media_id="kept", origin="there.test", age=OLD),
        "user": await store.add(media_id="mine", origin="here.test", user_id="@ann:here.test", age=OLD),
        "origin": await store.add(media_id="theirs", origin="there.test:8448", age=OLD),
        "room": await store.add(media_id="shown", origin="there.test", age=OLD),
    }
    await store.add_event(ROOM, {"body": "look", "url": kept["room"].uri})
    await store.add(media_id="other", origin="there.test", age=OLD)

    _, coverage = await hold(kind, name)
    assert (coverage.items, coverage.in_quarantine) == (1, 0)
    planned, items = await retention.one_plan(**BOTH)
    report = await retention.one_pass(**BOTH)

    assert [item.media for item in items if item.reason == "hold"] == [kept[kind].uri]
    assert dict(planned.kept) == dict(report.kept) == {"hold": 1}
    assert planned.removed_items == report.removed_items == 4
    assert set(await store.rows()) == {kept[kind].key}
    assert not await store.broken_references()


async def test_a_hold_is_told_before_a_restore_and_a_protection(
    retention: Retention, store: DendriteStore, connection: Connection, hold: Any
) -> None:
    avatar = await store.add(origin="there.test", age=OLD)
    await store.add_profile("ann", avatar.uri)
    await retention.one_pass(policies=[])
    await connection.execute(
        "INSERT INTO retentiond.restored VALUES ($1, $2, NULL, clock_timestamp(), 'ann', '')",
        *(avatar.key.media_id, avatar.key.media_origin),
    )
    report, _ = await retention.one_plan()
    assert dict(report.kept) == {"restored": 1}
    await hold("media", avatar.uri)
    report, _ = await retention.one_plan()
    assert dict(report.kept) == {"hold": 1}


async def test_one_of_two_rows_of_a_content_is_held_and_the_file_stays_for_it(
    retention: Retention, store: DendriteStore, hold: Any
) -> None:
    held = await store.add(origin="there.test", content=b"shared", age=OLD)
    await store.add(origin="elsewhere.test", content=b"shared", age=OLD)
    await hold("media", held.uri)
    report = await retention.one_pass()
    assert (report.removed_items, report.shared_blobs) == (1, 1)
    assert set(await store.rows()) == {held.key}
    assert not await store.broken_references()


async def test_a_released_hold_keeps_nothing_and_stays_on_record(
    retention: Retention, store: DendriteStore, hold: Any
) -> None:
    held = await store.add(origin="there.test", age=OLD)
    put_on, _ = await hold("media", held.uri)
    [released] = await release(retention, put_on.hold_id)
    assert (await retention.one_pass()).removed_items == 1
    async with retention.opened() as target:
        assert [found async for found in target.holds.on_record(closed=False)] == []
        assert [found async for found in target.holds.on_record(closed=True)] == [released]
    assert (released.state, released.release_reason) == ("released", "the case is closed")
    assert released.released_by
    assert released.released_at


async def test_a_hold_ends_when_its_last_day_is_over(
    retention: Retention, store: DendriteStore, connection: Connection, hold: Any
) -> None:
    held = await store.add(origin="there.test", age=OLD)
    await hold("media", held.uri)
    today = await connection.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    await connection.execute("UPDATE retentiond.hold SET until = $1", today)
    assert dict((await retention.one_plan())[0].kept) == {"hold": 1}
    await connection.execute("UPDATE retentiond.hold SET until = $1", today - timedelta(days=1))
    assert (await retention.one_pass()).removed_items == 1


async def test_what_is_in_quarantine_and_becomes_held_comes_back_with_the_next_sweep_and_without_a_mark(
    retention: Retention, store: DendriteStore, connection: Connection, hold: Any
) -> None:
    held = await store.add(origin="there.test", thumbnails=((32, 32, "crop"),), age=OLD)
    other = await store.add(origin="there.test", age=OLD)
    rows, files = await store.rows(), store.files()
    await retention.one_pass()
    _, coverage = await hold("media", held.uri)
    assert (coverage.items, coverage.in_quarantine) == (0, 1)
    async with retention.opened() as target:
        report = await target.sweep(everything=False)
    assert report.restored == 1
    assert await store.rows() == {held.key: rows[held.key]}
    assert store.files() == {path: data for path, data in files.items() if other.base64hash[2:] not in path}
    assert len(await store.thumbnail_rows()) == 1
    assert await connection.fetchval("SELECT count(*) FROM retentiond.restored") == 0


async def test_a_purge_by_hand_takes_nothing_that_is_held(
    retention: Retention, store: DendriteStore, hold: Any
) -> None:
    held = await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=OLD)
    keys = {"grace": "30d", "settle": "0s"}
    await retention.one_pass(**keys)
    await hold("media", held.uri)
    async with retention.opened(**keys) as target:
        report = await target.end_grace()
    # The other content went, and the spare of the held one, whose live file is whole again.
    assert (report.restored, report.purged) == (1, 2)
    assert set(await store.rows()) == {held.key}
    assert not await store.broken_references()


async def test_a_hold_that_comes_between_the_sweeps_look_and_the_purge_is_seen(
    retention: Retention,
    store: DendriteStore,
    connection: Connection,
    hold: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = await store.add(origin="there.test", age=OLD)
    keys = {"grace": "30d", "settle": "0s"}
    await retention.one_pass(**keys)
    await hold("origin", "unknown.test")
    refresh = HoldReferences.refresh

    async def refresh_and_hold(self: HoldReferences, *arguments: Any, **named: Any) -> datetime | None:
        # The sweep has brought back what was held, and the purge begins.
        await connection.execute("UPDATE retentiond.hold SET subject = 'there.test'")
        return await refresh(self, *arguments, **named)

    async with retention.opened(**keys) as target:
        monkeypatch.setattr("retentiond.targets.dendrite_media.sweeps.sweep.LARGEST_AGE", timedelta(0))
        monkeypatch.setattr(HoldReferences, "refresh", refresh_and_hold)
        monkeypatch.setattr("retentiond.targets.dendrite_media.sweeps.sweep.restore_held", _restore_nothing)
        assert (await target.end_grace()).purged == 0
        monkeypatch.undo()
        assert (await target.sweep(everything=False)).restored == 1
    assert set(await store.rows()) == {held.key}


async def _restore_nothing(_work: object) -> int:
    return 0


async def test_held_rows_that_never_had_an_entry_are_not_forgotten_when_their_grace_is_over(
    retention: Retention, store: DendriteStore, hold: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add(origin="there.test", content=b"shared", age=timedelta(days=1))
    held = await store.add(origin="elsewhere.test", content=b"shared", age=OLD)
    keys = {"grace": "30d", "settle": "0s"}
    await retention.one_pass(**keys)
    await hold("media", held.uri)
    async with retention.opened(**keys) as target:
        # It may be put on just after the sweep has brought back what was held.
        monkeypatch.setattr("retentiond.targets.dendrite_media.sweeps.sweep.restore_held", _restore_nothing)
        await target.end_grace()
        monkeypatch.undo()
        await target.sweep(everything=False)
    assert held.key in await store.rows()


async def test_a_purge_waits_for_a_hold_that_is_being_put_on_and_then_sees_it(
    retention: Retention, database: str, store: DendriteStore, connection: Connection
) -> None:
    held = await store.add(origin="there.test", age=OLD)
    keys = {"grace": "30d", "settle": "0s"}
    await retention.one_pass(**keys)
    async with retention.opened(**keys) as target:
        async with connection.transaction():
            await connection.execute(INSERT_HOLD, "origin", "there.test")
            running = asyncio.create_task(target.end_grace())
            await _until_one_waits(database, running)
        assert (await running).purged == 0
        assert (await target.sweep(everything=False)).restored == 1
    assert set(await store.rows()) == {held.key}


async def test_a_pass_waits_for_a_hold_that_is_being_put_on_and_then_sees_it(
    retention: Retention,
    database: str,
    store: DendriteStore,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = await store.add(origin="there.test", age=OLD)
    await store.add(origin="elsewhere.test", age=OLD)
    adding = connection.transaction()
    begin = MediaSteps.begin

    async def begin_and_hold(self: MediaSteps, report: PassReport) -> None:
        # The survey is over, and has seen no hold.
        await begin(self, report)
        await adding.start()
        await connection.execute(INSERT_HOLD, "origin", "there.test")

    monkeypatch.setattr(MediaSteps, "begin", begin_and_hold)
    running = asyncio.create_task(retention.one_pass())
    await _until_one_waits(database, running)
    await adding.commit()
    report = await running
    assert dict(report.kept) == {"changed": 1}
    assert set(await store.rows()) == {held.key}


async def test_a_hold_on_a_room_that_comes_while_a_pass_is_under_way_is_read_before_the_next_batch(
    retention: Retention,
    database: str,
    store: DendriteStore,
    hold: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = await store.add(origin="there.test", age=OLD)
    await store.add_event(ROOM, {"url": shown.uri})
    refresh, calls = HoldReferences.refresh, []

    async def refresh_and_hold(self: HoldReferences, *arguments: Any, **named: Any) -> datetime | None:
        found = await refresh(self, *arguments, **named)
        calls.append(found)
        if len(calls) == 2:  # the survey's, and the first batch's, which is past it now
            monkeypatch.setattr(HoldReferences, "refresh", refresh)
            await _insert_hold(database, "room", ROOM)
        return found

    monkeypatch.setattr(HoldReferences, "refresh", refresh_and_hold)
    report = await retention.one_pass()
    assert dict(report.kept) == {"changed": 1}
    assert set(await store.rows()) == {shown.key}


async def test_a_hold_on_a_room_that_comes_while_a_purge_is_under_way_is_read_before_the_next_batch(
    retention: Retention,
    database: str,
    store: DendriteStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = [await store.add(origin="there.test", age=OLD) for _ in range(2)]
    for one in shown:
        await store.add_event(ROOM, {"url": one.uri})
    keys = {"grace": "30d", "settle": "0s", "pace": {"batch": 1}}
    await retention.one_pass(**keys)
    finish = purging.finish_purge

    async def finish_and_hold(*arguments: Any) -> None:
        await finish(*arguments)
        await _insert_hold(database, "room", ROOM)
        monkeypatch.setattr(purging, "finish_purge", finish)

    look = purging._look_last

    async def look_after_the_hold(session: Any, after: int, *arguments: Any, **named: Any) -> Any:
        while after and purging.finish_purge is not finish:
            await asyncio.sleep(0)
        return await look(session, after, *arguments, **named)

    async with retention.opened(**keys) as target:
        monkeypatch.setattr(purging, "finish_purge", finish_and_hold)
        monkeypatch.setattr(purging, "_look_last", look_after_the_hold)
        assert (await target.end_grace()).purged == 1
        monkeypatch.undo()
        assert (await target.sweep(everything=False)).restored == 1
    assert len(set(await store.rows()) & {one.key for one in shown}) == 1


async def _insert_hold(database: str, kind: str, subject: str) -> None:
    async with _watching(database) as connection:
        await connection.execute(INSERT_HOLD, kind, subject)


async def _until_one_waits(database: str, running: asyncio.Task[Any]) -> None:
    """Wait until somebody waits for the table of holds; it must be before the task is done."""
    async with _watching(database) as watcher:
        while not await watcher.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE NOT l.granted AND c.relname = 'hold'"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
        ):
            assert not running.done()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _watching(database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database)
    try:
        yield connection
    finally:
        await connection.close()


async def test_what_a_held_room_showed_stays_held_after_a_redaction_and_what_it_shows_later_joins(
    retention: Retention, store: DendriteStore, connection: Connection, hold: Any
) -> None:
    shown = await store.add(origin="there.test", age=OLD)
    later = await store.add(origin="there.test", age=OLD)
    await store.add_event(ROOM, {"url": shown.uri})
    await hold("room", ROOM)
    await connection.execute(
        "UPDATE syncapi_output_room_events SET headered_event_json = '{\"content\": {}}'"
    )
    await store.add_event(ROOM, {"info": {"thumbnail_url": later.uri}})
    report = await retention.one_pass()
    assert dict(report.kept) == {"hold": 2}
    assert set(await store.rows()) == {shown.key, later.key}


async def test_a_room_is_held_with_its_state_its_members_and_events_that_do_not_parse(
    retention: Retention, store: DendriteStore, hold: Any
) -> None:
    avatar, member, odd, elsewhere = [await store.add(origin="there.test", age=OLD) for _ in range(4)]
    await store.add_state_event(ROOM, "m.room.avatar", "", {"url": avatar.uri})
    await store.add_state_event(
        ROOM, "m.room.member", "@bob:there.test", {"membership": "join", "avatar_url": member.uri}
    )
    await store.add_event(ROOM, f'{{"content": {odd.uri} no json')
    await store.add_event("!other:there.test", {"url": elsewhere.uri})
    _, coverage = await hold("room", ROOM)
    assert coverage.items == 3
    await retention.one_pass(protect=[])
    assert set(await store.rows()) == {avatar.key, member.key, odd.key}


async def test_a_held_user_keeps_what_they_uploaded_sent_and_show_as_their_avatar(
    retention: Retention, store: DendriteStore, hold: Any
) -> None:
    uploaded = await store.add(origin="here.test", user_id="@ann:here.test", age=OLD)
    sent, avatar, others = [await store.add(origin="there.test", age=OLD) for _ in range(3)]
    await store.add_event(ROOM, {"url": sent.uri}, sender="@ann:here.test")
    await store.add_event(ROOM, {"url": others.uri}, sender="@bob:here.test")
    await store.add_profile("ann", avatar.uri)
    _, coverage = await hold("user", "@ann:here.test")
    assert coverage.items == 3
    await retention.one_pass(protect=[], **BOTH)
    assert set(await store.rows()) == {uploaded.key, sent.key, avatar.key}


async def test_a_plan_sees_what_a_held_room_shows_now_and_writes_nothing_down(
    retention: Retention, store: DendriteStore, connection: Connection, hold: Any
) -> None:
    shown = await store.add(origin="there.test", age=OLD)
    await hold("room", ROOM)
    await store.add_event(ROOM, {"url": shown.uri})
    report, _ = await retention.one_plan()
    assert dict(report.kept) == {"hold": 1}
    assert await connection.fetchval("SELECT count(*) FROM retentiond.hold_media") == 0


async def test_a_held_room_whose_events_cannot_be_read_refuses_pass_plan_and_purge(
    retention: Retention, store: DendriteStore, connection: Connection, hold: Any
) -> None:
    await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**AT_ONCE | {"grace": "1d"})
    await hold("room", ROOM)
    await store.add(origin="there.test", age=OLD)
    await connection.execute("ALTER TABLE syncapi_output_room_events RENAME TO elsewhere")
    for report in (await retention.one_pass(), (await retention.one_plan())[0]):
        assert report.refused is not None
        assert report.refused.limit == "hold_unreadable"
        assert "let this role read syncapi_output_room_events" in report.refused.hint
        assert "hold release" not in report.refused.hint
    async with retention.opened(**AT_ONCE) as target:
        assert (await target.end_grace()).purged == 0
        with pytest.raises(RefusedError, match="the hold is in force"):
            await target.holds.add(HoldRequest(HoldSubject("room", "!another")))
        assert len([found async for found in target.holds.on_record(closed=False)]) == 2
    await release(retention, 1, 2)
    assert (await retention.one_pass()).refused is None


async def test_a_room_in_another_components_database_is_held_too(
    retention: Retention, media_path: Path, store: DendriteStore, postgres: DatabaseServer, hold: Any
) -> None:
    shown = await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=OLD)
    other = await postgres.clone()
    try:
        connection = await asyncpg.connect(other)
        try:
            await type(store)(connection, media_path).add_event(ROOM, {"url": shown.uri})
            await type(store)(connection, media_path).add_state_event(
                ROOM, "m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2"}
            )
        finally:
            await connection.close()
        keys: dict[str, Any] = {"databases": {"sync_api": other}}
        _, coverage = await hold("room", ROOM, **keys)
        assert (coverage.items, coverage.encrypted) == (1, True)
        planned, _ = await retention.one_plan(**keys)
        report = await retention.one_pass(**keys)
    finally:
        await postgres.drop(other)
    assert dict(planned.kept) == dict(report.kept) == {"hold": 1}
    assert set(await store.rows()) == {shown.key}


async def test_holds_are_counted_in_the_status(retention: Retention, store: DendriteStore, hold: Any) -> None:
    await hold("origin", "there.test")
    await hold("room", ROOM)
    await release(retention, 1)
    async with retention.opened() as target:
        assert (await target.status()).holds == 1
