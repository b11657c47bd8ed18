"""What profiles, room state and account data refer to is never purged, however it is written."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.engine.target import PassOptions
from retentiond.model.protections import PROTECT
from retentiond.targets.dendrite_media.quarantine import removal
from retentiond.targets.dendrite_media.surveys.assess import assess
from retentiond.targets.dendrite_media.surveys.survey import Surveyor
from tests.support.media_target import let_pass
from tests.support.store import COMMON_THUMBNAILS, DendriteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]

ROOM = "!room:there.test"
ALL_AGES: dict[str, Any] = {
    "policies": [
        {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
        {"name": "local", "match": {"origin": "local"}, "keep": "30d"},
    ]
}


AVATAR = {"type": "m.room.avatar", "state_key": "", "sender": "@eve:there.test"}
INVITER = {"type": "m.room.member", "state_key": "@eve:there.test", "sender": "@eve:there.test"}
MENTIONED_BY = {
    "profile_avatars": lambda store, uri: store.add_profile("ann", uri),
    "room_state": lambda store, uri: store.add_state_event(ROOM, "m.room.avatar", "", {"url": uri}),
    "account_data": lambda store, uri: store.add_account_data("ann", "emoji", {"cat": uri}),
    "invites": lambda store, uri: store.add_invite(
        ROOM, "@ann:here.test", AVATAR | {"content": {"url": uri}}
    ),
}


@pytest.mark.parametrize("name", PROTECT)
async def test_each_protection_there_is_keeps_what_its_source_mentions_and_nothing_when_left_out(
    store: DendriteStore, retention: Retention, name: str
) -> None:
    """A protection that the configuration accepts and nothing reads would delete what it should keep."""
    mentioned, _ = await store.add(), await store.add()
    await MENTIONED_BY[name](store, mentioned.uri)
    without = [other for other in PROTECT if other != name]
    assert (await retention.one_plan(protect=without))[0].removed_items == 2
    # Alone, too: the others must not be the reason for which its statement yields anything.
    assert (await retention.one_plan(protect=[name]))[0].kept == {name: 1}
    report = await retention.one_pass()
    assert dict(report.kept) == {name: 1}
    assert set(await store.rows()) == {mentioned.key}


async def test_a_pending_invite_keeps_the_avatars_of_the_room_and_of_the_inviter(
    store: DendriteStore, retention: Retention
) -> None:
    room, inviter, old, broken = [await store.add() for _ in range(4)]
    state = [AVATAR | {"content": {"url": room.uri}}, INVITER | {"content": {"avatar_url": inviter.uri}}]
    await store.add_invite(ROOM, "@ann:here.test", *state)
    await store.add_invite(
        "!old:there.test", "@ann:here.test", AVATAR | {"content": {"url": old.uri}}, answered=True
    )
    await store.add_invite("!b:there.test", "@ann:here.test", event=f'{{"unsigned": "{broken.uri}')
    report = await retention.one_pass()
    assert (report.removed_items, dict(report.kept)) == (1, {"invites": 3})
    assert old.key not in await store.rows()


async def test_media_that_only_a_pending_invite_shows_are_not_unreferenced(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_invite(ROOM, "@ann:here.test", AVATAR | {"content": {"url": media.uri}})
    policies = [{"name": "nowhere", "match": {"unreferenced": True}, "keep": "30d"}]
    report = await retention.one_pass(policies=policies, protect=[])
    assert (report.removed_items, dict(report.kept)) == (0, {"no_policy": 1})


async def test_each_protection_keeps_what_it_names_with_or_without_local_policies(
    store: DendriteStore, retention: Retention
) -> None:
    """Elsewhere remote avatars were promised to stay, and were looked for only with --local, and only in profiles."""
    alice: dict[str, Any] = {"origin": "here.test", "user_id": "@alice:here.test"}
    local, remote, member, own_member = [await store.add(**given) for given in (alice, {}, {}, alice)]
    room, emoji, sticker, personal, goes = [await store.add() for _ in range(5)]
    await store.add_profile("alice", local.uri)
    await store.add_profile("bob", remote.uri)
    await store.add_state_event(ROOM, "m.room.member", "@eve:there.test", {"avatar_url": member.uri})
    await store.add_state_event(ROOM, "m.room.member", "@alice:here.test", {"avatar_url": own_member.uri})
    await store.add_state_event(ROOM, "m.room.avatar", "", {"url": room.uri})
    pack = {"images": {"cat": {"url": emoji.uri, "info": {"thumbnail_url": sticker.uri}}}}
    await store.add_state_event(ROOM, "im.ponies.room_emotes", "pack", pack)
    await store.add_account_data("alice", "im.ponies.user_emotes", {"images": {personal.uri: [personal.uri]}})
    plan, _ = await retention.one_plan(**ALL_AGES)
    report = await retention.one_pass(**ALL_AGES)
    assert set(await store.rows()) == {
        media.key for media in (local, remote, member, own_member, room, emoji, sticker, personal)
    }
    assert report.kept == plan.kept == {"profile_avatars": 4, "room_state": 3, "account_data": 1}
    assert goes.key not in await store.rows()


async def test_of_several_reasons_the_first_in_order_is_told(
    store: DendriteStore, retention: Retention
) -> None:
    avatar, emoji = await store.add(), await store.add()
    for media in (avatar, emoji):
        await store.add_account_data("alice", f"of {media.key}", {"url": media.uri})
        await store.add_state_event(ROOM, "emotes", media.key.media_id, {"url": media.uri})
    await store.add_profile("alice", avatar.uri)
    protect = ["account_data", "room_state", "profile_avatars"]
    report = await retention.one_pass(protect=protect)
    assert report.kept == {"profile_avatars": 1, "room_state": 1}


async def test_what_is_not_protected_by_the_configuration_goes(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    avatar, emoji = await store.add(), await store.add()
    await store.add_profile("alice", avatar.uri)
    await store.add_state_event(ROOM, "emotes", "", {"url": emoji.uri})
    # What is not asked need not be there.
    await connection.execute("DROP TABLE userapi_account_datas")
    await retention.one_pass(protect=["profile_avatars"])
    assert set(await store.rows()) == {avatar.key}
    await connection.execute("DROP TABLE userapi_profiles")
    await retention.one_pass(protect=[])
    assert await store.rows() == {}


async def test_the_previous_content_of_an_event_protects_nothing(
    store: DendriteStore, retention: Retention
) -> None:
    """Elsewhere a search in the event's whole text kept every avatar that was ever replaced."""
    old, new = await store.add(), await store.add()
    await store.add_state_event(
        ROOM, "m.room.member", "@eve:there.test", {"avatar_url": new.uri}, previous={"avatar_url": old.uri}
    )
    await store.add_state_event(ROOM, "m.room.avatar", "", {"url": new.uri}, previous={"url": old.uri})
    await retention.one_pass()
    assert set(await store.rows()) == {new.key}


async def test_what_does_not_parse_keeps_whatever_it_mentions(
    store: DendriteStore, retention: Retention
) -> None:
    texts = [
        "no JSON: {uri} }}",
        '{{"content": "{uri}"}}',
        '{{"content": ["{uri}"], "type": 1}}',
        '["{uri}"]',
        '{{"content": {{"url": "{uri}", "bad": "\\u0000"}}}}',
        '{{"content": {{"url": "{escaped}"}}, "bad": "\\u0000"}}',
    ]
    mentioned = set()
    for event_type in ("m.room.member", "m.room.avatar"):
        for number, text in enumerate(texts):
            media = await store.add()
            mentioned.add(media.key)
            escaped = media.uri.replace("/", "\\/")
            event = text.format(uri=media.uri, escaped=escaped)
            await store.add_state_event(ROOM, event_type, str(number), event)
    goes = await store.add()
    await retention.one_pass()
    assert set(await store.rows()) == mentioned
    assert goes.key not in mentioned


async def test_account_data_that_does_not_parse_keeps_what_it_mentions(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_account_data("alice", "broken", f"{{ {media.uri}")
    await retention.one_pass()
    assert set(await store.rows()) == {media.key}


async def test_escaped_references_protect_like_plain_ones(store: DendriteStore, retention: Retention) -> None:
    def unicode_escaped(text: str) -> str:
        return "".join(f"\\u{ord(char):04x}" for char in text)

    slashes, in_member, in_state, in_account = [await store.add() for _ in range(4)]
    as_json = json.dumps({"content": {"url": "HERE"}})
    written = {
        ("m.room.avatar", ""): as_json.replace("HERE", slashes.uri.replace("/", "\\/")),
        ("emotes", ""): as_json.replace("HERE", unicode_escaped(in_state.uri)),
        ("m.room.member", "@eve:there.test"): as_json.replace('"url"', '"avatar_url"').replace(
            "HERE", unicode_escaped(in_member.uri)
        ),
    }
    for (event_type, state_key), text in written.items():
        await store.add_state_event(ROOM, event_type, state_key, text)
    await store.add_account_data("alice", "emotes", '{"url": "' + unicode_escaped(in_account.uri) + '"}')
    await retention.one_pass()
    assert set(await store.rows()) == {media.key for media in (slashes, in_member, in_state, in_account)}


async def test_a_reference_is_found_in_whatever_surrounds_it(
    store: DendriteStore, retention: Retention
) -> None:
    mentions = {
        ("abc", "there.test"): "mxc://there.test/abc?width=1#x",
        ("def", "there.test"): "see mxc://there.test/def, and mxc://there.test/other",
        ("ghi", "there.test"): "(mxc://there.test/ghi)",
        ("jkl", "there.test"): "in italics: _mxc://there.test/jkl_",
        ("a b/c?d", "there.test"): "mxc://there.test/a b/c?d",
        ("abc", "[2001:db8::7]:8448"): "mxc://[2001:db8::7]:8448/abc",
        ('q"uo\\te', "there.test"): 'mxc://there.test/q"uo\\te',
        ("line\nbreak", "there.test"): "mxc://there.test/line\nbreak",
    }
    for (media_id, origin), text in mentions.items():
        await store.add(media_id=media_id, origin=origin)
        await store.add_state_event(ROOM, "emotes", text, {"text": text})
    report = await retention.one_pass()
    assert set(await store.rows()) == set(mentions)
    assert report.kept == {"room_state": len(mentions)}


async def test_a_reference_means_one_origin_only(store: DendriteStore, retention: Retention) -> None:
    meant = await store.add(media_id="same", origin="there.test")
    await store.add(media_id="same", origin="elsewhere.test")
    await store.add_profile("alice", meant.uri)
    await retention.one_pass()
    assert set(await store.rows()) == {meant.key}


async def test_components_may_have_databases_of_their_own(
    store: DendriteStore,
    retention: Retention,
    media_path: Path,
    postgres: DatabaseServer,
    connection: Connection,
) -> None:
    avatar, emoji, goes = [await store.add() for _ in range(3)]
    sync_dsn, user_dsn = await postgres.clone(), await postgres.clone()
    try:
        for dsn in (sync_dsn, user_dsn):
            other = await asyncpg.connect(dsn)
            elsewhere = DendriteStore(other, media_path)
            if dsn == sync_dsn:
                await elsewhere.add_state_event(ROOM, "emotes", "", {"url": emoji.uri})
            else:
                await elsewhere.add_profile("alice", avatar.uri)
            await other.close()
        databases = {"sync_api": sync_dsn, "user_api": user_dsn}
        for table in ("userapi_profiles", "userapi_account_datas", "syncapi_current_room_state"):
            await connection.execute(f"DROP TABLE {table}")
        plan, _ = await retention.one_plan(databases=databases)
        report = await retention.one_pass(databases=databases)
        assert set(await store.rows()) == {avatar.key, emoji.key}
        assert plan.kept == report.kept == {"profile_avatars": 1, "room_state": 1}
        await postgres.drop(user_dsn)
        await store.add()
        report = await retention.one_pass(databases=databases)
        assert report.refused is not None
        assert report.refused.limit == "protection_unreadable"
        assert len(await store.rows()) == 3
    finally:
        await postgres.drop(sync_dsn)
    assert goes.key not in await store.rows()


async def test_what_becomes_protected_between_survey_and_release_stays(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media = await store.add()

    async def protect_then_assess(*arguments: Any) -> Any:
        await store.add_profile("alice", media.uri)
        # The copy that the survey went by is too old by now.
        await let_pass(connection, timedelta(minutes=11))
        return await assess(*arguments)

    monkeypatch.setattr(removal, "assess", protect_then_assess)
    report = await retention.one_pass()
    assert set(await store.rows()) == {media.key}
    assert report.kept == {"changed": 1}


async def test_what_becomes_protected_in_quarantine_comes_back_by_the_next_hourly_sweep(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    before, rows, thumbnails = store.files(), await store.rows(), await store.thumbnail_rows()
    await retention.one_pass()
    await store.add_profile("alice", media.uri)
    async with retention.opened() as target:
        await let_pass(connection, timedelta(minutes=50))
        assert (await target.sweep(everything=True)).restored == 0
        await let_pass(connection, timedelta(minutes=11))
        assert (await target.sweep(everything=False)).restored == 0
        assert (await target.sweep(everything=True)).restored == 1
    assert (await store.rows(), await store.thumbnail_rows(), store.files()) == (rows, thumbnails, before)
    # It came back for its protection, and stays only as long as that holds.
    assert await connection.fetchval("SELECT count(*) FROM retentiond.restored") == 0
    assert (await retention.one_pass()).kept == {"profile_avatars": 1}


async def test_what_becomes_protected_just_before_its_purge_comes_back(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    goes = await store.add()
    before, rows = store.files(), await store.rows()
    keys: dict[str, Any] = {"grace": "0s", "settle": "10m"}
    await retention.one_pass(**keys)
    async with retention.opened(**keys) as target:
        # A sweep has looked; nobody wants them, and settle and grace are over.
        await target.sweep(everything=True)
        await let_pass(connection, timedelta(minutes=11))
        await store.add_profile("alice", media.uri)
        swept = await target.sweep(everything=False)
    assert (swept.restored, swept.purged) == (1, 1)
    assert await store.rows() == {media.key: rows[media.key]}
    kept = {path: content for path, content in before.items() if media.base64hash[2:] in path}
    assert store.files() == kept
    assert goes.key not in await store.rows()


async def test_a_source_that_cannot_be_read_at_the_purge_keeps_the_quarantine(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    keys: dict[str, Any] = {"grace": "0s", "settle": "10m"}
    await retention.one_pass(**keys)
    async with retention.opened(**keys) as target:
        await target.sweep(everything=True)
        await let_pass(connection, timedelta(minutes=11))
        await connection.execute("ALTER TABLE userapi_account_datas RENAME TO gone")
        assert (await target.sweep(everything=True)).purged == 0
        await connection.execute("ALTER TABLE gone RENAME TO userapi_account_datas")
        assert (await target.sweep(everything=True)).purged == 1


async def test_a_new_copy_does_not_take_the_old_one_from_a_pass_that_relies_on_it(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media = await store.add()
    await store.add_profile("alice", media.uri)
    keep = Surveyor.keep

    async def keep_beside_a_purge(self: Surveyor, *arguments: Any, **keywords: Any) -> None:
        async with retention.opened() as other:
            # It asks for a copy that begins now, and drops the others.
            await connection.execute(
                "INSERT INTO retentiond.entry (pass_id, hash, kind, state, files, bytes, settle,"
                " renamed_at, looked_at) VALUES (0, repeat('A', 43), 'blob', 'quarantined', 1, 1, '0', now(), now())"
            )
            await other.end_grace()
        await keep(self, *arguments, **keywords)

    await retention.one_pass()
    monkeypatch.setattr(Surveyor, "keep", keep_beside_a_purge)
    report = await retention.one_pass()
    assert report.kept == {"profile_avatars": 1}
    assert set(await store.rows()) == {media.key}


async def test_what_is_kept_for_its_restore_is_told_so_before_protections(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media, both = await store.add(), await store.add()
    await store.add_profile("alice", both.uri)
    await retention.one_pass(policies=[])
    await connection.executemany(
        "INSERT INTO retentiond.restored VALUES ($1, $2, NULL, now(), 'ann', '')", [media.key, both.key]
    )
    report = await retention.one_pass()
    assert report.kept == {"restored": 2}
    await connection.execute("UPDATE retentiond.restored SET until = now() - interval '1 second'")
    assert (await retention.one_pass()).kept == {"profile_avatars": 1}
    async with retention.opened() as target:
        assert (await target.run_pass(PassOptions("run"))).removed_items == 0
