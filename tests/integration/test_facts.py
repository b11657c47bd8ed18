"""What a row was released for is asked again until the purge: references that appear in between bring it back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import NullProgress, PassOptions
from retentiond.model.request import Request
from retentiond.targets.dendrite_media.quarantine import removal
from retentiond.targets.dendrite_media.surveys.assess import assess
from retentiond.targets.dendrite_media.sweeps import purge
from tests.support.media_target import let_pass
from tests.support.store import COMMON_THUMBNAILS, DendriteStore, StoredMedia

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from retentiond.model.report import SweepReport
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]

ROOM, OTHER = "!room:there.test", "!other:there.test"
ALICE = "@alice:here.test"
SETTLED = timedelta(minutes=11)
NO_PROTECTION: dict[str, Any] = {"protect": [], "grace": "0s", "settle": "10m"}


def policy(**match: Any) -> dict[str, Any]:
    return NO_PROTECTION | {"policies": [{"name": "rule", "match": match, "keep": "30d"}]}


UNREFERENCED = policy(unreferenced=True)
LEFT = policy(room="no_local_members")


@dataclass(frozen=True)
class Case:
    """A reason to release a medium, how a room makes it hold, and a change by which it holds no more."""

    keys: dict[str, Any]
    prepare: Callable[[DendriteStore, StoredMedia], Awaitable[Any]]
    change: Callable[[DendriteStore, StoredMedia, Any], Awaitable[Any]]
    request: Request | None = None


async def nothing(_store: DendriteStore, _media: StoredMedia) -> None:
    """Leave the store as it is."""


async def leave(store: DendriteStore, *, days: float) -> None:
    sent_at = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000)
    await store.add_state_event(
        ROOM, "m.room.member", ALICE, {"membership": "leave"}, sender=ALICE, sent_at=sent_at
    )


async def left_room(store: DendriteStore, media: StoredMedia) -> None:
    await store.add_room(ROOM, (True, 1), (False, 3))
    await leave(store, days=90)
    await store.add_event(ROOM, {"url": media.uri})


async def upgraded_room(store: DendriteStore, media: StoredMedia) -> None:
    sent_at = int((datetime.now(UTC) - timedelta(days=90)).timestamp() * 1000)
    content = {"replacement_room": "!new:there.test"}
    await store.add_state_event(ROOM, "m.room.tombstone", "", content, sender=ALICE, sent_at=sent_at)
    await store.add_event(ROOM, {"url": media.uri})


async def any_room(store: DendriteStore, media: StoredMedia) -> None:
    await store.add_event(ROOM, {"url": media.uri})


async def message(store: DendriteStore, media: StoredMedia, _connection: Connection) -> None:
    await store.add_event(OTHER, {"url": media.uri})


async def avatar(store: DendriteStore, media: StoredMedia, _connection: Connection) -> None:
    await store.add_profile("alice", media.uri)


async def member(store: DendriteStore, media: StoredMedia, _connection: Connection) -> None:
    await store.add_state_event(OTHER, "m.room.member", "@eve:there.test", {"avatar_url": media.uri})


async def state(store: DendriteStore, media: StoredMedia, _connection: Connection) -> None:
    await store.add_state_event(OTHER, "emotes", "", {"url": media.uri})


async def account(store: DendriteStore, media: StoredMedia, _connection: Connection) -> None:
    await store.add_account_data("alice", "emotes", {"url": media.uri})


async def joined(_store: DendriteStore, _media: StoredMedia, connection: Connection) -> None:
    await connection.execute("UPDATE roomserver_membership SET membership_nid = 3 WHERE target_local")


async def invited(_store: DendriteStore, _media: StoredMedia, connection: Connection) -> None:
    await connection.execute("UPDATE roomserver_membership SET membership_nid = 2 WHERE target_local")


async def left_anew(store: DendriteStore, _media: StoredMedia, _connection: Connection) -> None:
    await leave(store, days=1)


async def encrypted(store: DendriteStore, _media: StoredMedia, _connection: Connection) -> None:
    await store.add_state_event(OTHER, "m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2"})
    await store.add_state_event(OTHER, "m.room.member", ALICE, {"membership": "join"}, sender=ALICE)


async def no_tombstone(_store: DendriteStore, _media: StoredMedia, connection: Connection) -> None:
    await connection.execute("DELETE FROM syncapi_current_room_state WHERE type = 'm.room.tombstone'")


def quota(**match: Any) -> dict[str, Any]:
    one = {"match": match, "max_size": "1B", "evict": "oldest"}
    return NO_PROTECTION | {"policies": [], "quota": [one]}


PINNED: dict[str, Any] = NO_PROTECTION | {
    "policies": [
        {"name": "pinned", "match": {"origin": "remote", "room": OTHER}, "keep": "forever"},
        {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
    ]
}
BY_ROOM = Request("room", ROOM)

CASES = {
    "unreferenced, then in a message": Case(UNREFERENCED, nothing, message),
    "unreferenced, then a local user's avatar": Case(UNREFERENCED, nothing, avatar),
    "unreferenced, then a remote user's avatar": Case(UNREFERENCED, nothing, member),
    "unreferenced, then in a room's state": Case(UNREFERENCED, nothing, state),
    "unreferenced, then in account data": Case(UNREFERENCED, nothing, account),
    "in a left room, that a local user joins": Case(LEFT, left_room, joined),
    "in a left room, that a local user is invited to": Case(LEFT, left_room, invited),
    "in a left room, that a local user joins and leaves anew": Case(LEFT, left_room, left_anew),
    "unreferenced, then a local user joins an encrypted room": Case(UNREFERENCED, nothing, encrypted),
    "delete --room, then a local user joins an encrypted room": Case(
        NO_PROTECTION, any_room, encrypted, BY_ROOM
    ),
    "in a left room, then in another": Case(LEFT, left_room, message),
    "in an upgraded room, whose tombstone goes": Case(policy(room="upgraded"), upgraded_room, no_tombstone),
    "in one room, then in another": Case(policy(room=ROOM), any_room, message),
    "by a quota of the unreferenced, then in a message": Case(quota(unreferenced=True), nothing, message),
    "by a quota of left rooms, that a local user joins": Case(
        quota(room="no_local_members"), left_room, joined
    ),
    "by a quota, then kept for ever by a policy": Case(
        PINNED | {"quota": quota(origin="remote")["quota"], "policies": PINNED["policies"][:1]},
        nothing,
        message,
    ),
    "by a later policy, then kept for ever by an earlier": Case(PINNED, nothing, message),
    "delete --room, then in another room": Case(NO_PROTECTION, any_room, message, BY_ROOM),
    "delete --room, then in another room's state": Case(NO_PROTECTION, any_room, state, BY_ROOM),
}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


async def release(retention: Retention, case: Case, media: StoredMedia, store: DendriteStore) -> None:
    await case.prepare(store, media)
    async with retention.opened(**case.keys) as target:
        report = await target.run_pass(PassOptions(command="run", request=case.request))
    assert (report.refused, report.removed_items) == (None, 1)
    assert await store.rows() == {}


async def sweep(retention: Retention, *, everything: bool = True, **keys: Any) -> SweepReport:
    async with retention.opened(**NO_PROTECTION | keys) as target:
        return await target.sweep(everything=everything)


@each_case
async def test_what_would_not_be_released_any_more_comes_back_in_a_sweep(
    store: DendriteStore, retention: Retention, connection: Connection, case: Case
) -> None:
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    before, rows, thumbnails = store.files(), await store.rows(), await store.thumbnail_rows()
    await release(retention, case, media, store)
    await let_pass(connection, timedelta(minutes=1))
    assert (await sweep(retention)).restored == 0
    await case.change(store, media, connection)
    # Until the hourly copy of the references is made anew, they are as they were.
    await let_pass(connection, timedelta(minutes=5))
    assert (await sweep(retention)).restored == 0
    await connection.execute("UPDATE retentiond.reference_copy SET begun_at = begun_at - interval '1 hour'")
    # The configuration may have changed meanwhile.
    assert (await sweep(retention, policies=[])).restored == 1
    assert (await store.rows(), await store.thumbnail_rows(), store.files()) == (rows, thumbnails, before)
    assert await connection.fetchval("SELECT count(*) FROM retentiond.restored") == 0


@each_case
async def test_what_would_not_be_released_any_more_is_not_purged_though_only_the_purge_looks(
    store: DendriteStore, retention: Retention, connection: Connection, case: Case
) -> None:
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    before, rows = store.files(), await store.rows()
    await release(retention, case, media, store)
    await sweep(retention)
    await let_pass(connection, SETTLED)
    await case.change(store, media, connection)
    swept = await sweep(retention, everything=False, policies=[])
    assert (swept.restored, swept.purged) == (1, 0)
    assert (await store.rows(), store.files()) == (rows, before)


@each_case
async def test_what_would_still_be_released_is_purged(
    store: DendriteStore, retention: Retention, connection: Connection, case: Case
) -> None:
    media = await store.add()
    await release(retention, case, media, store)
    await sweep(retention)
    await let_pass(connection, SETTLED)
    swept = await sweep(retention, everything=False, policies=[])
    assert (swept.restored, swept.purged) == (0, 1)
    assert await connection.fetchval("SELECT count(*) FROM retentiond.released_media") == 0


@pytest.mark.parametrize("case", [CASES["in one room, then in another"], CASES["in a left room, that a local user joins"],
                                  CASES["delete --room, then in another room"]])  # fmt: skip
async def test_a_room_that_is_purged_from_the_database_revives_nothing(
    store: DendriteStore, retention: Retention, connection: Connection, case: Case
) -> None:
    media = await store.add()
    await release(retention, case, media, store)
    for table in ("syncapi_output_room_events", "syncapi_current_room_state", "roomserver_rooms"):
        await connection.execute(f"DELETE FROM {table}")
    await sweep(retention)
    await let_pass(connection, SETTLED)
    swept = await sweep(retention, everything=False)
    assert (swept.restored, swept.purged) == (0, 1)


async def test_references_that_cannot_be_read_keep_what_was_released_for_them(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    await release(retention, Case(UNREFERENCED, nothing, message), media, store)
    await sweep(retention)
    await let_pass(connection, SETTLED)
    await connection.execute("ALTER TABLE syncapi_output_room_events RENAME TO hidden")
    # Nothing of the configuration asks messages any more.
    assert (await sweep(retention, policies=[])).purged == 0
    await connection.execute("ALTER TABLE hidden RENAME TO syncapi_output_room_events")
    assert (await sweep(retention, policies=[])).purged == 1


async def test_what_the_copy_of_references_does_not_answer_waits_for_the_next_round(
    store: DendriteStore, retention: Retention, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release beside the purge stores facts that nothing has asked for when the copy is begun."""
    await store.add()
    await retention.one_pass(**UNREFERENCED)
    await sweep(retention)
    await let_pass(connection, SETTLED)

    async def before_the_release(place: TargetContext, _connection: object) -> References:
        return place.references.only(place.references.protections)

    with monkeypatch.context() as beside:
        beside.setattr(purge, "references_asked_again", before_the_release)
        swept = await sweep(retention, everything=False)
    assert (swept.restored, swept.purged) == (0, 0)
    assert (await sweep(retention, everything=False)).purged == 1


async def test_facts_that_cannot_be_read_bring_their_row_back_and_no_other(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media, goes = await store.add(), await store.add()
    await retention.one_pass(**UNREFERENCED)
    unknown = {"policies": [{"name": "rule", "keep_seconds": 1.0, "match": {"colour": "red"}}]}
    await connection.execute(
        "UPDATE retentiond.released_media SET facts = $1 WHERE media_id = $2",
        json.dumps(unknown),
        media.key.media_id,
    )
    await sweep(retention, everything=False)
    await let_pass(connection, SETTLED)
    swept = await sweep(retention, everything=False)
    assert (swept.restored, swept.purged) == (1, 1)
    assert set(await store.rows()) == {media.key}
    assert goes.key not in await store.rows()


async def test_what_was_released_without_facts_is_purged_as_ever(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    await retention.one_pass(**UNREFERENCED)
    await connection.execute("UPDATE retentiond.released_media SET facts = NULL")
    await store.add_event(OTHER, {"url": media.uri})
    await sweep(retention)
    await let_pass(connection, SETTLED)
    assert (await sweep(retention)).purged == 1


async def test_a_policy_that_asks_no_references_stores_no_facts(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add(thumbnails=COMMON_THUMBNAILS)
    policies = [
        {"name": "local", "match": {"origin": "local", "unreferenced": True}, "keep": "forever"},
        {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
    ]
    await retention.one_pass(policies=policies)
    # An earlier policy that could never match the row is none that could keep it.
    assert await connection.fetchval("SELECT facts FROM retentiond.released_media") is None


async def test_a_row_whose_file_another_row_kept_comes_back_at_its_last_look(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    kept = await store.add(
        content=media.content, origin="here.test", user_id=ALICE, age=timedelta(days=1), file=False
    )
    rows = await store.rows()
    await retention.one_pass(**UNREFERENCED)
    assert set(await store.rows()) == {kept.key}
    await let_pass(connection, SETTLED)
    await store.add_event(OTHER, {"url": media.uri})
    assert (await sweep(retention, everything=False)).restored == 1
    assert await store.rows() == rows


async def test_a_row_comes_back_at_its_last_look_though_its_blob_came_back_for_another(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    await retention.one_pass(**UNREFERENCED)
    again = await store.add(content=media.content, origin="again.test", age=timedelta(days=1), file=False)
    assert (await sweep(retention)).returned == 1
    await let_pass(connection, SETTLED)
    await store.add_event(OTHER, {"url": media.uri})
    swept = await sweep(retention, everything=False)
    assert (swept.restored, swept.purged) == (1, 0)
    assert set(await store.rows()) == {media.key, again.key}
    await let_pass(connection, SETTLED)
    # The spare is purged all the same, and takes nothing that is live.
    assert (await sweep(retention, everything=False)).purged == 1
    assert await store.broken_references() == []


async def test_of_rows_that_share_a_blob_only_that_comes_back_which_is_referred_to(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    one = await store.add()
    await store.add(content=one.content, origin="other.test")
    await retention.one_pass(**UNREFERENCED)
    await store.add_event(OTHER, {"url": one.uri})
    await connection.execute("UPDATE retentiond.reference_copy SET begun_at = begun_at - interval '1 hour'")
    assert (await sweep(retention)).restored == 1
    assert set(await store.rows()) == {one.key}
    assert await store.broken_references() == []


async def test_thumbnails_that_went_alone_come_back_too(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media, goes = [await store.add(thumbnails=COMMON_THUMBNAILS) for _ in range(2)]
    thumbnails = [row for row in await store.thumbnail_rows() if row.key == media.key]
    match = {"unreferenced": True}
    thumbs = {"name": "thumbs", "match": match, "keep": "30d", "remove": "thumbnails"}
    await retention.one_pass(**NO_PROTECTION | {"policies": [thumbs]})
    assert await store.thumbnail_rows() == []
    await store.add_event(OTHER, {"url": media.uri})
    await connection.execute("UPDATE retentiond.reference_copy SET begun_at = begun_at - interval '1 hour'")
    assert (await sweep(retention)).restored == 1
    assert await store.thumbnail_rows() == thumbnails
    await connection.execute("UPDATE retentiond.entry SET renamed_at = renamed_at - interval '1 hour'")
    await store.add_event(OTHER, {"url": goes.uri})
    await connection.execute("UPDATE retentiond.reference_copy SET begun_at = begun_at - interval '1 hour'")
    # At their last look, before any sweep of everything.
    assert (await sweep(retention, everything=False)).restored == 1
    assert len(await store.thumbnail_rows()) == 2 * len(COMMON_THUMBNAILS)
    assert await store.broken_references() == []


async def test_another_rooms_reference_brings_back_what_went_even_though_it_was_protected(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    await store.add_profile("alice", media.uri)
    case = Case({"grace": "0s"}, any_room, message, Request("room", ROOM, even_protected=True))
    await release(retention, case, media, store)
    await sweep(retention, protect=["profile_avatars"])
    await connection.execute("UPDATE retentiond.reference_copy SET begun_at = begun_at - interval '1 hour'")
    assert (await sweep(retention, protect=["profile_avatars"])).restored == 0
    await store.add_event(OTHER, {"url": media.uri})
    await connection.execute("UPDATE retentiond.reference_copy SET begun_at = begun_at - interval '1 hour'")
    assert (await sweep(retention, protect=["profile_avatars"])).restored == 1
    assert set(await store.rows()) == {media.key}


async def test_another_rooms_reference_between_survey_and_release_of_a_room_keeps(
    store: DendriteStore, retention: Retention, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await store.add()
    await store.add_event(ROOM, {"url": media.uri})

    async def refer_then_assess(*arguments: Any) -> Any:
        await store.add_event(OTHER, {"url": media.uri})
        await let_pass(connection, SETTLED)
        return await assess(*arguments)

    monkeypatch.setattr(removal, "assess", refer_then_assess)
    async with retention.opened(**NO_PROTECTION) as target:
        report = await target.run_pass(PassOptions(command="run", request=BY_ROOM))
    assert report.kept == {"changed": 1}
    assert set(await store.rows()) == {media.key}


async def test_the_list_and_the_story_name_what_is_asked_again(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await retention.one_pass(**UNREFERENCED)
    async with retention.opened(**UNREFERENCED) as target:
        (listed,) = [item async for item in target.released()]
        story = await target.explain(media.uri, NullProgress())
    assert listed.released_for == "nothing refers to it and no encrypted room can show it"
    assert listed.as_json()["released_for"] == listed.released_for
    (told,) = story.quarantine
    assert "asked again until the purge: nothing refers to it" in told
