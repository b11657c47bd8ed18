"""What messages refer to, and where: policies by room, messages that keep, and media that nothing mentions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.engine.target import NullProgress
from retentiond.model.mentions import ANYWHERE
from retentiond.targets.dendrite_media.database.rows import media_row
from retentiond.targets.dendrite_media.passes import steps
from retentiond.targets.dendrite_media.quarantine import release
from retentiond.targets.dendrite_media.references.copies import References
from retentiond.targets.dendrite_media.references.sources import Sources
from retentiond.targets.dendrite_media.surveys.asked import mentions_of
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.model.report import PassReport
    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]

LEFT, JOINED = "!left:there.test", "!joined:there.test"
LOCAL_JOINED, LOCAL_LEFT, REMOTE_JOINED = (True, 3), (True, 1), (False, 3)


def policy(**match: Any) -> dict[str, Any]:
    return {"policies": [{"name": "rule", "match": match, "keep": "30d"}], "protect": []}


VACATED = policy(room="no_local_members")
UPGRADED = policy(room="upgraded")
UNREFERENCED = policy(unreferenced=True)
MESSAGES_STAY = {"protect": [], "messages_in": ["joined_rooms"]}


async def due(retention: Retention, **keys: Any) -> set[str]:
    """What a plan would remove."""
    report, items = await retention.one_plan(**keys)
    assert report.refused is None
    return {item.media for item in items if item.action == "remove"}


@pytest.fixture
async def rooms(store: DendriteStore) -> DendriteStore:
    """A store with a room that local members left long ago, and one that they are in."""
    await store.add_room(LEFT, LOCAL_LEFT, REMOTE_JOINED)
    await leave(store, LEFT, days=90)
    await store.add_room(JOINED, LOCAL_JOINED, REMOTE_JOINED)
    return store


async def leave(
    store: DendriteStore, room: str, *, days: float, user: str = "@ann:here.test", sender: str = ""
) -> None:
    """Let a user leave a room, at a time that many days ago."""
    await store.add_state_event(
        room, "m.room.member", user, {"membership": "leave"}, sender=sender or user, sent_at=days_ago(days)
    )


async def upgrade(
    store: DendriteStore, room: str, *, days: float, sender: str = "@ann:here.test", added_at: int = 1
) -> None:
    """Let a user upgrade a room, at a time that many days ago."""
    content = {"replacement_room": "!new:there.test"}
    await store.add_state_event(
        room, "m.room.tombstone", "", content, sender=sender, sent_at=days_ago(days), added_at=added_at
    )


def days_ago(days: float) -> int:
    """That time in milliseconds."""
    return int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000)


async def test_what_messages_in_vacated_rooms_alone_refer_to_goes(
    rooms: DendriteStore, retention: Retention
) -> None:
    only, thumbnail, both, young, unsent = [await rooms.add() for _ in range(3)] + [
        await rooms.add(age=timedelta(days=2)),
        await rooms.add(),
    ]
    await rooms.add_room("!second:there.test", LOCAL_LEFT)
    await leave(rooms, "!second:there.test", days=90)
    await rooms.add_event(LEFT, {"url": only.uri, "info": {"thumbnail_url": thumbnail.uri}})
    await rooms.add_event("!second:there.test", {"url": only.uri})
    await rooms.add_event(LEFT, {"formatted_body": f'<img src="{both.uri}">', "url": young.uri})
    await rooms.add_event(JOINED, {"body": f"look: {both.uri}"})
    assert await due(retention, **VACATED) == {only.uri, thumbnail.uri}
    assert unsent.uri not in await due(retention, **VACATED)


async def test_a_room_with_a_local_member_is_not_left_in_a_database_with_other_lower_case_letters_either(
    rooms: DendriteStore, retention: Retention, connection: Connection
) -> None:
    """In Turkish the lower case of I is no i."""
    if not await connection.fetchval("SELECT to_regcollation('\"tr-x-icu\"') IS NOT NULL"):
        pytest.skip("this PostgreSQL has no ICU: set RETENTIOND_POSTGRES_BIN to one that has it")
    await connection.execute(
        'ALTER TABLE syncapi_current_room_state ALTER state_key TYPE text COLLATE "tr-x-icu"'
    )
    media = await rooms.add()
    await rooms.add_event(LEFT, {"url": media.uri})
    inn = VACATED | {"server_name": ["here.test", "inn.test"]}
    assert await due(retention, **inn) == {media.uri}
    await rooms.add_state_event(LEFT, "m.room.member", "@ann:INN.TEST", {"membership": "join"})
    assert await due(retention, **inn) == set()


async def test_what_cannot_be_tied_to_a_room_is_not_matched(
    rooms: DendriteStore, retention: Retention
) -> None:
    broken, doubtful, plain, state = [await rooms.add() for _ in range(4)]
    await rooms.add_event(LEFT, f'{{"content": {{"url": "{broken.uri}"')
    await rooms.add_event(LEFT, {"url": broken.uri})
    # Here the ID may end, or go on.
    await rooms.add_event(LEFT, {"body": f"{doubtful.uri}/more"})
    await rooms.add_event(LEFT, {"body": f"{plain.uri}, or so"})
    await rooms.add_event(LEFT, {"avatar_url": state.uri}, event_type="m.room.member", state_key="@a:b")
    assert await due(retention, **VACATED) == {plain.uri}


async def test_of_a_room_that_the_room_server_does_not_know_nobody_can_tell_that_it_is_empty(
    rooms: DendriteStore, retention: Retention
) -> None:
    media = await rooms.add()
    await rooms.add_event("!unknown:there.test", {"url": media.uri})
    assert await due(retention, **VACATED) == set()
    assert await due(retention, **MESSAGES_STAY) == set()


async def test_a_room_whose_state_shows_a_member_of_ours_is_not_empty(
    rooms: DendriteStore, retention: Retention
) -> None:
    media = await rooms.add()
    await rooms.add_event(LEFT, {"url": media.uri})
    await rooms.add_state_event(LEFT, "m.room.member", "@ann:Here.test", {"membership": "join"})
    assert await due(retention, **VACATED) == set()
    assert await due(retention, **MESSAGES_STAY) == set()


async def test_the_time_of_a_left_room_begins_with_the_last_leave_of_a_local_user(
    rooms: DendriteStore, retention: Retention
) -> None:
    """Leaving by mistake cost everything older that night."""
    media = await rooms.add(age=timedelta(days=1000))
    await rooms.add_event(LEFT, {"url": media.uri})
    assert await due(retention, **VACATED) == {media.uri}
    await leave(rooms, LEFT, days=29, user="@bob:here.test")
    assert await due(retention, **VACATED) == set()
    report = await retention.one_pass(**VACATED)
    assert (report.removed_items, dict(report.kept)) == (0, {"not_due": 1})
    await leave(rooms, LEFT, days=31, user="@bob:here.test")
    # The leaves of users of other servers have no say.
    await leave(rooms, LEFT, days=1, user="@eve:there.test")
    assert (await retention.one_pass(**VACATED)).removed_items == 1


@pytest.mark.parametrize("days", [500, -1])
async def test_a_time_that_another_server_wrote_is_not_known(
    rooms: DendriteStore, retention: Retention, days: float
) -> None:
    """A kick by another server, and a tombstone: its clock may say anything."""
    left, upgraded = await rooms.add(), await rooms.add()
    await rooms.add_event(LEFT, {"url": left.uri})
    await leave(rooms, LEFT, days=days, user="@bob:here.test", sender="@eve:there.test")
    await rooms.add_event(JOINED, {"url": upgraded.uri})
    await upgrade(rooms, JOINED, days=days, sender="@eve:there.test")
    for keys in (VACATED, UPGRADED):
        report, items = await retention.one_plan(**keys)
        assert report.kept["not_due"] == 1
        assert {item.reason for item in items} == {"not_due", "no_policy"}


async def test_a_leave_or_an_upgrade_that_claims_to_be_older_than_a_message_before_it_has_no_time(
    rooms: DendriteStore, retention: Retention
) -> None:
    """Clients may name the time of an event: everything older than `keep` was due the night a room was left."""
    left, upgraded = await rooms.add(), await rooms.add()
    await rooms.add_event(LEFT, {"url": left.uri})
    await rooms.add_event(JOINED, {"url": upgraded.uri})
    await upgrade(rooms, JOINED, days=90)
    assert await due(retention, **VACATED) == {left.uri}
    assert await due(retention, **UPGRADED) == {upgraded.uri}
    for room in (LEFT, JOINED):
        await rooms.add_event(room, {"body": "hello"}, sender="@ann:here.test", sent_at=days_ago(1))
    assert await due(retention, **VACATED) == set()
    # People may go on talking in a room that was upgraded: what came after it says nothing of its time.
    assert await due(retention, **UPGRADED) == {upgraded.uri}
    await upgrade(rooms, JOINED, days=90, added_at=1000)
    assert await due(retention, **UPGRADED) == set()


async def test_a_room_of_which_no_leave_is_known_is_left_since_an_unknown_time(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_room(LEFT, LOCAL_LEFT)
    await store.add_event(LEFT, {"url": media.uri})
    report, _ = await retention.one_plan(**VACATED)
    assert dict(report.kept) == {"not_due": 1}


async def test_the_time_of_an_upgraded_room_begins_with_the_upgrade(
    rooms: DendriteStore, retention: Retention
) -> None:
    media = await rooms.add()
    await rooms.add_event(JOINED, {"url": media.uri})
    await upgrade(rooms, JOINED, days=29)
    assert await due(retention, **UPGRADED) == set()
    await upgrade(rooms, JOINED, days=31)
    assert await due(retention, **UPGRADED) == {media.uri}


async def test_an_explanation_says_from_when_the_age_counts(
    rooms: DendriteStore, retention: Retention
) -> None:
    media = await rooms.add(age=timedelta(days=1000))
    await rooms.add_event(LEFT, {"url": media.uri})
    for days, sender, expected in ((29, "", 29), (500, "@eve:there.test", None)):
        await leave(rooms, LEFT, days=days, sender=sender)
        async with retention.opened(**VACATED) as target:
            (told,) = (await target.explain(media.uri, NullProgress())).policies
        assert (told.decides, told.due, told.by_room_kind) == (True, False, True)
        known = None if told.counted_from is None else (datetime.now(UTC) - told.counted_from).days
        assert known == expected


async def test_of_several_rooms_that_mention_a_medium_the_last_one_left_counts(
    rooms: DendriteStore, retention: Retention
) -> None:
    media = await rooms.add()
    second = "!second:there.test"
    await rooms.add_room(second, LOCAL_LEFT)
    for room in (LEFT, second):
        await rooms.add_event(room, {"url": media.uri})
    await leave(rooms, second, days=29)
    assert await due(retention, **VACATED) == set()
    await leave(rooms, second, days=31)
    assert await due(retention, **VACATED) == {media.uri}


@pytest.mark.parametrize("membership", [2, 4])
async def test_a_room_with_a_pending_invite_or_knock_of_a_local_user_is_not_left(
    rooms: DendriteStore, retention: Retention, membership: int
) -> None:
    media = await rooms.add()
    await rooms.add_room("!asked:there.test", LOCAL_LEFT, (True, membership))
    await leave(rooms, "!asked:there.test", days=90)
    await rooms.add_event("!asked:there.test", {"url": media.uri})
    assert await due(retention, **VACATED) == set()
    assert await due(retention, **MESSAGES_STAY) == set()


@pytest.mark.parametrize("where", ["state", "invites"])
async def test_a_room_to_which_only_the_sync_part_knows_an_invite_is_not_left(
    rooms: DendriteStore, retention: Retention, where: str
) -> None:
    media = await rooms.add()
    await rooms.add_event(LEFT, {"url": media.uri})
    if where == "state":
        await rooms.add_state_event(LEFT, "m.room.member", "@bob:here.test", {"membership": "invite"})
    else:
        await rooms.add_invite(LEFT, "@bob:here.test", answered=True)
        assert await due(retention, **VACATED) == {media.uri}
        await rooms.add_invite(LEFT, "@bob:here.test", {"type": "m.room.name"})
    assert await due(retention, **VACATED) == set()


async def test_upgraded_rooms_are_those_with_a_tombstone_that_names_another(
    rooms: DendriteStore, retention: Retention
) -> None:
    upgraded, redacted, odd = [await rooms.add() for _ in range(3)]
    await upgrade(rooms, JOINED, days=90)
    await rooms.add_state_event(LEFT, "m.room.tombstone", "", {}, previous={"replacement_room": "!n:t"})
    await rooms.add_state_event("!odd:t", "m.room.tombstone", "key", {"replacement_room": "!n:t"})
    await rooms.add_event(JOINED, {"url": upgraded.uri})
    await rooms.add_event(LEFT, {"url": redacted.uri})
    await rooms.add_event("!odd:t", {"url": odd.uri})
    assert await due(retention, **UPGRADED) == {upgraded.uri}


async def test_a_room_may_be_named(rooms: DendriteStore, retention: Retention) -> None:
    here, elsewhere, both = [await rooms.add() for _ in range(3)]
    await rooms.add_event(JOINED, {"url": here.uri, "more": both.uri})
    await rooms.add_event(LEFT, {"url": elsewhere.uri, "more": both.uri})
    assert await due(retention, **policy(room=JOINED)) == {here.uri}


async def test_a_redacted_message_and_an_avatar_that_was_replaced_leave_their_media_unreferenced(
    rooms: DendriteStore, retention: Retention
) -> None:
    message, redacted, old, new, profile, data = [await rooms.add() for _ in range(6)]
    await rooms.add_event(LEFT, {"url": message.uri})
    await rooms.add_event(JOINED, {})
    member = ("m.room.member", "@a:there.test")
    await rooms.add_event(JOINED, {"avatar_url": old.uri}, event_type=member[0], state_key=member[1])
    await rooms.add_state_event(JOINED, *member, {"avatar_url": new.uri}, previous={"avatar_url": old.uri})
    await rooms.add_profile("ann", profile.uri)
    await rooms.add_account_data("ann", "x", {"a": data.uri})
    assert await due(retention, **UNREFERENCED) == {redacted.uri, old.uri}


async def test_a_message_that_does_not_parse_keeps_what_it_mentions_from_being_unreferenced(
    rooms: DendriteStore, retention: Retention
) -> None:
    broken, escaped, state = [await rooms.add() for _ in range(3)]
    await rooms.add_event(JOINED, f'{{"content": {{"url": "{broken.uri}"')
    slashes = escaped.uri.replace("/", "\\/")
    await rooms.add_event(JOINED, f'{{"content": {{"url": "{slashes}", "body": "\\u0000"}}}}')
    await rooms.add_event(JOINED, f'{{"state_key": "", "content": {{"url": "{state.uri}"')
    assert await due(retention, **UNREFERENCED) == set()


async def test_the_picture_of_an_encrypted_message_is_never_unreferenced(
    rooms: DendriteStore, retention: Retention
) -> None:
    encrypted = await rooms.add(content_type="application/octet-stream")
    assert await due(retention, **UNREFERENCED) == set()
    named = policy(unreferenced=True, content_type="application/octet-stream")
    assert await due(retention, **named) == {encrypted.uri}


async def test_messages_in_joined_rooms_keep_what_they_refer_to(
    rooms: DendriteStore, retention: Retention
) -> None:
    joined, left = await rooms.add(), await rooms.add()
    await rooms.add_event(JOINED, {"url": joined.uri})
    await rooms.add_event(LEFT, {"url": left.uri})
    report = await retention.one_pass(**MESSAGES_STAY)
    assert (report.removed_items, report.kept) == (1, {"messages_in": 1})
    assert set(await rooms.rows()) == {joined.key}


async def test_what_a_message_in_a_joined_room_mentions_by_then_is_not_purged(
    rooms: DendriteStore, retention: Retention
) -> None:
    media = await rooms.add()
    keys = {**MESSAGES_STAY, "grace": "0s", "settle": "0s"}
    assert (await retention.one_pass(**keys)).removed_items == 1
    await rooms.add_event(JOINED, {"url": media.uri})
    async with retention.opened(**keys) as target:
        await target.end_grace()
    assert set(await rooms.rows()) == {media.key}
    assert await rooms.broken_references() == []


@pytest.mark.parametrize(
    ("sent_before", "keys"), [(False, UNREFERENCED), (False, MESSAGES_STAY), (True, policy(room=LEFT))]
)
async def test_a_release_looks_again_at_what_mentions_the_media(
    rooms: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch,
    sent_before: bool, keys: dict[str, Any],
) -> None:  # fmt: skip
    """A message is sent between the survey and the release, ten minutes later, as it were."""
    media = await rooms.add()
    if sent_before:
        await rooms.add_event(LEFT, {"url": media.uri})
    begin = steps.MediaSteps.begin

    async def send_and_begin(self: steps.MediaSteps, report: PassReport) -> None:
        await rooms.add_event(JOINED, {"url": media.uri})
        await begin(self, report)

    monkeypatch.setattr(steps.MediaSteps, "begin", send_and_begin)
    monkeypatch.setattr(release, "LARGEST_AGE", timedelta(0))
    report = await retention.one_pass(**keys)
    assert (report.removed_items, dict(report.kept)) == (0, {"changed": 1})
    assert set(await rooms.rows()) == {media.key}


async def test_a_release_looks_again_whether_an_encrypted_room_may_show_the_media(
    rooms: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The uploader joins an encrypted room between the survey and the release."""
    media = await rooms.add(origin="here.test", user_id="@ann:here.test")
    begin = steps.MediaSteps.begin

    async def join_and_begin(self: steps.MediaSteps, report: PassReport) -> None:
        await rooms.add_state_event(JOINED, "m.room.encryption", "", {})
        await rooms.add_state_event(JOINED, "m.room.member", "@ann:here.test", {"membership": "join"})
        await begin(self, report)

    monkeypatch.setattr(steps.MediaSteps, "begin", join_and_begin)
    monkeypatch.setattr(release, "LARGEST_AGE", timedelta(0))
    report = await retention.one_pass(**UNREFERENCED)
    assert (report.removed_items, dict(report.kept)) == (0, {"changed": 1})
    assert set(await rooms.rows()) == {media.key}


@pytest.fixture
async def elsewhere(postgres: DatabaseServer) -> AsyncIterator[list[str]]:
    """Two more databases, for the rooms and for the messages."""
    dsns = [await postgres.clone(), await postgres.clone()]
    yield dsns
    for dsn in dsns:
        await postgres.drop(dsn)


@pytest.mark.parametrize(("room_server", "sync_api"), [(1, 2), (0, 1), (1, 0), (1, 1)])
async def test_rooms_and_messages_may_lie_in_databases_of_their_own(
    store: DendriteStore,
    retention: Retention,
    database: str,
    media_path: Path,
    elsewhere: list[str],
    room_server: int,
    sync_api: int,
) -> None:
    """0 is the media's own database."""
    left, joined = await store.add(), await store.add()
    dsns = [database, *elsewhere]
    connections = [await asyncpg.connect(dsn) for dsn in dsns]
    stores = [DendriteStore(connection, media_path) for connection in connections]
    await stores[room_server].add_room(LEFT, LOCAL_LEFT)
    await leave(stores[sync_api], LEFT, days=90)
    await stores[room_server].add_room(JOINED, LOCAL_JOINED)
    await stores[sync_api].add_event(LEFT, {"url": left.uri})
    await stores[sync_api].add_event(JOINED, {"url": joined.uri})
    for connection in connections:
        await connection.close()
    databases = {"room_server": dsns[room_server], "sync_api": dsns[sync_api]}
    keys = VACATED | {"databases": databases}
    assert await due(retention, **keys) == {left.uri}
    report = await retention.one_pass(**keys)
    assert report.removed_items == 1


async def test_a_copy_that_a_sweep_made_does_not_answer_what_policies_ask(
    rooms: DendriteStore, connection: Connection, retention: Retention, database: str
) -> None:
    """It knows nothing of messages, and so everything would seem unreferenced."""
    media = await rooms.add()
    await rooms.add_event(JOINED, {"url": media.uri})
    await retention.one_pass(policies=[])
    references = References(Sources(database, {}, frozenset()), ["profile_avatars"], ANYWHERE)
    long_ago = await connection.fetchval("SELECT now() - interval '1 hour'")
    of_a_sweep = await references.copy(connection, begun_after=long_ago)
    assert of_a_sweep is not None
    async with references.held(connection, begun_after=long_ago) as copy:
        rows = await connection.fetch("SELECT * FROM mediaapi_media_repository")
        mentions = await mentions_of(connection, list(map(media_row, rows)), copy, references)
    assert mentions == {media.key: {"messages"}}
