"""Rooms that another server made what they are: its clock is not trusted, so the first pass that finds them so counts."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from tests.support.media_target import let_pass
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention
    from tests.support.store import StoredMedia

    Connection = asyncpg.Connection[asyncpg.Record]

ROOM: Final = "!room:there.test"
EVE: Final = "@eve:there.test"
MEMBERSHIPS: Final = (True, 1), (False, 3)


def policy(kind: str) -> dict[str, Any]:
    return {"policies": [{"name": "rule", "match": {"room": kind}, "keep": "30d"}], "protect": []}


LEFT, UPGRADED = policy("no_local_members"), policy("upgraded")


async def kick(store: DendriteStore, *, membership: str = "leave") -> None:
    """Let a user of another server end the membership of a local one, years ago as that server says."""
    content = {"membership": membership}
    await store.add_state_event(ROOM, "m.room.member", "@bob:here.test", content, sender=EVE, sent_at=1)


async def upgrade(store: DendriteStore, successor: str = "!new:there.test") -> None:
    """Let a user of another server upgrade the room."""
    content = {"replacement_room": successor}
    await store.add_state_event(ROOM, "m.room.tombstone", "", content, sender=EVE, sent_at=1)


@pytest.fixture
async def media(store: DendriteStore) -> StoredMedia:
    """An old medium that a message in the room refers to; the room is left and upgraded."""
    await store.add_room(ROOM, *MEMBERSHIPS)
    await kick(store)
    await upgrade(store)
    media = await store.add()
    await store.add_event(ROOM, {"url": media.uri})
    return media


async def planned(retention: Retention, **keys: Any) -> dict[str, str]:
    report, items = await retention.one_plan(**keys)
    assert report.refused is None
    return {item.media: item.reason for item in items}


async def passed(connection: Connection, days: float) -> None:
    await let_pass(connection, timedelta(days=days))


@pytest.mark.parametrize("keys", [LEFT, UPGRADED])
async def test_media_of_a_room_that_another_server_left_or_upgraded_go_at_last(
    media: StoredMedia, retention: Retention, connection: Connection, keys: dict[str, Any]
) -> None:
    assert (await retention.one_pass(**keys)).kept == {"not_due": 1}
    await passed(connection, 29)
    assert await planned(retention, **keys) == {media.uri: "not_due"}
    assert (await retention.one_pass(**keys)).kept == {"not_due": 1}
    await passed(connection, 2)
    assert await planned(retention, **keys) == {media.uri: "due"}
    assert (await retention.one_pass(**keys)).removed_items == 1


async def test_what_went_by_the_first_time_that_a_room_was_seen_stays_in_quarantine_when_it_is_asked_again(
    media: StoredMedia, retention: Retention, connection: Connection, store: DendriteStore
) -> None:
    await retention.one_pass(**LEFT)
    await passed(connection, 31)
    keys = LEFT | {"grace": "10d"}
    assert (await retention.one_pass(**keys)).removed_items == 1
    await passed(connection, 1)
    await retention.one_pass(**keys)
    assert await store.rows() == {}
    # And it comes back when the user joins again, though the room is left once more before the pass.
    await connection.execute("UPDATE roomserver_membership SET event_nid = 7 WHERE target_local")
    await passed(connection, 1)
    await retention.one_pass(**keys)
    assert set(await store.rows()) == {media.key}


@pytest.mark.parametrize("keys", [LEFT, UPGRADED])
async def test_a_plan_notes_no_room(
    media: StoredMedia, retention: Retention, connection: Connection, keys: dict[str, Any]
) -> None:
    assert await planned(retention, **keys) == {media.uri: "not_due"}
    await retention.one_pass(policies=[], protect=[])
    assert await planned(retention, **keys) == {media.uri: "not_due"}
    assert await connection.fetchval("SELECT count(*) FROM retentiond.room_seen") == 0


async def test_a_room_that_was_joined_and_left_again_between_two_passes_counts_from_the_second(
    media: StoredMedia, retention: Retention, connection: Connection
) -> None:
    await retention.one_pass(**LEFT)
    await passed(connection, 31)
    await connection.execute("UPDATE roomserver_membership SET event_nid = 7 WHERE target_local")
    assert await planned(retention, **LEFT) == {media.uri: "not_due"}
    assert (await retention.one_pass(**LEFT)).kept == {"not_due": 1}
    await passed(connection, 31)
    assert (await retention.one_pass(**LEFT)).removed_items == 1


async def test_a_room_that_was_upgraded_anew_counts_from_then(
    media: StoredMedia, retention: Retention, connection: Connection, store: DendriteStore
) -> None:
    await retention.one_pass(**UPGRADED)
    await passed(connection, 31)
    await upgrade(store, "!newer:there.test")
    assert await planned(retention, **UPGRADED) == {media.uri: "not_due"}


async def test_a_room_that_is_not_left_any_more_is_forgotten(
    media: StoredMedia, retention: Retention, connection: Connection
) -> None:
    await retention.one_pass(**LEFT)
    kinds = "SELECT kind FROM retentiond.room_seen ORDER BY kind"
    assert [row["kind"] for row in await connection.fetch(kinds)] == ["no_local_members", "upgraded"]
    await connection.execute("UPDATE roomserver_membership SET membership_nid = 3 WHERE target_local")
    await retention.one_pass(**LEFT)
    assert [row["kind"] for row in await connection.fetch(kinds)] == ["upgraded"]
    await connection.execute("UPDATE roomserver_membership SET membership_nid = 1 WHERE target_local")
    await passed(connection, 31)
    assert await planned(retention, **LEFT) == {media.uri: "not_due"}


async def test_a_pass_that_asks_for_no_room_forgets_none(
    media: StoredMedia, retention: Retention, connection: Connection
) -> None:
    await retention.one_pass(**LEFT)
    await passed(connection, 20)
    await retention.one_pass(policies=[])
    await passed(connection, 11)
    assert await planned(retention, **LEFT) == {media.uri: "due"}


async def test_a_room_id_that_is_too_long_to_be_noted_refuses_no_pass(
    media: StoredMedia, retention: Retention, connection: Connection, store: DendriteStore
) -> None:
    # It just fits into dendrite's own index.
    await store.add_room(f"!{secrets.token_urlsafe(2010)}", (True, 1))
    assert (await retention.one_pass(**LEFT)).refused is None
    assert await connection.fetchval("SELECT count(*) FROM retentiond.room_seen") == 2


async def test_rooms_of_another_database_are_noted_as_well(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    postgres: DatabaseServer,
    media_path: Path,
) -> None:
    media = await store.add()
    elsewhere = await postgres.clone()
    other: Connection = await asyncpg.connect(elsewhere)
    try:
        sync = DendriteStore(other, media_path)
        await sync.add_room(ROOM, *MEMBERSHIPS)
        await kick(sync, membership="ban")
        await sync.add_event(ROOM, {"url": media.uri})
    finally:
        await other.close()
    keys = LEFT | {"databases": {"room_server": elsewhere, "sync_api": elsewhere}}
    assert (await retention.one_pass(**keys)).kept == {"not_due": 1}
    await passed(connection, 31)
    assert await planned(retention, **keys) == {media.uri: "due"}
    assert (await retention.one_pass(**keys)).removed_items == 1
    await postgres.drop(elsewhere)
