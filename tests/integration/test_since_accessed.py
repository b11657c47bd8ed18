"""`since: accessed`: what was read lately stays, by the file's access time or a thumbnail's."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from retentiond.engine.target import PassOptions, Selection
from retentiond.targets.dendrite_media.disk.access_probe import probe_access_times
from retentiond.targets.dendrite_media.disk.tree import MediaTree
from retentiond.targets.dendrite_media.surveys import accesses
from tests.support.file_systems import bound, overlaid, small_disk
from tests.support.media_target import REMOTE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore, StoredMedia

BY_ACCESS: dict[str, Any] = {"policies": [REMOTE | {"since": "accessed"}]}
THUMBNAIL = (32, 32, "crop")


def read_at(store: DendriteStore, media: StoredMedia, days_ago: float, name: str = "file") -> None:
    """Let a file look as if it had been read so many days ago, and written long before."""
    path = store.path_of(media.base64hash) / name
    os.utime(path, (time.time() - days_ago * 86400, path.stat().st_mtime))


def keeps_no_access_times(directory: Path) -> bool:
    """Set a directory to keep no access times; tell whether it can be."""
    return not subprocess.run(["chattr", "+A", directory], check=False, capture_output=True).returncode


async def test_what_was_read_lately_stays_and_the_plan_says_the_same(
    store: DendriteStore, retention: Retention
) -> None:
    unread, read = await store.add(), await store.add()
    read_at(store, unread, 31)
    read_at(store, read, 29)
    plan, items = await retention.one_plan(**BY_ACCESS)
    report = await retention.one_pass(**BY_ACCESS)
    assert set(await store.rows()) == {read.key}
    assert report.removed_items == plan.removed_items == 1
    assert dict(report.kept) == dict(plan.kept) == {"not_due": 1}
    assert {item.media: (item.action, item.reason) for item in items} == {
        unread.uri: ("remove", "due"),
        read.uri: ("keep", "not_due"),
    }


async def test_a_thumbnail_that_was_read_keeps_its_media(store: DendriteStore, retention: Retention) -> None:
    media = await store.add(thumbnails=[THUMBNAIL])
    read_at(store, media, 90)
    read_at(store, media, 1, "thumbnail-32x32-crop")
    assert (await retention.one_pass(**BY_ACCESS)).removed_items == 0


async def test_young_media_stay_however_old_their_access_time_looks(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(age=timedelta(days=3))
    read_at(store, media, 300)
    assert (await retention.one_pass(**BY_ACCESS)).removed_items == 0


async def test_a_row_without_a_file_counts_from_its_creation(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(file=False)
    old = await store.add()
    read_at(store, old, 60)
    report = await retention.one_pass(**BY_ACCESS)
    assert (report.removed_items, report.missing_file) == (2, 1)


async def test_the_limits_count_only_what_nobody_has_read(store: DendriteStore, retention: Retention) -> None:
    for days in (90, 1, 1, 1):
        read_at(store, await store.add(), days)
    limits = {"max_share": 0.25}
    report = await retention.one_pass(**BY_ACCESS, limits=limits)
    assert (report.refused, report.removed_items) == (None, 1)


async def test_what_is_read_between_the_survey_and_its_turn_stays(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await store.add()
    read_at(store, media, 90)
    drop = accesses.AccessTimes.drop_accessed

    async def drop_and_read(self: accesses.AccessTimes, *arguments: Any, **keywords: Any) -> None:
        await drop(self, *arguments, **keywords)
        read_at(store, media, 0)

    monkeypatch.setattr(accesses.AccessTimes, "drop_accessed", drop_and_read)
    report = await retention.one_pass(**BY_ACCESS)
    assert dict(report.kept) == {"changed": 1}
    assert media.key in await store.rows()


@pytest.mark.usefixtures("noatime")
async def test_without_access_times_it_counts_from_creation_and_says_so(
    store: DendriteStore, retention: Retention
) -> None:
    read_at(store, await store.add(), 1)
    plan, _ = await retention.one_plan(**BY_ACCESS)
    report = await retention.one_pass(**BY_ACCESS)
    assert plan.removed_items == report.removed_items == 1
    assert ["noatime" in remark for remark in plan.remarks + report.remarks] == [True, True]


async def test_a_directory_that_is_set_to_keep_no_access_times_is_like_such_a_mount(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    if not keeps_no_access_times(media_path):
        pytest.skip("the file system of the tests has no such attribute")
    media = await store.add()
    report = await retention.one_pass(**BY_ACCESS | {"since_fallback": "refuse"})
    assert report.refused
    assert report.refused.limit == "no_access_times"
    assert media.key in await store.rows()


@pytest.mark.usefixtures("noatime")
async def test_without_access_times_it_refuses_where_so_configured(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    read_at(store, media, 90)
    keys = BY_ACCESS | {"since_fallback": "refuse"}
    plan, _ = await retention.one_plan(**keys)
    report = await retention.one_pass(**keys)
    assert plan.refused
    assert report.refused
    assert plan.refused.limit == report.refused.limit == "no_access_times"
    assert report.exit_status == 3
    assert media.key in await store.rows()


async def test_a_pass_and_a_restore_leave_access_times_as_they_were(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[THUMBNAIL])
    kept = await store.add(content=media.content, age=timedelta(days=1), origin="elsewhere.test")
    gone = await store.add()
    paths = [store.path_of(one.base64hash) / "file" for one in (media, gone)]
    for path in paths:
        os.utime(path, (1_600_000_000, 1_600_000_000))
    async with retention.opened() as target:
        await target.run_pass(PassOptions(command="run"))
        assert not paths[1].exists()
        await target.restore(Selection())
    assert [path.stat().st_atime for path in paths] == [1_600_000_000] * 2
    assert set(await store.rows()) == {media.key, kept.key, gone.key}


@pytest.mark.usefixtures("noatime")
async def test_a_daemon_says_at_its_start_and_once_that_access_times_are_missing(
    retention: Retention,
) -> None:
    cases: list[tuple[dict[str, Any], int]] = [(BY_ACCESS, 1), ({}, 0)]
    for keys, told in cases:
        with capture_logs() as logs:
            async with retention.opened(**keys) as target:
                for _ in range(2):
                    await target.sweep(everything=True)
        assert [entry["event"] for entry in logs].count("access_times_missing") == told


async def test_a_file_system_that_promises_access_times_and_moves_none_proves_nothing(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bind mount through FUSE shows the flags of its own, and not those of the file system below."""
    # A read that the file system below does not note.
    monkeypatch.setattr(os, "pread", lambda *_arguments: b"")
    in_use, unused = await store.add(), await store.add()
    read_at(store, in_use, 1)
    read_at(store, unused, 40)
    keys = BY_ACCESS | {"since_fallback": "refuse"}
    for report in ((await retention.one_plan(**keys))[0], await retention.one_pass(**keys)):
        assert report.refused
        assert report.refused.limit == "no_access_times"
        assert "a read did not change one" in str(report.refused.value)
    plan, _ = await retention.one_plan(**BY_ACCESS)
    report = await retention.one_pass(**BY_ACCESS)
    # A recent access time is one of a read all the same.
    assert set(await store.rows()) == {in_use.key}
    assert plan.removed_items == report.removed_items == 1
    assert ["a read did not change one" in remark for remark in plan.remarks + report.remarks] == [True, True]


async def test_the_lower_layer_of_an_overlay_proves_nothing(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    """A new file's access time moves there, and that of a file that lies there already never does."""
    media = await store.add()
    read_at(store, media, 40)
    with overlaid(media_path):
        report = await retention.one_pass(**BY_ACCESS | {"since_fallback": "refuse"})
    assert report.refused
    assert "is on overlay" in str(report.refused.value)


async def test_a_second_mount_without_access_times_proves_nothing(
    store: DendriteStore, retention: Retention, tmp_path: Path
) -> None:
    with small_disk(tmp_path, "1m") as disk:
        second = tmp_path / "second"
        second.mkdir()
        with bound(disk, second, "noatime"), MediaTree(disk) as tree:
            assert f"also mounted at {second} with noatime" in probe_access_times(tree).reason
        with MediaTree(disk) as tree:
            assert probe_access_times(tree).proven


@pytest.mark.parametrize(
    ("options", "late"), [("strictatime", 0), ("relatime", 86400), ("relatime,lazytime", 2 * 86400)]
)
def test_what_may_have_been_read_since_its_access_time_stays_as_long_as_that(
    tmp_path: Path, options: str, late: int
) -> None:
    with small_disk(tmp_path, f"1m,{options}") as disk, MediaTree(disk) as tree:
        assert probe_access_times(tree).late == late
        assert list(disk.iterdir()) == []


async def test_a_first_level_directory_without_access_times_proves_nothing(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    media = await store.add()
    directory = media_path / media.base64hash[0]
    if not keeps_no_access_times(directory):
        pytest.skip("the file system of the tests has no such attribute")
    report = await retention.one_pass(**BY_ACCESS | {"since_fallback": "refuse"})
    assert report.refused
    assert f"{directory} keeps no access times" in str(report.refused.value)


async def test_media_that_were_read_within_the_day_that_relatime_does_not_note_stay(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    with MediaTree(media_path) as tree:
        if probe_access_times(tree).late != 86400:
            pytest.skip("the media directory of the tests is not mounted with relatime")
    media = await store.add(age=timedelta(days=3))
    # Read a moment ago, too, for all that anybody can tell.
    read_at(store, media, 1.5)
    keys = {"policies": [REMOTE | {"since": "accessed", "keep": "1d"}]}
    assert (await retention.one_pass(**keys)).removed_items == 0
    read_at(store, media, 2.5)
    assert (await retention.one_pass(**keys)).removed_items == 1
