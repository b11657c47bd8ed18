"""A stranger's mention is not ownership: an attacker's room mentions an upload of another local user, and it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
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
    await store.add_state_event(LEFT, "m.room.tombstone", "", {"replacement_room": "!new:there.test"})
    for sender in (EVE, "@mallory:there.test", "@ann:there.test"):
        for media in (victims, nameless, wrong, remote):
            await store.add_event(LEFT, {"url": media.uri}, sender=sender)
    await store.add_event(LEFT, {"url": sent.uri}, sender=ANN)
    planned, items = await retention.one_plan(**by_room(room))
    report = await retention.one_pass(**by_room(room))
    assert {item.media for item in items if item.action == "remove"} == {sent.uri, remote.uri}
    assert dict(planned.kept) == dict(report.kept) == {"other_uploader": 3}
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
