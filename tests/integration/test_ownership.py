"""A stranger's mention is not ownership: an attacker's room mentions an upload of another local user, and it stays."""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from retentiond.engine.target import NullProgress, PassOptions
from retentiond.model.request import Request
from retentiond.targets.dendrite_media.passes import steps
from retentiond.targets.dendrite_media.quarantine import release

if TYPE_CHECKING:
    from retentiond.model.report import PassReport
    from retentiond.model.request import RequestKind
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

ANN, EVE = "@ann:here.test", "@eve:here.test"
LEFT, JOINED = "!left:there.test", "!joined:there.test"
LOCAL_LEFT, LOCAL_JOINED = (True, 1), (True, 3)


def by_room(room: str) -> dict[str, Any]:
    return {"policies": [{"name": "rooms", "match": {"room": room}, "keep": "30d"}], "protect": []}


@pytest.mark.parametrize("room", ["no_local_members", "upgraded", LEFT])
async def test_a_pass_by_rooms_keeps_an_upload_that_a_stranger_posts_in_a_room_of_his_own(
    retention: Retention, store: DendriteStore, room: str
) -> None:
    victims, sent, nameless, wrong = [
        await store.add(origin="here.test", user_id=ANN),
        await store.add(origin="here.test", user_id=ANN),
        await store.add(origin="HERE.test"),
        await store.add(origin="there.test", user_id=ANN),
    ]
    remote = await store.add()
    await store.add_room(LEFT, LOCAL_LEFT)
    long_ago: dict[str, Any] = {"sender": EVE, "sent_at": int(time.time() * 1000) - 90 * 86_400_000}
    await store.add_state_event(LEFT, "m.room.member", EVE, {"membership": "leave"}, **long_ago)
    await store.add_state_event(
        LEFT, "m.room.tombstone", "", {"replacement_room": "!new:there.test"}, **long_ago
    )
    for sender in (EVE, "@mallory:there.test", "@ann:there.test"):
        for media in (victims, nameless, wrong, remote):
            await store.add_event(LEFT, {"url": media.uri}, sender=sender)
    await store.add_event(LEFT, {"url": sent.uri}, sender=ANN)
    planned, items = await retention.one_plan(**by_room(room))
    report = await retention.one_pass(**by_room(room))
    assert {item.media for item in items if item.action == "remove"} == {sent.uri, remote.uri}
    assert dict(planned.kept) == dict(report.kept) == {"other_uploader": 3}
    for account in (planned, report):
        assert account.ownership is not None
        assert account.ownership.removed == {ANN: 1, "": 1}
    assert set(await store.rows()) == {victims.key, nameless.key, wrong.key}
    assert await store.broken_references() == []


async def test_an_odd_mention_by_the_uploader_does_not_make_it_the_rooms(
    retention: Retention, store: DendriteStore
) -> None:
    """The uploader quoted a text, an escaped link or a broken event that a stranger can have made up."""
    media = [await store.add(origin="here.test", user_id=ANN) for _ in range(4)]
    await store.add_room(LEFT, LOCAL_LEFT)
    for one in media:
        await store.add_event(LEFT, {"url": one.uri}, sender=EVE)
    linked, escaped, broken, state = media
    await store.add_event(LEFT, {"body": f"https://x.test/?a={quote(linked.uri, safe='')}"}, sender=ANN)
    await store.add_event(LEFT, {"body": f"{escaped.uri}/more"}, sender=ANN)
    await store.add_event(LEFT, f'{{"content": "{broken.uri}', sender=ANN)
    await store.add_event(LEFT, {"url": state.uri}, event_type="m.room.avatar", state_key="", sender=ANN)
    report = await retention.one_pass(**by_room(LEFT))
    assert report.removed_items == 0
    assert len(await store.rows()) == 4


async def test_the_uploader_of_each_server_name_of_ours_is_known(
    retention: Retention, store: DendriteStore
) -> None:
    own = await store.add(origin="here.test", user_id="@ann:Also.test")
    namesake = await store.add(origin="here.test", user_id=ANN)
    await store.add_room(LEFT, LOCAL_LEFT)
    for one in (own, namesake):
        await store.add_event(LEFT, {"url": one.uri}, sender="@ann:Also.test")
    report = await retention.one_pass(**by_room(LEFT), server_name=["here.test", "also.test"])
    assert (report.removed_items, dict(report.kept)) == (1, {"other_uploader": 1})
    assert set(await store.rows()) == {namesake.key}


async def test_without_a_known_server_name_an_upload_still_goes_with_its_uploader_alone(
    retention: Retention, store: DendriteStore
) -> None:
    own = await store.add(origin="here.test", user_id=ANN)
    victims = await store.add(origin="here.test", user_id=ANN)
    await store.add_room(LEFT, LOCAL_LEFT)
    await store.add_event(LEFT, {"url": own.uri}, sender=ANN)
    await store.add_event(LEFT, {"url": victims.uri}, sender=EVE)
    report = await retention.one_pass(**by_room(LEFT), server_name=None)
    assert report.removed_items == 1
    assert set(await store.rows()) == {victims.key}


@pytest.mark.parametrize("kind", ["user", "room"])
async def test_delete_keeps_an_upload_that_a_strangers_room_or_event_mentions(
    retention: Retention, store: DendriteStore, kind: RequestKind
) -> None:
    """Also where he invited the uploader, and where the upload is mentioned nowhere else."""
    victims = [await store.add(origin="here.test", user_id=ANN) for _ in range(3)]
    nameless = await store.add(origin="Here.Test")
    wrong = await store.add(origin="there.test", user_id=ANN)
    own, remote = await store.add(origin="here.test", user_id=EVE), await store.add()
    plain, marked_up, avatar = victims
    invited = {"membership": "invite", "avatar_url": avatar.uri}
    await store.add_state_event(LEFT, "m.room.member", ANN, invited, sender=EVE)
    await store.add_event(LEFT, {"formatted_body": f"<img src='{marked_up.uri}'>"}, sender=EVE)
    for media in (plain, nameless, wrong, own, remote):
        await store.add_event(LEFT, {"url": media.uri}, sender=EVE)
    request = Request(kind, EVE if kind == "user" else LEFT, even_protected=True)
    async with retention.opened() as target:
        planned = await target.plan(None, NullProgress(), request)
        report = await target.run_pass(PassOptions("run", request=request))
    for account in (planned, report):
        assert (account.removed_items, dict(account.kept)) == (2, {"other_uploader": 5})
        assert account.ownership is not None
        assert account.ownership.removed == {EVE: 1, "": 1}
        assert account.ownership.left_out == {"other_uploader": {ANN: 4, "": 1}}
    assert set(await store.rows()) == {media.key for media in (*victims, nameless, wrong)}
    assert await store.broken_references() == []


async def test_delete_by_room_takes_what_its_uploader_sent_there_alone(
    retention: Retention, store: DendriteStore
) -> None:
    only, quoted, elsewhere = [await store.add(origin="here.test", user_id=ANN) for _ in range(3)]
    for media in (only, elsewhere):
        await store.add_event(LEFT, {"url": media.uri}, sender=ANN)
    await store.add_event(LEFT, {"url": quoted.uri}, sender=EVE)
    await store.add_event(LEFT, {"body": f"see {quoted.uri}/more"}, sender=ANN)
    await store.add_event(JOINED, f'no json, but "{elsewhere.uri}"', sender=EVE)
    async with retention.opened() as target:
        report = await target.run_pass(PassOptions("run", request=Request("room", LEFT)))
    assert (report.removed_items, dict(report.kept)) == (1, {"other_uploader": 1, "other_rooms": 1})
    assert set(await store.rows()) == {quoted.key, elsewhere.key}


async def test_delete_names_the_rooms_that_mention_the_items(
    retention: Retention, store: DendriteStore
) -> None:
    """Of an upload that the user never sent, too, and of an avatar that only the profile shows."""
    sent, unsent, avatar = [await store.add(origin="here.test", user_id=EVE) for _ in range(3)]
    other = await store.add(origin="here.test", user_id=ANN)
    await store.add_profile("eve", avatar.uri)
    await store.add_event(LEFT, {"url": sent.uri}, sender=EVE)
    await store.add_event(JOINED, {"url": sent.uri, "body": unsent.uri}, sender=ANN)
    await store.add_event("!third:there.test", {"url": avatar.uri}, sender=ANN)
    await store.add_event("!unconcerned:there.test", {"url": other.uri}, sender=ANN)
    async with retention.opened() as target:
        planned = await target.plan(None, NullProgress(), Request("user", EVE, even_protected=True))
    assert planned.ownership is not None
    assert planned.ownership.rooms == {JOINED: 2, LEFT: 1, "!third:there.test": 1}
    assert planned.removed_items == 3


@pytest.mark.parametrize(
    ("keys", "even_protected", "expected"),
    [
        ({}, False, {"encrypted": 2}),
        ({"encrypted_remote": "fetch_again"}, False, {"encrypted": 1}),
        ({}, True, {}),
    ],
)
async def test_delete_by_room_keeps_what_an_encrypted_room_may_show(
    retention: Retention, store: DendriteStore, keys: Any, even_protected: bool, expected: dict[str, int]
) -> None:
    secret = "!secret:there.test"
    await store.add_state_event(secret, "m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2"})
    await store.add_state_event(secret, "m.room.member", ANN, {"membership": "join"}, sender=ANN)
    upload, others = [await store.add(origin="here.test", user_id=user) for user in (ANN, EVE)]
    remote = await store.add()
    await store.add_event(LEFT, {"url": upload.uri, "body": remote.uri}, sender=ANN)
    await store.add_event(LEFT, {"url": others.uri}, sender=EVE)
    request = Request("room", LEFT, even_protected=even_protected)
    async with retention.opened(**keys) as target:
        planned = await target.plan(None, NullProgress(), request)
        report = await target.run_pass(PassOptions("run", request=request))
    assert dict(planned.kept) == dict(report.kept) == expected
    assert planned.removed_items == report.removed_items == 3 - sum(expected.values())
    assert others.key not in await store.rows()
    assert planned.ownership is not None
    assert {reason: found.total() for reason, found in planned.ownership.left_out.items()} == expected


async def test_a_release_by_hand_looks_again_at_what_an_encrypted_room_may_show(
    retention: Retention, store: DendriteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = await store.add()
    await store.add_event(LEFT, {"url": remote.uri}, sender=EVE)
    begin = steps.MediaSteps.begin

    async def join_and_begin(self: steps.MediaSteps, report: PassReport) -> None:
        await store.add_state_event(JOINED, "m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2"})
        await store.add_state_event(JOINED, "m.room.member", ANN, {"membership": "join"}, sender=ANN)
        await begin(self, report)

    monkeypatch.setattr(steps.MediaSteps, "begin", join_and_begin)
    monkeypatch.setattr(release, "LARGEST_AGE", timedelta(0))
    async with retention.opened() as target:
        report = await target.run_pass(PassOptions("run", request=Request("room", LEFT)))
    assert (report.removed_items, dict(report.kept)) == (0, {"changed": 1})
    assert set(await store.rows()) == {remote.key}


async def test_a_key_that_just_fits_into_dendrites_index_and_a_long_sender_refuse_no_request(
    retention: Retention, store: DendriteStore
) -> None:
    long = await store.add(media_id=secrets.token_urlsafe(1870))
    await store.add_event(LEFT, {"url": long.uri}, sender="@" + "e" * 243 + ":here.test")
    async with retention.opened() as target:
        report = await target.run_pass(PassOptions("run", request=Request("room", LEFT)))
    assert (report.refused, report.removed_items) == (None, 1)
