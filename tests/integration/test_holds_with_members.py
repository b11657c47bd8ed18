"""A hold on an encrypted room covers its pictures only with the uploads and servers of its members."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.engine.target import NullProgress
from retentiond.model.errors import RefusedError
from retentiond.model.holds import HeldMembers, HoldRequest, HoldSubject
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.model.holds import Coverage, Hold
    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention
    from tests.support.store import StoredMedia

    Connection = asyncpg.Connection[asyncpg.Record]

ROOM, ANN, BOB = "!secret:there.test", "@ann:here.test", "@bob:There.Test:8448"
LOCAL_AND_REMOTE: dict[str, Any] = {
    "policies": [
        {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
        {"name": "local", "match": {"origin": "local"}, "keep": "30d"},
    ],
    "protect": [],
}


async def encrypt(store: DendriteStore, room: str = ROOM) -> None:
    algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
    await store.add_state_event(room, "m.room.encryption", "", algorithm, sender="@admin:x")


async def set_member(store: DendriteStore, user: str, membership: str = "join", room: str = ROOM) -> None:
    await store.add_state_event(room, "m.room.member", user, {"membership": membership}, sender="@admin:x")


async def upload(store: DendriteStore, user: str = ANN) -> StoredMedia:
    return await store.add(origin="here.test", user_id=user)


async def put_on(
    retention: Retention, *, with_members: bool = True, room: str = ROOM, **keys: Any
) -> tuple[Hold, Coverage]:
    async with retention.opened(**keys) as target:
        return await target.holds.add(HoldRequest(HoldSubject("room", room), with_members=with_members))


async def held(retention: Retention, **keys: Any) -> set[str]:
    """What a plan keeps for a hold."""
    report, items = await retention.one_plan(**LOCAL_AND_REMOTE | keys)
    assert report.refused is None
    return {item.media for item in items if item.reason == "hold"}


@pytest.fixture
async def room(store: DendriteStore) -> DendriteStore:
    """A store with an encrypted room of a local and a remote member; its messages show no reference."""
    await encrypt(store)
    await set_member(store, ANN)
    await set_member(store, BOB)
    await store.add_event(ROOM, {"ciphertext": "…"}, event_type="m.room.encrypted", sender=ANN)
    return store


async def test_pictures_of_an_encrypted_room_are_held_with_its_members_alone(
    room: DendriteStore, retention: Retention
) -> None:
    sent, fetched = await upload(room), await room.add(origin="there.test:8448")
    others, elsewhere = await upload(room, "@eve:here.test"), await room.add(origin="elsewhere.test")
    _, coverage = await put_on(retention, with_members=False)
    assert (coverage.items, coverage.encrypted, coverage.encryption_known) == (0, True, True)
    assert await held(retention) == set()
    hold, coverage = await put_on(retention)
    assert (coverage.items, coverage.in_quarantine, coverage.encrypted) == (2, 0, True)
    assert hold.members == HeldMembers((ANN,), ("there.test:8448", "x"))
    assert await held(retention) == {sent.uri, fetched.uri}
    report = await retention.one_pass(**LOCAL_AND_REMOTE)
    assert (report.removed_items, dict(report.kept)) == (2, {"hold": 2})
    assert set(await room.rows()) == {sent.key, fetched.key}
    assert {others.key, elsewhere.key}.isdisjoint(await room.rows())
    assert not await room.broken_references()


async def test_what_members_upload_after_the_hold_is_held_too(
    room: DendriteStore, retention: Retention
) -> None:
    await put_on(retention)
    later = await upload(room), await room.add(origin="There.test:8448")
    assert await held(retention) == {media.uri for media in later}


@pytest.mark.parametrize(
    ("membership", "is_held"), [("leave", True), ("ban", True), ("invite", False), ("knock", False)]
)
async def test_members_who_left_have_left_pictures_and_invited_users_have_not(
    room: DendriteStore, retention: Retention, membership: str, is_held: bool
) -> None:
    local, remote = await upload(room, "@carl:here.test"), await room.add(origin="far.test")
    await set_member(room, "@carl:here.test", membership)
    await set_member(room, "@dora:far.test", membership)
    await put_on(retention)
    assert await held(retention) == ({local.uri, remote.uri} if is_held else set())


async def test_a_sender_whose_membership_is_not_known_is_a_member(
    room: DendriteStore, retention: Retention
) -> None:
    remote = await room.add(origin="far.test")
    await room.add_event(ROOM, {}, event_type="m.room.encrypted", sender="@gone:far.test")
    await put_on(retention)
    assert await held(retention) == {remote.uri}


async def test_members_who_join_later_are_held_by_plan_and_pass(
    room: DendriteStore, retention: Retention, connection: Connection
) -> None:
    hold, _ = await put_on(retention)
    local, remote = await upload(room, "@carl:here.test"), await room.add(origin="far.test")
    await set_member(room, "@carl:here.test")
    await set_member(room, "@dora:far.test")
    before = await connection.fetch("SELECT * FROM retentiond.hold_member ORDER BY subject")
    assert await held(retention) == {local.uri, remote.uri}
    assert await connection.fetch("SELECT * FROM retentiond.hold_member ORDER BY subject") == before
    report = await retention.one_pass(**LOCAL_AND_REMOTE)
    assert dict(report.kept) == {"hold": 2}
    async with retention.opened() as target:
        [listed] = [found async for found in target.holds.on_record(closed=False)]
    assert listed.hold_id == hold.hold_id
    assert listed.members == HeldMembers((ANN, "@carl:here.test"), ("far.test", "there.test:8448", "x"))


async def test_a_member_of_whom_the_room_shows_nothing_any_more_stays_held(
    room: DendriteStore, retention: Retention, connection: Connection
) -> None:
    sent = await upload(room)
    await put_on(retention)
    await connection.execute("DELETE FROM syncapi_current_room_state")
    await connection.execute("DELETE FROM syncapi_output_room_events")
    assert await held(retention) == {sent.uri}


async def test_members_are_released_with_their_room(room: DendriteStore, retention: Retention) -> None:
    sent = await upload(room)
    await put_on(retention)
    async with retention.opened() as target:
        [released] = await target.holds.release([], HoldSubject("room", ROOM), "closed")
        assert [found async for found in target.holds.on_record(closed=False)] == []
        [closed] = [found async for found in target.holds.on_record(closed=True)]
    assert (released.state, closed.members.users) == ("released", (ANN,))
    assert await held(retention) == set()
    assert (await retention.one_pass(**LOCAL_AND_REMOTE)).removed_items == 1
    assert sent.key not in await room.rows()


async def test_what_members_have_in_quarantine_comes_back_and_is_not_purged(
    room: DendriteStore, retention: Retention
) -> None:
    sent, fetched = await upload(room), await room.add(origin="there.test:8448")
    keys = LOCAL_AND_REMOTE | {"grace": "30d", "settle": "0s"}
    await retention.one_pass(**keys)
    assert await room.rows() == {}
    _, coverage = await put_on(retention)
    assert (coverage.items, coverage.in_quarantine) == (0, 2)
    async with retention.opened(**keys) as target:
        assert (await target.end_grace()).restored == 2
    assert set(await room.rows()) == {sent.key, fetched.key}
    assert not await room.broken_references()


@pytest.mark.parametrize("with_members", [True, False])
async def test_an_unencrypted_room_is_not_told_as_encrypted(
    store: DendriteStore, retention: Retention, with_members: bool
) -> None:
    shown, sent = await store.add(), await upload(store)
    await set_member(store, ANN)
    await store.add_event(ROOM, {"url": shown.uri}, sender=ANN)
    _, coverage = await put_on(retention, with_members=with_members)
    assert (coverage.encrypted, coverage.encryption_known) == (False, True)
    assert await held(retention) == ({shown.uri, sent.uri} if with_members else {shown.uri})


async def test_a_room_whose_encryption_was_lost_from_its_state_is_encrypted(
    room: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await connection.execute("DELETE FROM syncapi_current_room_state WHERE type = 'm.room.encryption'")
    _, coverage = await put_on(retention, with_members=False)
    assert (coverage.encrypted, coverage.encryption_known) == (True, True)


async def test_a_room_without_a_known_state_is_treated_as_encrypted(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add_event(ROOM, {"body": "hello"})
    _, coverage = await put_on(retention, with_members=False)
    assert (coverage.encrypted, coverage.encryption_known) == (True, False)


async def test_a_state_that_cannot_be_read_is_treated_as_encrypted(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await connection.execute("ALTER TABLE syncapi_output_room_events RENAME COLUMN type TO kind")
    _, coverage = await put_on(retention, with_members=False)
    assert (coverage.encrypted, coverage.encryption_known) == (True, False)


async def test_members_that_cannot_be_read_refuse_pass_and_plan_while_the_hold_stands(
    room: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await upload(room)
    await connection.execute("ALTER TABLE syncapi_current_room_state RENAME COLUMN membership TO gone")
    with pytest.raises(RefusedError, match="the hold is in force"):
        await put_on(retention)
    for report in (await retention.one_pass(**LOCAL_AND_REMOTE), (await retention.one_plan(protect=[]))[0]):
        assert report.refused is not None
        assert report.refused.limit == "hold_unreadable"
    assert len(await room.rows()) == 1


async def test_members_in_another_components_database_are_held_too(
    store: DendriteStore, retention: Retention, media_path: Path, postgres: DatabaseServer
) -> None:
    sent, fetched = await upload(store), await store.add(origin="there.test:8448")
    await store.add(origin="elsewhere.test")
    other = await postgres.clone()
    try:
        connection = await asyncpg.connect(other)
        try:
            theirs = DendriteStore(connection, media_path)
            await encrypt(theirs)
            await set_member(theirs, ANN)
            await set_member(theirs, BOB)
        finally:
            await connection.close()
        keys: dict[str, Any] = {"databases": {"sync_api": other}}
        _, coverage = await put_on(retention, **keys)
        assert (coverage.items, coverage.encrypted) == (2, True)
        assert await held(retention, **keys) == {sent.uri, fetched.uri}
        report = await retention.one_pass(**LOCAL_AND_REMOTE | keys)
    finally:
        await postgres.drop(other)
    assert (report.removed_items, dict(report.kept)) == (1, {"hold": 2})


async def test_without_a_known_server_name_local_members_are_held_by_user_and_by_server(
    room: DendriteStore, retention: Retention
) -> None:
    sent = await upload(room)
    hold, _ = await put_on(retention, server_name=None)
    assert ANN in hold.members.users
    assert "here.test" in hold.members.servers
    assert sent.uri in await held(retention, server_name=None)


async def test_the_name_of_a_local_server_in_capitals_holds_a_member_and_not_the_server(
    store: DendriteStore, retention: Retention
) -> None:
    await encrypt(store)
    await set_member(store, "@ann:HERE.test")
    sent, others = await upload(store, "@ann:HERE.test"), await upload(store)
    await put_on(retention)
    assert await held(retention) == {sent.uri}
    assert others.uri not in await held(retention)


async def test_a_member_event_of_no_user_or_of_a_hostile_length_costs_itself_alone(
    room: DendriteStore, retention: Retention
) -> None:
    sent = await upload(room)
    for name in ("", "nobody", "@ann", "@:", f"@{'e' * 9000}:far.test", "@x:" + "y" * 9000):
        await set_member(room, name)
    hold, _ = await put_on(retention)
    assert hold.members == HeldMembers((ANN,), ("there.test:8448", "x"))
    assert await held(retention) == {sent.uri}


async def test_the_story_names_the_hold_and_why_it_is_on_the_medium(
    room: DendriteStore, retention: Retention
) -> None:
    sent, fetched, shown = await upload(room), await room.add(origin="there.test:8448"), await room.add()
    await room.add_event(ROOM, {"url": shown.uri})
    await put_on(retention)
    expected = {
        sent: f"with its members: {ANN} uploaded it",
        fetched: "with its members: some of them are users of there.test:8448",
        shown: "which refers to it",
    }
    async with retention.opened(**LOCAL_AND_REMOTE) as target:
        for media, why in expected.items():
            story = await target.explain(media.uri, NullProgress())
            assert story.holds == [f"hold 1, on the room {ROOM}, {why}"]
            assert story.verdict is not None
            assert story.verdict.reason == "hold"


@pytest.mark.parametrize(
    ("user", "server_name", "is_remote"),
    [(BOB, "here.test", True), ("@ann:HERE.test", "here.test", False), (BOB, None, False)],
)
async def test_a_hold_on_a_user_of_another_server_is_known_as_one(
    store: DendriteStore, retention: Retention, user: str, server_name: str | None, is_remote: bool
) -> None:
    async with retention.opened(server_name=server_name) as target:
        _, coverage = await target.holds.add(HoldRequest(HoldSubject("user", user)))
    assert coverage.remote_user is is_remote


async def test_a_hold_with_members_that_ends_holds_them_no_longer(
    room: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await upload(room)
    await put_on(retention)
    today = await connection.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    await connection.execute("UPDATE retentiond.hold SET until = $1", today - timedelta(days=1))
    assert await held(retention) == set()
