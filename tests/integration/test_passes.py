"""What a pass takes and what it leaves, on a real database and a real directory."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from retentiond.adapters.disk import DiskWorkers
from retentiond.engine.passes import Pace
from retentiond.engine.target import STOPPED, PassOptions, Selection, Stop
from retentiond.targets.dendrite_media.passes import ends
from retentiond.targets.dendrite_media.quarantine import entries as quarantine
from retentiond.targets.dendrite_media.quarantine import removal
from retentiond.targets.dendrite_media.quarantine.release import Releaser
from retentiond.targets.dendrite_media.surveys.assess import assess
from retentiond.targets.dendrite_media.surveys.survey import Surveyor
from tests.support.store import COMMON_THUMBNAILS, DendriteStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]

DAY = timedelta(days=1)
LONE = ((32, 32, "crop"),)


def held_files(media_path: Path) -> dict[str, bytes]:
    """The files in quarantine, by the end of their path."""
    quarantined = media_path / ".retentiond/quarantine"
    return {
        "/".join(path.relative_to(quarantined).parts[1:]): path.read_bytes()
        for path in quarantined.rglob("*")
        if path.is_file()
    }


def everything(directory: Path) -> list[Path]:
    return [directory, *directory.rglob("*")]


async def test_what_is_due_goes_into_quarantine_with_its_thumbnails_and_the_rest_stays(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    due = await store.add(thumbnails=COMMON_THUMBNAILS)
    young = await store.add(age=29 * DAY, thumbnails=LONE)
    local = await store.add(origin="here.test", user_id="@alice:here.test", thumbnails=LONE)
    before = store.files()
    report = await retention.one_pass()
    assert set(await store.rows()) == {young.key, local.key}
    assert {row.key for row in await store.thumbnail_rows()} == {young.key, local.key}
    assert await store.broken_references() == []
    assert await store.orphan_files() == []
    moved = held_files(media_path)
    assert len(moved) == 4
    assert {path.split("/")[1].split(".")[0] for path in moved} == {due.base64hash}
    gone = {path: content for path, content in before.items() if path not in store.files()}
    assert sorted(moved.values()) == sorted(gone.values())
    assert report.removed["remote"].items == 1
    assert report.removed["remote"].bytes == sum(len(content) for content in gone.values())


async def test_the_account_says_what_went_and_why_the_rest_stayed(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    await store.add(age=DAY)
    await store.add(user_id="@alice:here.test", origin="here.test")
    await store.add(created_ms=0)
    await store.add(base64hash="no hash")
    await store.add(file=False)
    shared = await store.add(content=b"shared")
    await store.add(content=b"shared", age=DAY)
    await store.add_thumbnail(shared, (32, 32, "crop"))
    await connection.execute("UPDATE mediaapi_thumbnail SET media_id = 'nobody'")
    with capture_logs() as log:
        report = await retention.one_pass()
    told = report.as_json()
    assert told["removed"]["items"] == 3
    assert told["kept"] == {
        "items": 5,
        "by_reason": {"invalid_hash": 1, "no_policy": 1, "not_due": 2, "undated": 1},
    }
    assert told["shared_blobs"] == 1
    assert told["inconsistencies"] == {"missing_file": 1, "orphan_thumbnail_row": 1}
    assert (told["state"], told["pass_id"], told["refused"], told["failed"]["items"]) == (
        "finished",
        1,
        None,
        0,
    )
    (line,) = [entry for entry in log if entry["event"] == "pass_finished"]
    assert {name: line[name] for name in told if name != "target"} == {
        name: value for name, value in told.items() if name != "target"
    }
    warned = {(entry["kind"], entry["log_level"]) for entry in log if entry["event"] == "inconsistency"}
    assert warned == {("missing_file", "warning"), ("orphan_thumbnail_row", "warning")}
    assert await connection.fetchval("SELECT report->'removed'->>'items' FROM retentiond.pass") == "3"


async def test_the_same_media_id_of_another_server_stays(store: DendriteStore, retention: Retention) -> None:
    """Elsewhere a purge went by the media ID alone, and took another origin's row."""
    await store.add(media_id="same", origin="there.test", thumbnails=LONE)
    other = await store.add(media_id="same", origin="elsewhere.test", age=DAY, thumbnails=LONE)
    await retention.one_pass()
    assert set(await store.rows()) == {other.key}
    assert {row.key for row in await store.thumbnail_rows()} == {other.key}
    assert await store.broken_references() == []


async def test_a_content_that_another_row_shares_stays_with_all_its_files(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    """Elsewhere the whole directory of a hash was removed though other rows shared it."""
    first = await store.add(content=b"shared", thumbnails=COMMON_THUMBNAILS)
    second = await store.add(content=b"shared", origin="here.test", user_id="@alice:here.test")
    before = store.files()
    report = await retention.one_pass()
    assert set(await store.rows()) == {second.key}
    assert store.files() == before
    assert held_files(media_path) == {}
    assert (report.shared_blobs, report.removed_bytes) == (1, 0)
    assert first.key not in await store.rows()


async def test_a_content_goes_when_all_the_rows_that_share_it_are_due_whatever_the_batch(
    store: DendriteStore, retention: Retention
) -> None:
    for origin in ("a.test", "b.test", "c.test"):
        await store.add(content=b"shared", origin=origin, thumbnails=LONE if origin == "a.test" else ())
    size = sum(map(len, store.files().values()))
    report = await retention.one_pass(pace={"batch": 1})
    assert store.files() == {}
    assert (report.shared_blobs, report.removed_items, report.removed_bytes) == (0, 3, size)


async def test_a_row_without_a_file_goes_and_is_counted(store: DendriteStore, retention: Retention) -> None:
    """Elsewhere such a row stayed for ever, and dendrite never fetched it again."""
    await store.add(file=False)
    only_thumbnails = await store.add(thumbnails=LONE)
    (store.path_of(only_thumbnails.base64hash) / "file").unlink()
    report = await retention.one_pass()
    assert await store.rows() == {}
    assert await store.thumbnail_rows() == []
    assert (report.missing_file, report.removed_items) == (2, 2)
    # Thumbnails without their content serve nobody.
    assert await store.orphan_files() == []


async def test_an_empty_upload_goes_like_any_other(store: DendriteStore, retention: Retention) -> None:
    await store.add(content=b"")
    report = await retention.one_pass()
    assert (await store.rows(), store.files()) == ({}, {})
    assert (report.removed_items, report.removed_bytes, report.missing_file) == (1, 0, 0)


async def test_dendrites_first_two_levels_stay(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    media = await store.add()
    async with retention.opened(grace="0s", settle="0s") as target:
        await target.run_pass(PassOptions("once"))
    assert store.path_of(media.base64hash).parent.is_dir()
    assert not store.path_of(media.base64hash).exists()
    assert held_files(media_path) == {}


async def test_the_first_policy_that_matches_decides_and_is_named(
    store: DendriteStore, retention: Retention
) -> None:
    video = await store.add(content_type="video/mp4", age=8 * DAY)
    picture = await store.add(age=8 * DAY)
    policies = [
        {"name": "videos", "match": {"content_type": "video/*", "larger_than": "1B"}, "keep": "7d"},
        {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
    ]
    report = await retention.one_pass(policies=policies)
    assert set(await store.rows()) == {picture.key}
    assert {name: tally.items for name, tally in report.removed.items()} == {"videos": 1}
    assert video.key not in await store.rows()


async def test_what_changed_since_the_survey_stays(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    became_young, other_content, vanished, goes = [await store.add() for _ in range(4)]
    replacement = await store.add(age=DAY)

    async def change_then_assess(*arguments: Any) -> Any:
        now = int(datetime.now(UTC).timestamp() * 1000)
        key = "WHERE media_id = $2"
        await connection.execute(
            f"UPDATE mediaapi_media_repository SET creation_ts = $1 {key}", now, became_young.key[0]
        )
        await connection.execute(
            f"UPDATE mediaapi_media_repository SET base64hash = $1 {key}",
            replacement.base64hash,
            other_content.key[0],
        )
        await connection.execute("DELETE FROM mediaapi_media_repository WHERE media_id = $1", vanished.key[0])
        return await assess(*arguments)

    monkeypatch.setattr(removal, "assess", change_then_assess)
    report = await retention.one_pass()
    assert set(await store.rows()) == {became_young.key, other_content.key, replacement.key}
    assert (report.kept["changed"], report.removed_items) == (3, 1)
    assert goes.key not in await store.rows()
    assert (store.path_of(became_young.base64hash) / "file").exists()


async def test_counts_that_do_not_agree_roll_the_batch_back(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    """Elsewhere only a part was archived before all of it was deleted."""
    media = await store.add(thumbnails=LONE)
    async with retention.opened() as target:
        await target.run_pass(PassOptions("run"))
    await store.add()
    # A rule of the database that keeps rows out of the ledger's copy.
    await connection.execute(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER forget BEFORE INSERT ON retentiond.released_media FOR EACH ROW EXECUTE FUNCTION forget()"
    )
    left = set(await store.rows())
    report = await retention.one_pass()
    assert report.state == "interrupted"
    assert "not all were both copied and deleted" in str(report.error)
    assert set(await store.rows()) == left
    assert await store.broken_references() == []
    assert media.key not in left


async def test_a_trigger_that_raises_ends_the_pass_in_an_orderly_way_and_leaves_everything_in_its_place(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    """It ended the daemon, and with it the passes over all other targets."""
    media = await store.add()
    await connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'evidence'; END$$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON mediaapi_media_repository FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    report = await retention.one_pass()
    assert (report.state, "evidence" in str(report.error)) == ("interrupted", True)
    async with retention.opened() as target:
        last = (await target.status()).last_pass
    assert last is not None
    assert last["state"] == "interrupted"
    assert list(await store.rows()) == [media.key]
    assert await store.broken_references() == []


async def test_a_pass_that_is_asked_to_stop_ends_at_a_batchs_end_with_everything_in_its_place(
    store: DendriteStore, retention: Retention, media_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        await store.add()
    stop = Stop()
    release = Releaser.release

    async def release_then_ask(self: Releaser, batch: Any) -> Any:
        released = await release(self, batch)
        stop.ask()
        return released

    monkeypatch.setattr(Releaser, "release", release_then_ask)
    async with retention.opened(pace={"batch": 2}) as target:
        report = await target.run_pass(PassOptions("run", stop=stop))
    assert (report.state, report.removed_items) == ("interrupted", 2)
    assert len(await store.rows()) == 2
    assert len(held_files(media_path)) == 2
    assert await store.orphan_files() == []


async def test_the_long_look_at_every_row_keeps_no_stop_waiting(
    store: DendriteStore, retention: Retention, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add()
    stop = Stop()

    async def look_for_ever(self: Surveyor, *_arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(stop.ask)
        await self._connection.execute("SELECT pg_sleep(3600)")

    with monkeypatch.context() as large:
        large.setattr(Surveyor, "judge", look_for_ever)
        async with retention.opened() as target:
            report = await target.run_pass(PassOptions("run", stop=stop))
    assert (report.state, report.error, report.pass_id) == ("interrupted", STOPPED, None)
    assert len(await store.rows()) == 1
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(%' AND pid <> pg_backend_pid()"
    assert await connection.fetchval(asleep) == 0
    assert (await retention.one_pass()).removed_items == 1


async def test_a_slow_pace_keeps_no_stop_waiting(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        await store.add()
    stop = Stop()
    release = Releaser.release

    async def release_then_ask(self: Releaser, batch: Any) -> Any:
        asyncio.get_running_loop().call_soon(stop.ask)
        return await release(self, batch)

    monkeypatch.setattr(Releaser, "release", release_then_ask)
    async with retention.opened(pace={"batch": 1, "max_items_per_second": 1}) as target:
        # An hour for each item: the test's own time-out is the bound.
        monkeypatch.setattr(
            removal, "Pace", lambda _rate, sleep: Pace(1, lambda: 0.0, lambda _pause: sleep(3600.0))
        )
        report = await target.run_pass(PassOptions("run", stop=stop))
    assert (report.state, report.removed_items) == ("interrupted", 1)


async def test_what_was_released_is_renamed_also_when_the_next_release_fails(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(6):
        await store.add()
    release = Releaser.release
    released: list[Any] = []

    async def fail_at_the_third(self: Releaser, batch: Any) -> Any:
        if len(released) == 2:
            raise asyncpg.PostgresConnectionError("the server closed the connection")
        released.append(batch)
        return await release(self, batch)

    carry_out = quarantine.carry_out

    async def take_time(*arguments: Any) -> Any:
        while len(released) < 2:
            await asyncio.sleep(0.001)
        return await carry_out(*arguments)

    monkeypatch.setattr(Releaser, "release", fail_at_the_third)
    monkeypatch.setattr("retentiond.targets.dendrite_media.quarantine.release.carry_out", take_time)
    report = await retention.one_pass(pace={"batch": 2})
    assert report.state == "interrupted"
    assert report.error is not None
    assert "closed the connection" in report.error
    assert await store.orphan_files() == []
    states = await connection.fetch("SELECT state, claimed_by FROM retentiond.entry")
    assert {tuple(row) for row in states} == {("quarantined", None)}
    assert len(states) == 4


async def test_two_batches_in_a_row_that_cannot_be_moved_stop_the_pass(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        await store.add()

    def fail(*_arguments: Any, **_keywords: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("retentiond.targets.dendrite_media.disk.moves._rename_in", fail)
    report = await retention.one_pass(pace={"batch": 1})
    assert report.state == "interrupted"
    assert report.error is not None
    assert "could not be moved" in report.error
    # One more may have been released while the second was tried; not all six.
    assert len(await store.rows()) >= 2
    monkeypatch.undo()
    report = await retention.one_pass()
    assert report.state == "finished"
    assert (await store.rows(), await store.orphan_files()) == ({}, [])


async def test_no_transaction_is_open_while_files_are_touched(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(4):
        await store.add(thumbnails=LONE)
    share = DiskWorkers._all
    open_ones: list[str] = []
    looks = 0

    async def look_then_share(self: DiskWorkers, pieces: Sequence[Any]) -> Any:
        nonlocal looks
        looks += 1
        # A server's process that is going away opens a transaction of its own, to drop temporary tables; not those.
        open_ones.extend(
            row["query"]
            for row in await connection.fetch(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'retentiond' AND state LIKE 'idle in transaction%'"
            )
        )
        return await share(self, pieces)

    # One batch: the release of the next would rightly be under way beside a rename.
    monkeypatch.setattr(DiskWorkers, "_all", look_then_share)
    async with retention.opened(grace="0s", settle="0s") as target:
        await target.run_pass(PassOptions("once"))
    assert store.files() == {}
    assert looks > 5
    assert open_ones == []


async def test_the_quarantine_belongs_to_the_owner_of_the_media(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    media = await store.add(thumbnails=LONE)
    for path in everything(media_path):
        os.chown(path, 12345, 23456)
    (store.path_of(media.base64hash)).chmod(0o751)
    await retention.one_pass()
    ours = everything(media_path / ".retentiond")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in ours} == {(12345, 23456)}
    (blob,) = [path for path in ours if path.name.startswith(media.base64hash)]
    assert stat.S_IMODE(blob.stat().st_mode) == 0o751


async def test_a_pass_is_as_good_in_small_batches_as_in_one(
    store: DendriteStore, retention: Retention
) -> None:
    for number in range(9):
        await store.add(content=b"%d" % (number % 5), origin=f"server{number}.test", thumbnails=LONE)
        await store.add(age=DAY)
    plan, _ = await retention.one_plan()
    report = await retention.one_pass(pace={"batch": 2, "concurrency": 2})
    assert (report.removed, report.kept, report.shared_blobs) == (plan.removed, plan.kept, plan.shared_blobs)
    assert report.removed_items == 9
    assert await store.broken_references() == []
    assert await store.orphan_files() == []


async def test_a_pass_by_hand_sweeps_once_more_after_a_minute_where_no_daemon_will(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def upload_meanwhile(_self: Stop, seconds: float) -> None:
        waits.append(seconds)
        await store.add(
            media_id=f"again{len(waits)}",
            content=b"same",
            age=timedelta(0),
            user_id="@a:here.test",
            file=False,
        )

    monkeypatch.setattr(Stop, "wait", upload_meanwhile)
    monkeypatch.setattr(ends, "LAST_SWEEP_AFTER", timedelta(minutes=1))
    await store.add(content=b"same")
    async with retention.opened(settle="10m") as target:
        await target.run_pass(PassOptions("once"))
        assert waits == [60.0]
        assert await store.broken_references() == []
        await store.add()
        await target.beat()
        await target.run_pass(PassOptions("once"))
        await target.end_beat()
        await target.run_pass(PassOptions("once"))  # nothing was renamed
    await store.add()
    async with retention.opened(settle="59s") as target:
        await target.run_pass(PassOptions("once"))
    assert waits == [60.0]


async def test_an_id_that_just_fits_into_dendrites_index_stops_no_pass(
    store: DendriteStore, retention: Retention
) -> None:
    """Another server chose it, and anybody can make dendrite fetch it."""
    media = await store.add(media_id=secrets.token_hex(1330))
    report = await retention.one_pass()
    assert (report.removed_items, await store.rows()) == (1, {})
    async with retention.opened() as target:
        assert (await target.restore(Selection(media=media.uri))).restored == [media.uri]
