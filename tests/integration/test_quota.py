"""Quotas: the oldest or least recently accessed go until it fits, and nothing else does."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import PassOptions, Selection
from retentiond.targets.dendrite_media.disk.tree import MediaTree
from tests.support.media_target import REMOTE, let_pass

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from retentiond.model.report import PassReport
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore, StoredMedia

    Connection = asyncpg.Connection[asyncpg.Record]

KIB = 1024


def quota(**keys: Any) -> dict[str, Any]:
    """A target without ages, and one quota of remote media."""
    one = {"match": {"origin": "remote"}, "evict": "oldest", "low_water": 1.0} | keys
    return {"policies": [], "quota": [one]}


async def add(store: DendriteStore, days: float, size: int = KIB, **keys: Any) -> StoredMedia:
    """Add a remote medium of a size, so many days old, that was read when it was stored."""
    number = await store.rows()
    content = f"{len(number)} ".encode() + bytes(size)
    media = await store.add(age=timedelta(days=days), content=content[:size], **keys)
    read_at(store, media, days)
    return media


def read_at(store: DendriteStore, media: StoredMedia, days_ago: float) -> None:
    path = store.path_of(media.base64hash) / "file"
    os.utime(path, (time.time() - days_ago * 86400,) * 2)


async def check(retention: Retention, **keys: Any) -> PassReport | None:
    """Do what the daemon does between passes."""
    async with retention.opened(**keys) as target:
        return await target.check_quotas(PassOptions(command="run"))


class Disk:
    """A file system of a size, on which something else than the media takes room, too."""

    def __init__(self, media_path: Path, free: int) -> None:
        self._media_path = media_path
        self._size = free + self._held()
        self.other = 0

    def free(self) -> int:
        return self._size - self._held() - self.other

    def _held(self) -> int:
        files = [path.stat() for path in self._media_path.rglob("*") if path.name[:5] in {"file", "thumb"}]
        # A file takes room once, however many names it has.
        return sum({about.st_ino: about.st_size for about in files}.values())


@pytest.fixture
async def disk(store: DendriteStore, media_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk with 7 KiB free, and ten media of 1 KiB on it."""
    for days in range(20, 10, -1):
        await add(store, days)
    disk = Disk(media_path, 7 * KIB)
    monkeypatch.setattr(MediaTree, "free_bytes", disk.free)
    return disk


async def left(store: DendriteStore) -> set[str]:
    return {key.uri for key in await store.rows()}


async def test_the_oldest_go_until_the_low_water_mark_is_reached_and_no_further(
    store: DendriteStore, retention: Retention
) -> None:
    media = [await add(store, days) for days in range(12, 2, -1)]
    report = await retention.one_pass(**quota(max_size="9KiB", low_water=0.8))
    # 10 KiB are there, 9 may be, and 7.2 is the mark: three go.
    assert await left(store) == {one.uri for one in media[3:]}
    assert (report.removed_items, report.removed_bytes) == (3, 3 * KIB)
    assert report.removed["quota"].items == 3
    assert dict(report.kept) == {"no_policy": 7}


async def test_what_fits_is_left_alone(store: DendriteStore, retention: Retention) -> None:
    for days in range(9):
        await add(store, days + 2)
    keys = quota(max_size="9KiB")
    assert (await retention.one_pass(**keys)).removed_items == 0
    assert await check(retention, **keys) is None


async def test_the_least_recently_accessed_go_first_where_so_said(
    store: DendriteStore, retention: Retention
) -> None:
    old, young = await add(store, 90), await add(store, 10)
    read_at(store, old, 2)
    report = await check(retention, **quota(max_size="1KiB", evict="least_recently_accessed"))
    assert report
    assert await left(store) == {old.uri}
    assert young.uri not in await left(store)


async def test_a_check_between_passes_is_a_pass_of_its_own_that_can_be_taken_back(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = [await add(store, days) for days in (9, 8)]
    files = store.files()
    report = await check(retention, **quota(max_size="1KiB"))
    assert report
    assert (report.pass_id, report.state, report.removed_items) == (1, "finished", 1)
    async with retention.opened(**quota(max_size="1KiB")) as target:
        await target.restore(Selection())
        # What was restored stays, though it does not fit.
        again = await target.check_quotas(PassOptions(command="run"))
    assert again is not None
    assert await left(store) == {media[0].uri}
    assert files.items() >= store.files().items()
    assert await connection.fetchval("SELECT count(*) FROM retentiond.released_media") == 1


@pytest.mark.usefixtures("disk")
async def test_what_lies_in_quarantine_is_not_evicted_for_again(
    store: DendriteStore, retention: Retention
) -> None:
    keys = quota(min_free_disk="8KiB", low_water=0.8)
    # 10 KiB are wanted free, and 7 are.
    first = await check(retention, **keys)
    assert first
    assert first.removed_items == 3
    assert await check(retention, **keys) is None
    assert len(await store.rows()) == 7


async def test_where_purging_frees_nothing_eviction_stops_and_says_so(
    store: DendriteStore, retention: Retention, disk: Disk, connection: Connection
) -> None:
    keys = quota(min_free_disk="8KiB") | {"grace": "0s", "settle": "0s"}
    await check(retention, **keys)
    assert len(await store.rows()) == 9
    # As with a snapshot: what is unlinked frees nothing.
    disk.other = KIB
    await check(retention, **keys)
    report = await retention.one_pass(**keys)
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0
    assert len(await store.rows()) == 9
    assert any("did not raise the free space" in remark for remark in report.remarks)
    # And the plan of the next one says no other.
    plan, _ = await retention.one_plan(**keys)
    assert (plan.removed, plan.remarks) == ({}, report.remarks)


async def test_a_quota_that_was_taken_away_and_comes_again_does_not_go_by_what_it_saw_long_ago(
    store: DendriteStore, retention: Retention, disk: Disk
) -> None:
    keys = quota(min_free_disk="8KiB") | {"grace": "0s", "settle": "0s"}
    await check(retention, **keys)
    # Without it other things fill the disk, and media go by their ages.
    policy = REMOTE | {"keep": "18d"}
    report = await retention.one_pass(policies=[policy], grace="0s", settle="0s")
    assert report.removed_items == 2
    async with retention.opened(grace="0s", settle="0s") as target:
        await target.end_grace()
    disk.other = 4 * KIB
    report = await retention.one_pass(**keys)
    assert report.remarks == []
    assert len(await store.rows()) == 5


@pytest.mark.usefixtures("disk")
async def test_a_content_that_policies_left_to_another_row_is_counted_though_a_quota_purges_in_the_same_pass(
    store: DendriteStore, retention: Retention
) -> None:
    shared = await store.add()
    await store.add(content=shared.content, origin="here.test", user_id="@u:here.test")
    # A first pass has nothing to sweep.
    await retention.one_pass(policies=[])
    keys = quota(min_free_disk="8KiB") | {"policies": [REMOTE], "grace": "0s"}
    plan, _ = await retention.one_plan(**keys)
    report = await retention.one_pass(**keys)
    assert plan.shared_blobs == report.shared_blobs == 1


@pytest.mark.usefixtures("disk")
async def test_copies_of_what_was_restored_are_not_purged_in_vain_and_others_go_in_its_place(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    keys = quota(min_free_disk="9KiB") | {"settle": "0s"}
    await check(retention, **keys)
    assert len(await store.rows()) == 8
    async with retention.opened(**keys) as target:
        await target.restore(Selection())
        await let_pass(connection, timedelta(days=2))
        # What lies in quarantine are second names of live files: they free nothing.
        swept = await target.sweep(everything=True)
        assert (swept.purged, swept.purged_bytes) == (2, 0)
        report = await target.check_quotas(PassOptions(command="run"))
    assert report
    assert (report.removed_items, report.remarks) == (2, [])
    assert len(await store.rows()) == 8


@pytest.mark.usefixtures("disk")
async def test_a_disk_that_media_fill_as_fast_as_they_are_purged_goes_on_being_freed(
    store: DendriteStore, retention: Retention
) -> None:
    keys = quota(min_free_disk="8KiB") | {"grace": "0s", "settle": "0s"}
    await check(retention, **keys)
    await store.add(content=os.urandom(KIB), created_ms=int(time.time() * 1000) + 1000)
    await check(retention, **keys)
    assert len(await store.rows()) == 9


async def test_where_purging_frees_some_the_rest_of_the_shortage_is_evicted(
    store: DendriteStore, retention: Retention, disk: Disk
) -> None:
    keys = quota(min_free_disk="8KiB", low_water=0.8) | {"grace": "0s", "settle": "0s"}
    await check(retention, **keys)
    # Of the three that are freed something else takes two and a half.
    disk.other = 5 * KIB // 2
    await check(retention, **keys)
    assert len(await store.rows()) == 4


@pytest.mark.usefixtures("disk")
async def test_the_grace_gives_way_only_where_so_said_and_settle_never(
    retention: Retention, connection: Connection
) -> None:
    plain = quota(min_free_disk="8KiB", low_water=0.8)
    shortening = quota(min_free_disk="8KiB", low_water=0.8, shorten_grace=True)
    await check(retention, **plain)

    async def entries() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM retentiond.entry"))

    assert await entries() == 3
    await check(retention, **shortening)
    assert await entries() == 3
    await connection.execute(
        "UPDATE retentiond.entry SET renamed_at = renamed_at - interval '1 hour', looked_at = now()"
        " WHERE entry_id < (SELECT max(entry_id) FROM retentiond.entry)"
    )
    await check(retention, **plain)
    assert await entries() == 3
    report = await retention.one_pass(**shortening)
    assert await entries() == 1
    assert ["the grace of 2 contents was ended" in remark for remark in report.remarks] == [True]


@pytest.mark.usefixtures("disk")
async def test_what_an_acceptance_took_in_is_not_purged_by_a_quota_that_shortens_graces(
    retention: Retention, connection: Connection
) -> None:
    await check(retention, **quota(min_free_disk="8KiB", low_water=0.8))
    # The database was put back to before that: the disk knows entries that it does not.
    await connection.execute(
        "DELETE FROM retentiond.entry; DELETE FROM retentiond.released_media;"
        " UPDATE retentiond.store SET last_pass = 0"
    )
    async with retention.opened(settle="0s") as target:
        assert (await target.accept(yes=True)).taken == 3
    report = await retention.one_pass(**quota(min_free_disk="40KiB", shorten_grace=True))
    assert not [remark for remark in report.remarks if "grace" in remark]
    async with retention.opened(settle="0s") as target:
        await target.sweep(everything=True)
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry WHERE pass_id = 1") == 3


async def test_nothing_younger_than_min_age_goes(store: DendriteStore, retention: Retention) -> None:
    young = [await add(store, 0.5) for _ in range(3)]
    old = await add(store, 3)
    report = await retention.one_pass(**quota(max_size="1KiB"))
    assert await left(store) == {one.uri for one in young}
    assert old.uri not in await left(store)
    assert any("too young" in remark for remark in report.remarks)


async def test_what_is_protected_or_kept_for_ever_stays_and_younger_media_go_in_its_place(
    store: DendriteStore, retention: Retention
) -> None:
    avatar, forever = await add(store, 90), await add(store, 80, origin="friend.test")
    free = await add(store, 9)
    await store.add_profile("alice", avatar.uri)
    keys = quota(max_size="2KiB") | {
        "policies": [{"name": "friend", "match": {"origin": "friend.test"}, "keep": "forever"}]
    }
    await retention.one_pass(**keys)
    assert await left(store) == {avatar.uri, forever.uri}
    assert free.uri not in await left(store)


async def test_a_content_that_another_row_needs_is_not_taken_for_nothing(
    store: DendriteStore, retention: Retention
) -> None:
    shared = await add(store, 90)
    local = await store.add(content=shared.content, origin="here.test", user_id="@a:here.test")
    own = await add(store, 10)
    await retention.one_pass(**quota(max_size="1KiB"))
    assert await left(store) == {shared.uri, local.uri}
    assert own.uri not in await left(store)
    assert await store.broken_references() == []


async def test_rows_that_share_a_content_go_together_and_count_once(
    store: DendriteStore, retention: Retention
) -> None:
    first = await add(store, 90)
    await store.add(content=first.content, origin="other.test", age=timedelta(days=50))
    newer = await add(store, 10)
    report = await retention.one_pass(**quota(max_size="1KiB"))
    assert await left(store) == {newer.uri}
    assert (report.removed_items, report.removed_bytes) == (2, KIB)


async def test_it_comes_after_the_ages(store: DendriteStore, retention: Retention) -> None:
    due, middle, young = await add(store, 90), await add(store, 20), await add(store, 10)
    keys = quota(max_size="2KiB", low_water=1.0)
    del keys["policies"]
    report = await retention.one_pass(**keys)
    # Once what is due is gone the rest fits.
    assert await left(store) == {middle.uri, young.uri}
    assert due.uri not in await left(store)
    assert {name: tally.items for name, tally in report.removed.items()} == {"remote": 1}


async def test_the_limits_hold_for_it_too(store: DendriteStore, retention: Retention) -> None:
    for days in range(20, 10, -1):
        await add(store, days)
    keys = quota(max_size="2KiB") | {"limits": {"max_share": 0.5}}
    report = await check(retention, **keys)
    assert report
    assert report.refused
    assert (report.refused.limit, report.pass_id, report.exit_status) == ("max_share", None, 3)
    assert len(await store.rows()) == 10


async def test_ages_and_quota_together_take_no_more_in_one_pass_than_the_limits_allow(
    store: DendriteStore, retention: Retention
) -> None:
    for days in range(20, 10, -1):
        await add(store, days)
    by_age = {"policies": [REMOTE | {"keep": "16d12h"}]}
    keys = quota(max_size="3KiB") | by_age | {"limits": {"max_share": 0.5}}
    plan, _ = await retention.one_plan(**keys)
    report = await retention.one_pass(**keys)
    assert plan.refused
    assert report.refused
    assert plan.refused.value == report.refused.value == 0.7
    assert len(await store.rows()) == 6


async def test_the_plan_shows_what_goes_by_age_and_what_by_quota_each_item_once(
    store: DendriteStore, retention: Retention
) -> None:
    due, twin = await add(store, 90), await add(store, 20)
    shared = await store.add(content=due.content, origin="other.test", age=timedelta(days=15))
    young = await add(store, 10)
    keys = quota(max_size="1KiB") | {"policies": [REMOTE]}
    plan, items = await retention.one_plan(**keys)
    told = {item.media: (item.action, item.policy, item.bytes) for item in items}
    assert len(items) == 4
    assert told == {
        due.uri: ("remove", "remote", 0),
        shared.uri: ("remove", "quota", KIB),
        twin.uri: ("remove", "quota", KIB),
        young.uri: ("keep", "remote", 0),
    }
    report = await retention.one_pass(**keys)
    assert await left(store) == {young.uri}
    for part in ("removed", "kept", "shared_blobs"):
        assert getattr(plan, part) == getattr(report, part)


async def test_thumbnails_that_a_plan_takes_alone_take_no_room_any_more_when_its_quotas_look(
    store: DendriteStore, retention: Retention
) -> None:
    media = [await add(store, days, thumbnails=[(640, 480, "scale")]) for days in (20, 15, 11)]
    # The oldest was read last: but it was the thumbnail, and that goes.
    for place, one in enumerate(media):
        path = store.path_of(one.base64hash) / "thumbnail-640x480-scale"
        os.utime(path, (time.time() - (1 + place) * 86400,) * 2)
    alone = {"name": "thumbs", "match": {"origin": "remote"}, "keep": "5d", "remove": "thumbnails"}
    plan, _ = await retention.one_plan(**quota(max_size="3KiB") | {"policies": [alone]})
    assert list(plan.removed) == ["thumbs"]
    keys = quota(max_size="2KiB", evict="least_recently_accessed") | {"policies": [alone]}
    plan, items = await retention.one_plan(**keys)
    report = await retention.one_pass(**keys)
    assert report.removed == plan.removed
    assert (report.removed["quota"].items, report.removed["quota"].bytes) == (1, KIB)
    assert [item.media for item in items if item.policy == "quota"] == [media[0].uri]
    assert await left(store) == {one.uri for one in media[1:]}


async def test_thumbnails_count_and_go_along(store: DendriteStore, retention: Retention) -> None:
    media = await add(store, 10)
    await store.add_thumbnail(media, (32, 32, "crop"))
    size = len(media.content) + len(f"thumbnail-32x32-crop of {media.base64hash}")
    assert (await retention.one_pass(**quota(max_size=f"{size}B"))).removed_items == 0
    report = await retention.one_pass(**quota(max_size=f"{size - 1}B"))
    assert (report.removed_items, report.removed_bytes) == (1, size)
    assert store.files() == {}


async def test_rows_without_a_file_take_no_room(store: DendriteStore, retention: Retention) -> None:
    for _ in range(5):
        await add_missing(store)
    there = await add(store, 10)
    report = await retention.one_pass(**quota(max_size="1KiB"))
    assert report.removed_items == 0
    assert there.uri in await left(store)


async def add_missing(store: DendriteStore) -> None:
    await store.add(content=os.urandom(KIB), file=False)


@pytest.mark.usefixtures("noatime")
async def test_without_access_times_the_oldest_go_first_and_it_is_said(
    store: DendriteStore, retention: Retention
) -> None:
    old, young = await add(store, 90), await add(store, 10)
    read_at(store, old, 2)
    keys = quota(max_size="1KiB", evict="least_recently_accessed")
    report = await retention.one_pass(**keys)
    assert await left(store) == {young.uri}
    assert any("noatime" in remark for remark in report.remarks)


@pytest.mark.usefixtures("noatime")
async def test_without_access_times_it_refuses_where_so_configured_and_the_oldest_first_goes_on(
    store: DendriteStore, retention: Retention
) -> None:
    for days in (90, 10):
        await add(store, days)
    refusing = {"since_fallback": "refuse"}
    by_access = await check(retention, **quota(max_size="1KiB", evict="least_recently_accessed"), **refusing)
    assert by_access
    assert by_access.refused
    assert by_access.refused.limit == "no_access_times"
    by_age = await check(retention, **quota(max_size="1KiB"), **refusing)
    assert by_age
    assert by_age.removed_items == 1
