"""References in encrypted rooms are invisible: what such a room may show is never taken for unreferenced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.engine.target import NullProgress
from retentiond.model.mentions import ENCRYPTION
from retentiond.targets.dendrite_media.database.rows import media_row
from retentiond.targets.dendrite_media.references.copies import References
from retentiond.targets.dendrite_media.references.sources import Sources
from retentiond.targets.dendrite_media.surveys.asked import mentions_of
from tests.support.store import DendriteStore, StoredMedia

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.model.media import MediaKey
    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]

SECRET, PLAIN = "!secret:there.test", "!plain:there.test"
ANN, BOB, EVE = "@ann:here.test", "@bob:here.test", "@eve:there.test"


def policy(*, keep: str = "30d", **keys: Any) -> dict[str, Any]:
    rule = {"name": "rule", "match": {"unreferenced": True}, "keep": keep} | keys
    return {"policies": [rule], "protect": []}


UNREFERENCED = policy()
JOINED_MESSAGES = {
    "policies": [{"name": "rule", "match": {"origin": "*"}, "keep": "30d"}],
    "protect": [],
    "messages_in": ["joined_rooms"],
}


def days_ago(days: float) -> int:
    """That time in milliseconds."""
    return int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000)


async def planned(retention: Retention, **keys: Any) -> dict[str, str]:
    """What a plan says of each item."""
    report, items = await retention.one_plan(**keys)
    assert report.refused is None
    return {item.media: item.reason for item in items}


async def join(
    store: DendriteStore, user: str, room: str = SECRET, membership: str = "join", **keys: Any
) -> None:
    """Set a user's membership; `sent_at` and `sender` are those of the event."""
    await store.add_state_event(
        room, "m.room.member", user, {"membership": membership}, **{"sender": user} | keys
    )


async def upload(store: DendriteStore, user: str = ANN, days: float = 100, **keys: Any) -> StoredMedia:
    return await store.add(origin="here.test", user_id=user, age=timedelta(days=days), **keys)


async def mentions(
    retention: Retention, connection: Connection, table: str
) -> dict[MediaKey, frozenset[str]]:
    """What the newest copy of references says of the rows of a table."""
    rows = [media_row(row) for row in await connection.fetch(f"SELECT * FROM {table}")]
    references = References(Sources(retention.database, {}, frozenset({"here.test"})), (), ENCRYPTION)
    hour_ago = await connection.fetchval("SELECT now() - interval '1 hour'")
    async with references.held(connection, begun_after=hour_ago) as copy:
        return dict(await mentions_of(connection, rows, copy, references))


@pytest.fixture
async def encrypted(store: DendriteStore) -> DendriteStore:
    """A store with an encrypted room that a local user is in, and a user of another server."""
    await store.add_state_event(SECRET, "m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2"})
    await join(store, ANN)
    await join(store, EVE)
    return store


async def test_a_member_is_local_in_a_database_with_other_lower_case_letters_too(
    encrypted: DendriteStore, retention: Retention, connection: Connection
) -> None:
    """In Turkish the lower case of I is no i."""
    if not await connection.fetchval("SELECT to_regcollation('\"tr-x-icu\"') IS NOT NULL"):
        pytest.skip("this PostgreSQL has no ICU: set RETENTIOND_POSTGRES_BIN to one that has it")
    await connection.execute(
        'ALTER TABLE syncapi_current_room_state ALTER state_key TYPE text COLLATE "tr-x-icu"'
    )
    await join(encrypted, "@ann:INN.TEST")
    media = await upload(encrypted, "@ann:INN.TEST")
    assert await planned(retention, **UNREFERENCED, server_name="inn.test") == {media.uri: "encrypted"}


@pytest.mark.parametrize("content_type", ["image/jpeg", "video/mp4", "image/webp"])
async def test_an_encrypted_picture_or_a_sticker_of_any_type_is_not_unreferenced(
    encrypted: DendriteStore, retention: Retention, content_type: str
) -> None:
    picture = await upload(encrypted, content_type=content_type)
    keys = policy(match={"unreferenced": True, "content_type": content_type})
    assert await planned(retention, **keys) == {picture.uri: "encrypted"}
    report = await retention.one_pass(**keys)
    assert (report.removed_items, report.kept) == (0, {"encrypted": 1})


async def test_uploads_of_users_who_were_never_in_an_encrypted_room_are_judged_as_before(
    encrypted: DendriteStore, retention: Retention
) -> None:
    await join(encrypted, BOB, PLAIN)
    hidden, seen = await upload(encrypted), await upload(encrypted, BOB)
    assert await planned(retention, **UNREFERENCED) == {hidden.uri: "encrypted", seen.uri: "due"}
    await retention.one_pass(**UNREFERENCED)
    assert set(await encrypted.rows()) == {hidden.key}


async def test_an_upload_made_after_its_user_left_the_encrypted_room_is_judged_as_before(
    encrypted: DendriteStore, retention: Retention
) -> None:
    await join(encrypted, ANN, membership="leave", sent_at=days_ago(60))
    before, after = await upload(encrypted, days=61), await upload(encrypted, days=58)
    assert await planned(retention, **UNREFERENCED) == {before.uri: "encrypted", after.uri: "due"}


@pytest.mark.parametrize(
    "keys",
    [
        {"membership": "ban", "sender": EVE, "sent_at": 1},
        {"membership": "leave", "sender": EVE, "sent_at": days_ago(500)},
        {"membership": "leave", "sent_at": None},
        {"membership": "leave", "sent_at": "no number"},
        {"membership": "leave", "sent_at": 0},
        {"membership": "leave", "sent_at": 10**18},
        {"membership": "invite", "sender": EVE, "sent_at": days_ago(500)},
        {"membership": "knock", "sent_at": days_ago(500)},
    ],
)
async def test_a_leave_without_a_time_of_this_servers_clock_keeps_every_upload(
    encrypted: DendriteStore, retention: Retention, keys: dict[str, Any]
) -> None:
    await join(encrypted, ANN, **keys)
    media = await upload(encrypted)
    assert await planned(retention, **UNREFERENCED) == {media.uri: "encrypted"}


async def test_a_leave_that_claims_to_be_older_than_a_message_of_its_user_keeps_every_upload(
    encrypted: DendriteStore, retention: Retention
) -> None:
    """Whoever may kick a user names the time of the kick, too: `?ts=` made all that the user had sent expendable."""
    await encrypted.add_event(SECRET, {}, event_type="m.room.encrypted", sender=ANN, sent_at=days_ago(50))
    await join(encrypted, ANN, membership="leave", sender=BOB, sent_at=days_ago(500))
    sent, later = await upload(encrypted, days=50), await upload(encrypted, days=40)
    assert await planned(retention, **UNREFERENCED) == {sent.uri: "encrypted", later.uri: "encrypted"}
    await join(encrypted, ANN, membership="leave", sender=BOB, sent_at=days_ago(45))
    assert await planned(retention, **UNREFERENCED) == {sent.uri: "encrypted", later.uri: "due"}


async def test_an_upload_of_a_bridge_right_after_the_time_of_its_users_leave_stays(
    encrypted: DendriteStore, retention: Retention
) -> None:
    """The bridge was behind: it gives events the times of the other network, and uploads only then."""
    await encrypted.add_event(SECRET, {}, event_type="m.room.encrypted", sender=ANN, sent_at=days_ago(60.1))
    await join(encrypted, ANN, membership="leave", sent_at=days_ago(60))
    late = await upload(encrypted, days=59.5)
    assert await planned(retention, **UNREFERENCED) == {late.uri: "encrypted"}


async def test_the_last_encrypted_room_that_a_user_left_counts(
    encrypted: DendriteStore, retention: Retention
) -> None:
    other = "!other:there.test"
    await encrypted.add_state_event(other, "m.room.encryption", "", {})
    await join(encrypted, ANN, membership="leave", sent_at=days_ago(90))
    await join(encrypted, ANN, other, membership="leave", sent_at=days_ago(50))
    before, after = await upload(encrypted, days=60), await upload(encrypted, days=40)
    assert await planned(retention, **UNREFERENCED) == {before.uri: "encrypted", after.uri: "due"}


async def test_a_room_counts_as_encrypted_by_its_messages_when_its_state_does_not_say_so(
    store: DendriteStore, retention: Retention
) -> None:
    await join(store, ANN)
    await store.add_event(SECRET, {"ciphertext": "…"}, event_type="m.room.encrypted", sender=EVE)
    media = await upload(store)
    assert await planned(retention, **UNREFERENCED) == {media.uri: "encrypted"}


@pytest.mark.parametrize("event", [{}, "no JSON"])
async def test_encryption_that_was_redacted_or_does_not_parse_counts(
    store: DendriteStore, retention: Retention, event: dict[str, Any] | str
) -> None:
    await join(store, ANN)
    await store.add_state_event(SECRET, "m.room.encryption", "", event)
    media = await upload(store)
    assert await planned(retention, **UNREFERENCED) == {media.uri: "encrypted"}


@pytest.mark.parametrize("user", ["", "ann:here.test"])
async def test_an_upload_without_a_valid_user_may_be_anybodys(
    encrypted: DendriteStore, retention: Retention, user: str
) -> None:
    media = await upload(encrypted, user)
    assert await planned(retention, **UNREFERENCED) == {media.uri: "encrypted"}


async def test_media_of_other_servers_stay_unless_the_target_fetches_them_again(
    encrypted: DendriteStore, retention: Retention
) -> None:
    remote, local = await encrypted.add(), await upload(encrypted)
    assert await planned(retention, **UNREFERENCED) == {remote.uri: "encrypted", local.uri: "encrypted"}
    again = UNREFERENCED | {"encrypted_remote": "fetch_again"}
    assert await planned(retention, **again) == {remote.uri: "due", local.uri: "encrypted"}
    await retention.one_pass(**again)
    assert set(await encrypted.rows()) == {local.key}


async def test_without_a_local_member_no_encrypted_room_hides_anything(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add_state_event(SECRET, "m.room.encryption", "", {})
    await join(store, EVE)
    media = [await store.add(), await upload(store)]
    assert await planned(retention, **UNREFERENCED) == {one.uri: "due" for one in media}


async def test_a_policy_that_accepts_the_loss_takes_media_of_encrypted_rooms(
    encrypted: DendriteStore, retention: Retention
) -> None:
    media = [await encrypted.add(), await upload(encrypted)]
    keys = policy(delete_media_of_encrypted_rooms=True)
    assert await planned(retention, **keys) == {one.uri: "due" for one in media}
    assert (await retention.one_pass(**keys)).removed_items == 2


async def test_a_policy_that_accepts_the_loss_takes_encrypted_files_only_if_it_names_their_type(
    encrypted: DendriteStore, retention: Retention
) -> None:
    files = [
        await encrypted.add(content_type="application/octet-stream"),
        await upload(encrypted, content_type="application/octet-stream"),
    ]
    accepted = policy(delete_media_of_encrypted_rooms=True)
    assert await planned(retention, **accepted) == {file.uri: "encrypted" for file in files}
    assert (await retention.one_pass(**accepted)).kept == {"encrypted": 2}
    match = {"unreferenced": True, "content_type": "application/octet-stream"}
    assert await planned(retention, **policy(match=match)) == {file.uri: "encrypted" for file in files}
    named = policy(match=match, delete_media_of_encrypted_rooms=True)
    assert await planned(retention, **named) == {file.uri: "due" for file in files}
    assert (await retention.one_pass(**named)).removed_items == 2


async def test_media_of_messages_in_one_room_that_an_encrypted_room_may_show_too_do_not_match_the_room(
    encrypted: DendriteStore, retention: Retention
) -> None:
    media = await upload(encrypted)
    await encrypted.add_event(PLAIN, {"url": media.uri}, sender=ANN)
    keys = policy(match={"room": PLAIN})
    assert await planned(retention, **keys) == {media.uri: "encrypted"}
    assert await planned(
        retention, **policy(match={"room": PLAIN}, delete_media_of_encrypted_rooms=True)
    ) == {media.uri: "due"}


async def test_messages_in_keeps_what_an_encrypted_room_may_show_after_all_other_protections(
    encrypted: DendriteStore, retention: Retention
) -> None:
    remote, local, others, avatar = (
        await encrypted.add(),
        await upload(encrypted),
        await upload(encrypted, BOB),
        await upload(encrypted),
    )
    await encrypted.add_room(PLAIN, (True, 3))
    sent = await upload(encrypted)
    await encrypted.add_event(PLAIN, {"url": sent.uri})
    await encrypted.add_profile("ann", avatar.uri)
    # A glob means no local media.
    rules = [{"name": origin, "match": {"origin": origin}, "keep": "30d"} for origin in ("remote", "local")]
    keys = JOINED_MESSAGES | {"policies": rules, "protect": ["profile_avatars"]}
    expected = {
        remote.uri: "encrypted",
        local.uri: "encrypted",
        others.uri: "due",
        avatar.uri: "profile_avatars",
        sent.uri: "messages_in",
    }
    assert await planned(retention, **keys) == expected
    again = keys | {"encrypted_remote": "fetch_again"}
    assert await planned(retention, **again) == expected | {remote.uri: "due"}
    report = await retention.one_pass(**again)
    assert (report.removed_items, dict(report.kept)) == (
        2,
        {"encrypted": 1, "profile_avatars": 1, "messages_in": 1},
    )


async def test_plan_pass_and_check_count_what_encrypted_rooms_keep_and_what_goes_all_the_same(
    encrypted: DendriteStore, retention: Retention
) -> None:
    await encrypted.add()
    for _ in range(2):
        await upload(encrypted)
    kept = (
        "rule: 2 uploads to this server and 1 media of other servers stay, as an encrypted room may show them"
    )
    accepted = "rule: 0 uploads to this server and 1 media of other servers are due although"
    again = UNREFERENCED | {"encrypted_remote": "fetch_again"}
    plan, _ = await retention.one_plan(**UNREFERENCED)
    assert plan.remarks == [kept]
    async with retention.opened(**UNREFERENCED) as target:
        assert list((await target.check()).notes) == [kept]
    for report in ((await retention.one_plan(**again))[0], await retention.one_pass(**again)):
        assert report.remarks[0] == kept.replace("1 media", "0 media")
        assert report.remarks[1].startswith(accepted)


async def test_plan_and_pass_count_what_a_quota_takes_although_an_encrypted_room_may_show_it(
    encrypted: DendriteStore, retention: Retention
) -> None:
    for number in range(4):
        await upload(encrypted, days=100 - number, content=bytes([number]) * 1024)
    rule = {"match": {"unreferenced": True}, "max_size": "3KiB", "evict": "oldest", "low_water": 1.0}
    keys = {"policies": [], "quota": [rule | {"delete_media_of_encrypted_rooms": True}], "protect": []}
    # Of the four that may go only one has to.
    remark = "quota: 1 uploads to this server and 0 media of other servers are due although an encrypted room may show them"
    for report in ((await retention.one_plan(**keys))[0], await retention.one_pass(**keys)):
        assert report.removed["quota"].items == 1
        assert [line for line in report.remarks if line.startswith(remark)] == report.remarks


async def test_plan_and_pass_count_what_a_quota_leaves_as_an_encrypted_room_may_show_it(
    encrypted: DendriteStore, retention: Retention
) -> None:
    await upload(encrypted, content=bytes(1024))
    for number in range(1, 3):
        await encrypted.add(content=bytes([number]) * 1024)
    rule = {"match": {"unreferenced": True}, "max_size": "1KiB", "evict": "oldest", "low_water": 1.0}
    keys = {"policies": [], "quota": [rule], "protect": [], "encrypted_remote": "fetch_again"}
    for report in ((await retention.one_plan(**keys))[0], await retention.one_pass(**keys)):
        assert report.removed["quota"].items == 1
        stay, due = report.remarks
        assert stay.startswith("quota: 1 uploads to this server and 0 media of other servers stay")
        assert due.startswith("quota: 0 uploads to this server and 1 media of other servers are due although")


async def test_an_explanation_does_not_claim_to_know_what_an_encrypted_room_shows(
    encrypted: DendriteStore, retention: Retention
) -> None:
    hidden, seen = await upload(encrypted), await upload(encrypted, BOB)
    async with retention.opened(**UNREFERENCED) as target:
        story = await target.explain(hidden.uri, NullProgress())
        assert (story.encrypted, [policy.mismatches for policy in story.policies]) == (True, [("encrypted",)])
        assert (await target.explain(seen.uri, NullProgress())).encrypted is False
    async with retention.opened() as target:
        # Nothing asks, and so nothing was read.
        assert (await target.explain(hidden.uri, NullProgress())).encrypted is None


async def test_members_may_lie_in_a_database_of_their_own(
    store: DendriteStore, retention: Retention, postgres: DatabaseServer, media_path: Path
) -> None:
    elsewhere = await postgres.clone()
    connection: Connection = await asyncpg.connect(elsewhere)
    try:
        sync = DendriteStore(connection, media_path)
        await sync.add_state_event(SECRET, "m.room.encryption", "", {})
        await join(sync, ANN)
    finally:
        await connection.close()
    hidden, seen = await upload(store), await upload(store, BOB)
    keys = UNREFERENCED | {"databases": {"sync_api": elsewhere}}
    assert await planned(retention, **keys) == {hidden.uri: "encrypted", seen.uri: "due"}
    report = await retention.one_pass(**keys)
    assert (report.removed_items, dict(report.kept)) == (1, {"encrypted": 1})
    await postgres.drop(elsewhere)


async def test_released_media_are_still_known_to_be_of_encrypted_rooms(
    encrypted: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await upload(encrypted)
    await retention.one_pass(**policy(match={"origin": "local"}))
    assert media.key not in await encrypted.rows()
    found = await mentions(retention, connection, "retentiond.released_media")
    assert found == {media.key: {"encrypted"}}


async def test_the_copy_of_references_does_not_grow_with_the_media_that_encrypted_rooms_may_show(
    encrypted: DendriteStore, retention: Retention, connection: Connection
) -> None:
    for _ in range(5):
        await encrypted.add()
        await upload(encrypted)
    assert (await retention.one_pass(**UNREFERENCED)).kept == {"encrypted": 10}
    assert await connection.fetchval("SELECT count(*) FROM retentiond.reference") == 0
    assert await connection.fetchval("SELECT count(DISTINCT user_id) FROM retentiond.reference_member") == 1


async def test_an_upload_that_came_after_the_copy_of_references_may_be_shown_as_well(
    encrypted: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await retention.one_pass(**UNREFERENCED)
    media = await upload(encrypted)
    found = await mentions(retention, connection, "mediaapi_media_repository")
    assert found == {media.key: {"encrypted"}}
    assert await connection.fetchval("SELECT max(copy_id) FROM retentiond.reference_copy") == 1
