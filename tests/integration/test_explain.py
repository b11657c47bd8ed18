"""One item's whole story, as a real store tells it; the verdict is that of the plan."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import NullProgress, Selection
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.model.protections import PROTECT_DEFAULT
from tests.support.media_target import REMOTE

if TYPE_CHECKING:
    from retentiond.model.report import Item
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

LEFT = {"name": "left", "match": {"room": "no_local_members", "content_type": "video/*"}, "keep": "1d"}
LATER = {"name": "later", "match": {"origin": "there.test"}, "keep": "forever"}
POLICIES = [LEFT, REMOTE, LATER]


async def test_each_policy_protection_and_file_of_an_item_is_told(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(age=timedelta(days=40), content=b"shared", thumbnails=[(32, 32, "crop")])
    await store.add(age=timedelta(days=1), content=b"shared")
    await store.add_state_event("!r:there.test", "m.room.avatar", "", {"url": media.uri})
    async with retention.opened(policies=POLICIES) as target:
        story = await target.explain(media.uri, NullProgress())
    assert [(one.name, one.mismatches, one.decides, one.due) for one in story.policies] == [
        ("left", ("content_type", "room"), False, None),
        ("remote", (), True, True),
        ("later", (), False, None),
    ]
    assert story.protections == {name: name == "room_state" for name in PROTECT_DEFAULT}
    assert story.bearers == 2
    assert story.disk is not None
    assert (story.disk.result, story.disk.files) == ("present", 2)
    assert story.created_at is not None
    assert (story.now - story.created_at).days == 40
    assert story.verdict is not None
    assert (story.verdict.action, story.verdict.reason) == ("keep", "room_state")


async def test_holds_marks_and_what_lies_in_quarantine_are_told(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await retention.one_pass()
    async with retention.opened() as target:
        (released,) = (await target.explain(media.uri, NullProgress())).quarantine
        assert released.startswith("released by pass 1 (remote)")
        await target.restore(Selection(media=media.uri, reason="a mistake"))
        await target.holds.add(HoldRequest(HoldSubject("origin", "there.test"), reason="a case"))
        story = await target.explain(media.uri, NullProgress())
    assert story.holds == ["hold 1, on the origin there.test"]
    assert story.restored is not None
    assert "(a mistake), and kept for good" in story.restored
    assert story.quarantine == []
    assert story.verdict is not None
    assert (story.verdict.action, story.verdict.reason) == ("keep", "hold")


async def test_of_a_medium_without_a_row_there_is_no_verdict(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    async with retention.opened() as target:
        story = await target.explain("mxc://there.test/nowhere", NullProgress())
    assert (story.row, story.verdict, story.refusal) == (None, None, None)


async def test_a_plan_that_is_refused_leaves_the_story_open(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    elsewhere = {"sync_api": "postgresql://nobody@127.0.0.1:1/none"}
    async with retention.opened(databases=elsewhere) as target:
        story = await target.explain(media.uri, NullProgress())
    assert story.refusal is not None
    assert story.refusal.limit == "protection_unreadable"
    assert (story.row is not None, story.verdict) == (True, None)


async def test_a_policy_of_thumbnails_alone_decides_beside_that_of_the_media(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[(32, 32, "crop")], age=timedelta(days=60))
    policies = [
        {"name": "media", "match": {"origin": "remote"}, "keep": "365d"},
        {"name": "thumbs", "match": {"origin": "remote"}, "keep": "30d", "remove": "thumbnails"},
    ]
    async with retention.opened(policies=policies) as target:
        story = await target.explain(media.uri, NullProgress())
    assert [(policy.name, policy.decides, policy.due) for policy in story.policies] == [
        ("media", True, False),
        ("thumbs", True, True),
    ]
    assert story.verdict
    assert (story.verdict.action, story.verdict.reason) == ("keep", "not_due")


class Judged(NullProgress):
    """Counts the rows that a survey judges."""

    rows = 0
    _surveying = False

    def stage(self, name: str, total: int | None) -> None:
        del total
        self._surveying = name == "survey"

    def advance(self, items: int, size: int = 0) -> None:
        del size
        self.rows += items if self._surveying else 0


@pytest.mark.parametrize("policies", [[REMOTE], POLICIES])
async def test_an_explanation_judges_the_rows_of_its_blob_alone(
    store: DendriteStore, retention: Retention, policies: list[dict[str, Any]]
) -> None:
    media, other, alone = [await store.add(content=content) for content in (b"shared", b"shared", b"alone")]
    for number in range(20):
        await store.add(content=b"%d" % number)
    judged = Judged()
    async with retention.opened(policies=policies) as target:
        items: list[Item] = []
        await target.plan(items.append, NullProgress())
        told = {item.media: item for item in items}
        for one, rows in ((media, 2), (other, 2), (alone, 1)):
            judged.rows = 0
            story = await target.explain(one.uri, judged)
            assert judged.rows == rows
            assert story.verdict
            # The bytes leave with the last row of the blob, in the plan's order.
            assert story.verdict == told[one.uri]
