"""`delete`: what somebody asked for by hand goes through the same protocol, with the same way back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import asyncpg
import pytest

from retentiond.engine.target import NullProgress, PassOptions, Selection
from retentiond.ledger.lease import hold_lease
from retentiond.model.errors import BusyError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.model.request import Request
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.model.report import PassReport
    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention
    from tests.support.store import StoredMedia

    Connection = asyncpg.Connection[asyncpg.Record]

ALICE = "@alice:here.test"


async def delete(retention: Retention, request: Request, **keys: Any) -> PassReport:
    async with retention.opened(**keys) as target:
        return await target.run_pass(PassOptions(command="run", request=request))


def all_paths(media_path: Path) -> list[str]:
    """What lies there, ours too."""
    return sorted(str(path) for path in media_path.rglob("*"))


async def left(store: DendriteStore, **media: StoredMedia) -> set[str]:
    """The names of those media that still have a row."""
    rows = await store.rows()
    return {name for name, one in media.items() if one.key in rows}


async def test_a_medium_goes_whatever_its_age_and_only_by_its_whole_key(
    retention: Retention, store: DendriteStore
) -> None:
    young = await store.add(media_id="one", age=timedelta(0), thumbnails=[(32, 32, "crop")])
    undated = await store.add(media_id="zero", created_ms=0)
    namesake = await store.add(media_id="one", origin="other.test")
    assert (await delete(retention, Request("media", young.uri))).removed_items == 1
    assert (await delete(retention, Request("media", undated.uri))).removed_items == 1
    assert await left(store, young=young, undated=undated, namesake=namesake) == {"namesake"}
    assert await store.orphan_files() == []
    assert await store.orphan_thumbnail_rows() == []
    assert await store.broken_references() == []


async def test_an_origin_goes_with_all_its_media_and_no_others(
    retention: Retention, store: DendriteStore
) -> None:
    theirs = await store.add(origin="there.test")
    capitals = await store.add(origin="There.Test")
    port = await store.add(origin="there.test:8448")
    ours = await store.add(origin="here.test", user_id=ALICE)
    report = await delete(retention, Request("origin", "there.test"))
    assert report.removed_items == 2
    assert await left(store, theirs=theirs, capitals=capitals, port=port, ours=ours) == {"port", "ours"}


async def test_a_content_that_another_row_bears_stays_for_it(
    retention: Retention, store: DendriteStore
) -> None:
    asked = await store.add(content=b"same", origin="there.test")
    other = await store.add(content=b"same", origin="other.test")
    report = await delete(retention, Request("media", asked.uri))
    assert (report.removed_items, report.removed_bytes, report.shared_blobs) == (1, 0, 1)
    assert await left(store, asked=asked, other=other) == {"other"}
    assert await store.broken_references() == []


async def test_a_user_goes_with_uploads_and_with_what_events_and_profile_refer_to(
    retention: Retention, store: DendriteStore
) -> None:
    upload = await store.add(origin="here.test", user_id=ALICE)
    sent = await store.add()
    html = await store.add()
    emoji = await store.add()
    avatar = await store.add()
    others = await store.add(origin="here.test", user_id="@bob:here.test")
    replaced = await store.add()
    await store.add_event("!r:here.test", {"url": sent.uri}, sender=ALICE)
    await store.add_event("!r:here.test", {"formatted_body": f'<img src="{html.uri}">'}, sender=ALICE)
    await store.add_event("!r:here.test", {"url": others.uri}, sender="@bob:here.test")
    await store.add_state_event(
        "!r:here.test", "im.ponies.room_emotes", "", {"images": {"a": {"url": emoji.uri}}},
        sender=ALICE, previous={"url": replaced.uri},
    )  # fmt: skip
    await store.add_profile("alice", avatar.uri)
    request = Request("user", ALICE, even_protected=True)
    report = await delete(retention, request)
    assert report.removed_items == 5
    named = {"upload": upload, "sent": sent, "html": html, "emoji": emoji, "avatar": avatar}
    assert await left(store, **named, others=others, replaced=replaced) == {"others", "replaced"}


async def test_a_room_goes_with_what_no_other_room_refers_to(
    retention: Retention, store: DendriteStore
) -> None:
    only, in_both, in_state, unparsed, linked, elsewhere = [await store.add() for _ in range(6)]
    await store.add_event(
        "!gone:here.test", {"url": only.uri, "info": {"thumbnail_url": in_both.uri}}, sender=ALICE
    )
    await store.add_event("!gone:here.test", {"url": in_state.uri, "other": unparsed.uri}, sender=ALICE)
    await store.add_event("!gone:here.test", {"url": linked.uri}, sender=ALICE)
    link = f"https://x.test/?a={quote(linked.uri, safe='')}"
    await store.add_event("!kept:here.test", {"body": link}, sender=ALICE)
    await store.add_event("!kept:here.test", {"url": in_both.uri}, sender=ALICE)
    await store.add_state_event("!kept:here.test", "m.room.topic", "", {"topic": f"see {in_state.uri}"})
    await store.add_event("!kept:here.test", f"no json, but {unparsed.uri}", sender=ALICE)
    await store.add_event("!kept:here.test", {"url": elsewhere.uri}, sender=ALICE)
    report = await delete(retention, Request("room", "!gone:here.test", even_protected=True))
    assert report.removed_items == 1
    named = {"in_both": in_both, "in_state": in_state, "unparsed": unparsed, "linked": linked}
    named["elsewhere"] = elsewhere
    assert await left(store, only=only, **named) == set(named)


async def test_an_encrypted_room_is_told_as_such(retention: Retention, store: DendriteStore) -> None:
    await store.add()
    await store.add_state_event(
        "!r:here.test", "m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2"}
    )
    async with retention.opened() as target:
        planned = await target.plan(None, NullProgress(), Request("room", "!r:here.test"))
    assert planned.remarks == [
        "the room is encrypted: references in its messages cannot be read, and their media stay"
    ]


@pytest.mark.parametrize("kind", ["user", "room"])
async def test_components_with_databases_of_their_own_are_asked_there(
    retention: Retention, media_path: Path, store: DendriteStore, postgres: DatabaseServer, kind: Any
) -> None:
    elsewhere = await postgres.clone()
    try:
        there = await asyncpg.connect(elsewhere)
        try:
            their_store = DendriteStore(there, media_path)
            sent, in_both, avatar = [await store.add() for _ in range(3)]
            await their_store.add_event("!r:here.test", {"a": sent.uri, "b": in_both.uri}, sender=ALICE)
            await their_store.add_event("!kept:here.test", {"url": in_both.uri})
            await their_store.add_profile("alice", avatar.uri)
            # What a component left behind where it was before says nothing.
            await store.add_event("!r:here.test", {"url": avatar.uri}, sender="@bob:here.test")
        finally:
            await there.close()
        request_ = Request(kind, ALICE if kind == "user" else "!r:here.test", even_protected=True)
        own = {"sync_api": elsewhere, "user_api": elsewhere}
        report = await delete(retention, request_, databases=own)
        assert report.refused is None
        gone = {"sent", "in_both", "avatar"} - await left(store, sent=sent, in_both=in_both, avatar=avatar)
        assert gone == ({"sent", "in_both", "avatar"} if kind == "user" else {"sent"})
    finally:
        await postgres.drop(elsewhere)


@pytest.mark.parametrize(
    ("even_protected", "limit"), [(True, "request_unreadable"), (False, "protection_unreadable")]
)
async def test_what_cannot_be_read_of_a_user_refuses_the_request(
    retention: Retention, store: DendriteStore, connection: Connection, even_protected: bool, limit: str
) -> None:
    """What encrypted rooms may show is read first, unless the request goes over protections."""
    await store.add(origin="here.test", user_id=ALICE)
    await connection.execute("ALTER TABLE syncapi_output_room_events RENAME TO gone")
    report = await delete(retention, Request("user", ALICE, even_protected=even_protected))
    assert report.refused is not None
    assert report.refused.limit == limit
    assert len(await store.rows()) == 1


@pytest.mark.parametrize("request_", [Request("user", ALICE), Request("room", "!r:here.test")])
async def test_what_an_event_might_only_mean_is_not_deleted(
    retention: Retention, store: DendriteStore, request_: Request
) -> None:
    """An ID that another begins with, a text that is no JSON, and the key beside the content mean nothing."""
    short = await store.add(media_id="abc")
    await store.add_event("!r:here.test", {"url": "mxc://there.test/abc.def"}, sender=ALICE)
    await store.add_event("!r:here.test", f"no json: {short.uri}", sender=ALICE)
    beside = json.dumps({"unsigned": {"url": short.uri}, "content": {}})
    await store.add_event("!r:here.test", beside, sender=ALICE)
    await store.add_profile("alice", "mxc://there.test/abc.def")
    report = await delete(retention, replace(request_, even_protected=True))
    assert report.removed_items == 0
    assert await left(store, short=short) == {"short"}


async def test_a_protection_brings_back_what_a_pass_took_and_not_what_went_in_spite_of_it(
    retention: Retention, store: DendriteStore
) -> None:
    asked = await store.add(content=b"same", age=timedelta(0))
    passed = await store.add(content=b"same", origin="other.test")
    await store.add_profile("alice", asked.uri)
    async with retention.opened(settle="0s") as target:
        await target.run_pass(PassOptions("run", request=Request("media", asked.uri, even_protected=True)))
        await target.run_pass(PassOptions("run"))
    assert await store.rows() == {}
    await store.add_profile("bob", passed.uri)
    async with retention.opened(settle="0s") as target:
        await target.end_grace()
    assert await left(store, asked=asked, passed=passed) == {"passed"}
    assert await store.broken_references() == []


@pytest.mark.parametrize("request_kind", ["media", "origin"])
async def test_a_protection_stops_it_unless_it_goes_even_over_that(
    retention: Retention, store: DendriteStore, request_kind: Any
) -> None:
    avatar = await store.add()
    await store.add_profile("alice", avatar.uri)
    name = avatar.uri if request_kind == "media" else "there.test"
    report = await delete(retention, Request(request_kind, name))
    assert (report.removed_items, dict(report.kept)) == (0, {"profile_avatars": 1})
    report = await delete(retention, Request(request_kind, name, even_protected=True))
    assert report.removed_items == 1
    assert await store.rows() == {}


async def test_a_hold_stops_it_also_where_it_goes_over_protections(
    retention: Retention, store: DendriteStore
) -> None:
    held, other = await store.add(), await store.add()
    async with retention.opened() as target:
        await target.holds.add(HoldRequest(HoldSubject("media", held.uri)))
        request = Request("origin", "there.test", even_protected=True)
        planned = await target.plan(None, NullProgress(), request)
    report = await delete(retention, request)
    assert (dict(planned.kept), dict(report.kept)) == ({"hold": 1}, {"hold": 1})
    assert await left(store, held=held, other=other) == {"held"}


async def test_a_hold_that_is_put_on_afterwards_brings_it_back(
    retention: Retention, store: DendriteStore
) -> None:
    media = await store.add()
    await store.add_profile("alice", media.uri)
    await delete(retention, Request("media", media.uri, even_protected=True))
    async with retention.opened() as target:
        await target.holds.add(HoldRequest(HoldSubject("media", media.uri)))
        await target.sweep(everything=True)
    assert await left(store, media=media) == {"media"}
    assert await store.broken_references() == []


async def test_what_went_in_spite_of_a_protection_is_not_brought_back_by_the_purge(
    retention: Retention, media_path: Path, store: DendriteStore
) -> None:
    avatar = await store.add()
    await store.add_profile("alice", avatar.uri)
    request = Request("media", avatar.uri, even_protected=True)
    async with retention.opened(grace="0s", settle="0s") as target:
        await target.run_pass(PassOptions("delete", request=request))
    assert await store.rows() == {}
    assert not [path for path in all_paths(media_path) if path.endswith("/file")]


async def test_its_own_sweep_does_not_purge_what_a_protection_wants_of_an_earlier_pass(
    retention: Retention, store: DendriteStore
) -> None:
    """Only what was asked for goes in spite of protections."""
    avatar, asked = await store.add(), await store.add(age=timedelta(0))
    keys = {"grace": "0s", "settle": "0s"}
    async with retention.opened(**keys) as target:
        await target.run_pass(PassOptions("run"))
        await store.add_profile("alice", avatar.uri)
        await target.run_pass(PassOptions("delete", request=Request("media", asked.uri, even_protected=True)))
    assert await left(store, avatar=avatar, asked=asked) == {"avatar"}


async def test_a_pass_brings_back_by_its_number_what_was_deleted(
    retention: Retention, store: DendriteStore
) -> None:
    await store.add(thumbnails=[(32, 32, "crop")])
    before = await store.rows(), await store.thumbnail_rows(), store.files()
    report = await delete(retention, Request("origin", "there.test"))
    assert await store.rows() == {}
    async with retention.opened() as target:
        await target.restore(Selection(pass_id=report.pass_id))
    assert (await store.rows(), await store.thumbnail_rows(), store.files()) == before


async def test_what_was_restored_is_kept_from_it(retention: Retention, store: DendriteStore) -> None:
    await store.add()
    await delete(retention, Request("origin", "there.test"))
    async with retention.opened() as target:
        await target.restore(Selection())
    report = await delete(retention, Request("origin", "there.test", even_protected=True))
    assert (report.removed_items, dict(report.kept)) == (0, {"restored": 1})


async def test_the_plan_of_it_changes_nothing_and_says_the_same(
    retention: Retention, media_path: Path, store: DendriteStore, connection: Connection
) -> None:
    avatar = await store.add()
    await store.add(thumbnails=[(32, 32, "crop")])
    await store.add_profile("alice", avatar.uri)
    before = await store.rows(), store.files(), all_paths(media_path)
    request = Request("origin", "there.test")
    async with retention.opened() as target:
        planned = await target.plan(None, NullProgress(), request)
    assert (await store.rows(), store.files(), all_paths(media_path)) == before
    assert await connection.fetchval("SELECT to_regnamespace('retentiond')") is None
    done = await delete(retention, request)
    assert (planned.removed, planned.kept) == (done.removed, done.kept)
    assert done.removed_items == 1


async def test_no_limit_is_held_against_it_but_a_wrong_store_is(
    retention: Retention, media_path: Path, store: DendriteStore
) -> None:
    media = [await store.add() for _ in range(2)]
    limits = {"max_share": 0.1, "max_items": 1}
    report = await delete(retention, Request("media", media[0].uri), limits=limits)
    assert report.removed_items == 1
    (media_path / ".retentiond" / "store").unlink()
    report = await delete(retention, Request("media", media[1].uri), limits=limits)
    assert report.refused is not None
    assert (report.refused.limit, await left(store, media=media[1])) == ("another_store", {"media"})


async def test_users_of_another_server_refuse_it(retention: Retention, store: DendriteStore) -> None:
    media = await store.add()
    await store.add(origin="here.test", user_id="@alice:elsewhere.test")
    report = await delete(retention, Request("media", media.uri))
    assert report.refused is not None
    assert report.refused.limit == "foreign_users"
    assert len(await store.rows()) == 2


async def test_beside_a_pass_that_is_under_way_it_is_busy(
    retention: Retention, database: str, store: DendriteStore
) -> None:
    media = await store.add(age=timedelta(0))
    async with retention.opened() as target:
        await target.run_pass(PassOptions("run"))
        async with hold_lease(database, "once", patience=0.0):
            with pytest.raises(BusyError, match="once on"):
                await target.run_pass(
                    PassOptions("delete", request=Request("media", media.uri), patience=0.0)
                )
    assert await left(store, media=media) == {"media"}


async def test_the_records_say_who_asked_for_what(retention: Retention, store: DendriteStore) -> None:
    media = await store.add()
    await delete(retention, Request("media", media.uri))
    async with retention.opened() as target:
        began, released, *_ = [record async for record in target.records()]
    assert began["body"]["rules"]["request"] == {"media": media.uri, "even_protected": False}
    assert began["body"]["by"]
    assert released["body"]["items"][0][0] == media.uri
