"""`remove: thumbnails`: thumbnails go, with their rows; the media stay, and dendrite makes thumbnails again."""

from __future__ import annotations

import errno
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from retentiond.engine.target import PassOptions, Selection
from retentiond.model.errors import UnreachableError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.targets.dendrite_media.disk import look
from retentiond.targets.dendrite_media.disk import thumbnails as moving
from retentiond.targets.dendrite_media.sweeps import strays
from tests.support.media_target import REMOTE

if TYPE_CHECKING:
    import asyncpg
    import pytest

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore, StoredMedia, Thumbnail

    Connection = asyncpg.Connection[asyncpg.Record]

THUMBS = {"name": "thumbs", "match": {"origin": "remote"}, "keep": "30d", "remove": "thumbnails"}
ALONE: dict[str, Any] = {"policies": [THUMBS]}
SMALL, LARGE = (32, 32, "crop"), (640, 480, "scale")


def name(media: StoredMedia, thumbnail: Thumbnail | None = None) -> str:
    """The path of a medium's file, or of a thumbnail, below the media directory."""
    blob = media.base64hash
    file = "thumbnail-{}x{}-{}".format(*thumbnail) if thumbnail else "file"
    return f"{blob[0]}/{blob[1]}/{blob[2:]}/{file}"


def days_ago(days: float) -> int:
    return int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000)


async def test_removing_thumbnails_by_age_never_removes_the_media(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL, LARGE])
    size = sum(len(content) for path, content in store.files().items() if "thumbnail" in path)
    plan, items = await retention.one_plan(**ALONE)
    report = await retention.one_pass(**ALONE)
    assert set(await store.rows()) == {media.key}
    assert store.files() == {name(media): media.content}
    assert await store.thumbnail_rows() == []
    assert report.removed == plan.removed
    assert (report.removed["thumbs"].items, report.removed["thumbs"].bytes) == (1, size)
    assert dict(report.kept) == dict(plan.kept) == {"no_policy": 1}
    assert [(item.action, item.reason) for item in items] == [("keep", "no_policy"), ("remove", "thumbnails")]


async def test_a_thumbnail_that_was_made_lately_stays_with_its_file(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL])
    await store.add_thumbnail(media, LARGE, created_ms=days_ago(2))
    undated = await store.add()
    await store.add_thumbnail(undated, SMALL, created_ms=0)
    report = await retention.one_pass(**ALONE)
    assert report.removed["thumbs"].items == 1
    left = [(row.key, row.file_name) for row in await store.thumbnail_rows()]
    assert left == [(media.key, "thumbnail-640x480-scale"), (undated.key, "thumbnail-32x32-crop")]
    assert name(media, SMALL) not in store.files()
    assert await store.broken_references() == []


async def test_media_and_thumbnails_are_judged_apart_whatever_the_order_of_the_policies(
    store: DendriteStore, retention: Retention
) -> None:
    old = await store.add(thumbnails=[SMALL], age=timedelta(days=200))
    media = await store.add(thumbnails=[SMALL])
    policies = [REMOTE | {"keep": "150d"}, THUMBS]
    for one in (policies, policies[::-1]):
        plan, _ = await retention.one_plan(policies=one)
        assert {policy: tally.items for policy, tally in plan.removed.items()} == {"remote": 1, "thumbs": 1}
    report = await retention.one_pass(policies=policies[::-1])
    assert report.removed == plan.removed
    assert set(await store.rows()) == {media.key}
    assert old.key not in await store.rows()
    assert list(store.files()) == [name(media)]


async def test_a_thumbnail_file_that_another_row_knows_stays(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL, LARGE])
    twin = await store.add(content=media.content, origin="here.test", user_id="@a:here.test")
    await store.add_thumbnail(twin, SMALL, created_ms=days_ago(100))
    plan, _ = await retention.one_plan(**ALONE)
    report = await retention.one_pass(**ALONE)
    assert [row.key for row in await store.thumbnail_rows()] == [twin.key]
    assert set(store.files()) == {name(media), name(media, SMALL)}
    assert report.removed == plan.removed
    assert await store.broken_references() == []


async def test_what_is_protected_or_read_lately_keeps_its_thumbnails(
    store: DendriteStore, retention: Retention
) -> None:
    avatar = await store.add(thumbnails=[SMALL])
    await store.add_profile("alice", avatar.uri)
    assert (await retention.one_pass(**ALONE)).removed_items == 0
    # Its files were written just now, which is when they were last read.
    keys = {"policies": [THUMBS | {"since": "accessed"}], "protect": []}
    assert (await retention.one_pass(**keys)).removed_items == 0
    assert (await retention.one_pass(**keys, since_fallback="created")).removed_items == 0
    assert (await retention.one_pass(**ALONE, protect=[])).removed_items == 1


async def test_until_they_are_purged_one_command_brings_them_back_and_they_stay(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL, LARGE])
    before, rows = store.files(), await store.thumbnail_rows()
    async with retention.opened(**ALONE) as target:
        await target.run_pass(PassOptions(command="run"))
        listed = [one async for one in target.released()]
        assert [(one.media, one.state, one.policy) for one in listed] == [(media.uri, "thumbnails", "thumbs")]
        report = await target.restore(Selection(media=media.uri))
        assert report.restored == [media.uri]
        assert store.files() == before
        assert await store.thumbnail_rows() == rows
        assert (await target.run_pass(PassOptions(command="run"))).removed_items == 0
    assert await store.thumbnail_rows() == rows


async def test_thumbnails_of_a_medium_that_is_gone_are_not_brought_back(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add(thumbnails=[SMALL])
    async with retention.opened(**ALONE) as target:
        await target.run_pass(PassOptions(command="run"))
        await connection.execute("DELETE FROM mediaapi_media_repository")
        report = await target.restore(Selection())
    assert (report.restored, report.without_file) == ([], [media.uri])
    assert await store.thumbnail_rows() == []


async def test_they_are_purged_after_grace_and_settle_and_then_forgotten(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add(thumbnails=[SMALL])
    async with retention.opened(**ALONE) as target:
        await target.run_pass(PassOptions(command="run"))
        await connection.execute("UPDATE retentiond.entry SET renamed_at = renamed_at - interval '1 hour'")
        for _ in range(2):
            assert (await target.sweep(everything=True)).purged == 0
        await target.end_grace()
    for table in ("entry", "thumbnail_release"):
        assert await connection.fetchval(f"SELECT count(*) FROM retentiond.{table}") == 0
    assert await store.broken_references() == []


async def test_thumbnails_of_a_medium_that_is_held_by_then_are_not_purged_but_can_be_brought_back(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL])
    async with retention.opened(**ALONE, settle="0s", grace="0s") as target:
        await target.run_pass(PassOptions(command="run"))
        await target.holds.add(HoldRequest(HoldSubject("media", media.uri)))
        assert (await target.sweep(everything=True)).purged == 0
        assert (await target.restore(Selection(media=media.uri))).restored == [media.uri]
    assert name(media, SMALL) in store.files()


async def test_thumbnails_are_not_purged_while_the_disk_will_not_say_whether_a_row_needs_them(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await store.add(thumbnails=[SMALL])
    async with retention.opened(**ALONE, settle="0s", grace="0s") as target:
        await target.run_pass(PassOptions(command="run"))
        # A row came whose file we hold, and its directory cannot be read just now.
        await store.add_thumbnail(media, SMALL, file=False)

        def deny(*_: object) -> object:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as hindered:
            hindered.setattr(strays, "regular_file", deny)
            assert (await target.sweep(everything=True)).purged == 0
        assert (await target.sweep(everything=True)).returned == 1
    assert name(media, SMALL) in store.files()


async def test_without_a_settle_they_are_purged_once_their_grace_is_over(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add(thumbnails=[SMALL])
    async with retention.opened(**ALONE, settle="0s", grace="0s") as target:
        await target.run_pass(PassOptions(command="once"))
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0


async def test_a_thumbnail_row_that_comes_back_without_its_file_gets_it(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL])
    rows = await store.thumbnail_rows()
    async with retention.opened(**ALONE) as target:
        await target.run_pass(PassOptions(command="run"))
        # dendrite found the file before the rename, and inserts its row after it.
        await store.add_thumbnail(media, SMALL, file=False, created_ms=rows[0].creation_ts)
        await target.sweep(everything=False)
    assert name(media, SMALL) in store.files()
    assert await store.broken_references() == []


async def test_a_thumbnail_that_cannot_be_brought_back_is_told_and_not_counted_as_if_it_had_been(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await store.add(thumbnails=[SMALL])
    rows = await store.thumbnail_rows()

    def deny(*_arguments: object, **_keywords: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with retention.opened(**ALONE) as target:
        await target.run_pass(PassOptions(command="run"))
        await store.add_thumbnail(media, SMALL, file=False, created_ms=rows[0].creation_ts)
        with monkeypatch.context() as full, capture_logs() as logs:
            full.setattr("os.link", deny)
            assert (await target.sweep(everything=False)).returned == 0
        [error] = [log["error"] for log in logs if log["event"] == "item_failed"]
        assert error.startswith("ENOSPC: No space left on device; ")
        assert (await target.sweep(everything=False)).returned == 1
    assert await store.broken_references() == []


async def test_a_thumbnail_that_dendrite_makes_anew_wins_over_the_copy(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL])
    async with retention.opened(**ALONE) as target:
        await target.run_pass(PassOptions(command="run"))
        store.write_file(media.base64hash, "thumbnail-32x32-crop", b"made anew")
        await store.add_thumbnail(media, SMALL, file=False, size=len(b"made anew"))
        await target.sweep(everything=True)
        await target.restore(Selection())
    assert store.files()[name(media, SMALL)] == b"made anew"
    assert [row.file_size_bytes for row in await store.thumbnail_rows()] == [len(b"made anew")]


async def test_files_that_a_crash_left_without_rows_go_with_a_later_sweep(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media = await store.add(thumbnails=[SMALL])

    def die(*_arguments: object) -> bool:
        raise UnreachableError("the machine stops here")

    with monkeypatch.context() as dying:
        dying.setattr(moving, "move_thumbnails", die)
        await retention.one_pass(**ALONE)
    assert await store.thumbnail_rows() == []
    assert name(media, SMALL) in store.files()
    await connection.execute("UPDATE retentiond.shared_blob SET noted_at = noted_at - interval '2 hours'")
    monkeypatch.setattr("retentiond.targets.dendrite_media.sweeps.strays._YOUNG", -1.0)
    async with retention.opened(**ALONE) as target:
        await target.sweep(everything=True)
    assert store.files() == {name(media): media.content}
    assert await connection.fetchval("SELECT count(*) FROM retentiond.thumbnail_release") == 1


async def test_the_limits_hold_for_thumbnails_and_leave_the_rest_of_the_pass_to_be(
    store: DendriteStore, retention: Retention
) -> None:
    gone = await store.add(age=timedelta(days=200))
    for _ in range(3):
        await store.add(thumbnails=[SMALL])
    keys = {"policies": [REMOTE | {"keep": "150d"}, THUMBS], "limits": {"max_share": 0.5}}
    report = await retention.one_pass(**keys)
    assert report.refused
    assert (report.refused.limit, report.exit_status) == ("max_share", 3)
    assert len(await store.thumbnail_rows()) == 3
    assert gone.key not in await store.rows()


async def test_the_share_of_thumbnails_is_one_of_all_the_rows_that_a_pass_began_with_as_its_plan_says(
    store: DendriteStore, retention: Retention
) -> None:
    for _ in range(4):
        await store.add(age=timedelta(days=200))
    for _ in range(4):
        await store.add(thumbnails=[SMALL])
    keys = {"policies": [REMOTE | {"keep": "150d"}, THUMBS], "limits": {"max_share": 0.5}}
    plan, _ = await retention.one_plan(**keys)
    report = await retention.one_pass(**keys)
    assert (plan.refused, report.refused) == (None, None)
    assert report.removed == plan.removed


async def test_of_a_content_that_two_policies_strip_the_plan_gives_the_bytes_to_the_one_that_the_pass_does(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL, LARGE])
    mine: dict[str, Any] = {"content": media.content, "origin": "here.test", "user_id": "@a:here.test"}
    twin = await store.add(**mine, thumbnails=[SMALL])
    policies = [THUMBS, THUMBS | {"name": "local", "match": {"origin": "local"}}]
    for batch in (1000, 1):
        keys = {"policies": policies, "pace": {"batch": batch}}
        plan, items = await retention.one_plan(**keys)
        report = await retention.one_pass(**keys)
        assert report.removed == plan.removed
        told = {item.policy: item.bytes for item in items if item.action == "remove"}
        assert told == {policy: tally.bytes for policy, tally in report.removed.items()}
        async with retention.opened() as target:
            await target.restore(Selection())
            await target.forget(None)
    assert {row.key for row in await store.thumbnail_rows()} == {media.key, twin.key}


async def test_what_cannot_be_moved_is_counted_in_the_plan_as_in_the_pass(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add(thumbnails=[SMALL])
    monkeypatch.setattr(look, "_may_change", lambda _parent, _name: False)
    plan, _ = await retention.one_plan(**ALONE)
    report = await retention.one_pass(**ALONE)
    assert dict(plan.failed) == dict(report.failed) == {"not_movable": 1}
    assert plan.removed == report.removed == {}
