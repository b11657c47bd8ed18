"""The database and the disk can each go back in time, and a clock can leap: all is refused, and `accept` leads on."""

from __future__ import annotations

import json
import shutil
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.engine.target import Selection
from retentiond.model.errors import LeaseLostError, RefusedError
from retentiond.targets.dendrite_media.acceptance import accept as acceptance
from tests.support.media_target import Retention
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.model.acceptance import Acceptance
    from tests.support.database import DatabaseServer

    Connection = asyncpg.Connection[asyncpg.Record]

OLD, YOUNG = timedelta(days=90), timedelta(days=1)
WAY_ON = "`retentiond quarantine accept media`"
AT_ONCE: dict[str, Any] = {"grace": "0s", "settle": "0s"}
LATER: dict[str, Any] = {"grace": "30d", "settle": "0s"}


async def accept(retention: Retention, *, yes: bool) -> Acceptance:
    async with retention.opened() as target:
        return await target.accept(yes=yes)


async def refused_by(retention: Retention) -> str:
    """Check that plan and pass are refused by the same limit, which prints the way on, and return it."""
    limits = set()
    for report in ((await retention.one_plan())[0], await retention.one_pass()):
        assert report.refused is not None
        assert WAY_ON in report.refused.hint
        limits.add(report.refused.limit)
    [limit] = limits
    return limit


def mark_on(media_path: Path) -> dict[str, Any]:
    mark: dict[str, Any] = json.loads((media_path / ".retentiond/store").read_text())
    return mark


def empty(media_path: Path) -> None:
    """Take the disk away, and leave the directory that it is mounted at."""
    shutil.rmtree(media_path)
    media_path.mkdir()


def quarantined(media_path: Path) -> list[str]:
    """The names of the blobs in quarantine on the disk, without their numbers."""
    return sorted(
        path.name.partition(".")[0] for path in (media_path / ".retentiond/quarantine").glob("*/*/*")
    )


def everything(media_path: Path) -> dict[str, bytes]:
    """All files by their path, ours too."""
    return {str(path): path.read_bytes() for path in media_path.rglob("*") if path.is_file()}


@asynccontextmanager
async def older(
    postgres: DatabaseServer, retention: Retention, connection: Connection, store: DendriteStore
) -> AsyncIterator[tuple[Retention, DendriteStore]]:
    """Give retentiond on the database of before a pass that took all its media, under the disk of after it.

    One went before the backup, which has it in quarantine, and its grace is over; of the two that went after it the
    backup has the row of one, and nothing of the other, which came later.
    """
    await store.add(media_id="early", origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    await connection.execute("UPDATE retentiond.released_media SET grace_until = clock_timestamp()")
    await store.add(media_id="known", origin="there.test", thumbnails=((32, 32, "crop"),), age=OLD)
    await connection.close()
    backup = await postgres.clone(retention.database)
    try:
        fresh = await asyncpg.connect(retention.database)
        later = DendriteStore(fresh, retention.media_path)
        await later.add(media_id="later", origin="there.test", age=OLD)
        await fresh.execute("UPDATE retentiond.released_media SET grace_until = 'infinity'")
        await fresh.close()
        await retention.one_pass(**LATER)
        restored = await asyncpg.connect(backup)
        try:
            # A copy of the protections that is too old for a purge shall not be what holds it back.
            await restored.execute("DELETE FROM retentiond.reference_copy")
            yield Retention(backup, retention.media_path), DendriteStore(restored, retention.media_path)
        finally:
            await restored.close()
    finally:
        await postgres.drop(backup)


async def test_an_older_database_gives_back_what_rows_bear_purges_nothing_and_goes_on_when_accepted(
    postgres: DatabaseServer,
    retention: Retention,
    connection: Connection,
    media_path: Path,
    store: DendriteStore,
) -> None:
    async with older(postgres, retention, connection, store) as (backup, put_back):
        live = store.path_of(next(iter((await put_back.rows()).values())).base64hash)
        assert not live.exists()
        assert await refused_by(backup) == "restored_database"
        assert sorted(path.name for path in live.iterdir()) == ["file", "thumbnail-32x32-crop"]
        async with backup.opened(**AT_ONCE) as target:
            with pytest.raises(RefusedError, match="restored_database"):
                await target.end_grace()
            swept = await target.sweep(everything=True)
            assert (swept.unknown, swept.purged) == (2, 0)
        assert len(quarantined(media_path)) == 3

        before = everything(media_path)
        shown = await accept(backup, yes=False)
        assert (shown.unknown, shown.wanted, shown.gone, shown.accepted) == (2, 1, 0, False)
        assert (shown.ledger.last_pass, shown.disk.last_pass) == (1, 2)
        assert shown.ledger.store == shown.disk.store
        assert everything(media_path) == before

        async with backup.opened(**AT_ONCE) as target:
            done = await target.accept(yes=True)
        assert (done.accepted, done.taken, done.lost, done.failed) == (True, 2, 0, 0)
        assert mark_on(media_path)["last_pass"] == 2
        assert "@" in mark_on(media_path)["accepted_by"]

        # No sweep and no pass purges what was taken in; what the ledger knew and is due, they do.
        assert (await backup.one_pass(policies=[], **AT_ONCE)).pass_id == 3
        async with backup.opened(**AT_ONCE) as target:
            await target.sweep(everything=True)
            assert len(quarantined(media_path)) == 2
            assert [found.grace_until.year async for found in target.released()] == [9000, 9000]
        assert not await put_back.broken_references()


async def test_what_was_taken_in_is_purged_by_hand_after_its_settle(
    postgres: DatabaseServer,
    retention: Retention,
    connection: Connection,
    media_path: Path,
    store: DendriteStore,
) -> None:
    async with older(postgres, retention, connection, store) as (backup, put_back):
        async with backup.opened(settle="10m") as target:
            await target.accept(yes=True)
            assert (await target.end_grace()).purged == 1  # what went before the backup
        fresh = await asyncpg.connect(backup.database)
        await fresh.execute("UPDATE retentiond.entry SET settle = '0s'")
        await fresh.close()
        async with backup.opened() as target:
            assert (await target.end_grace()).purged == 2
        assert quarantined(media_path) == []
        assert len(await put_back.rows()) == 1
        put_back.remember_files()
        assert [path for path in put_back.files() if path.endswith("/file")]


async def test_another_store_is_left_alone_until_it_is_accepted(
    postgres: DatabaseServer, retention: Retention, media_path: Path, store: DendriteStore
) -> None:
    await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=YOUNG)
    await retention.one_pass(**LATER)
    other = Retention(await postgres.clone(), media_path)
    try:
        own_id = mark_on(media_path)["store"]
        async with other.opened() as target:
            shown = await target.accept(yes=False)
            assert (shown.ledger.store, shown.disk.store, shown.unknown) == (None, own_id, 1)
            assert [refusal.limit for refusal in shown.refused] == ["another_store"]
        # Without a ledger the plan sees it, too; the pass makes one.
        assert await refused_by(other) == "another_store"
        before = everything(media_path)
        assert await refused_by(other) == "another_store"
        async with other.opened() as target:
            with pytest.raises(RefusedError, match="another_store"):
                await target.sweep(everything=True)
        assert everything(media_path) == before
        done = await accept(other, yes=True)
        assert (done.taken, done.returned) == (1, 0)
        assert mark_on(media_path)["store"] != own_id
        assert (await other.one_pass()).pass_id == 2
    finally:
        await postgres.drop(other.database)
    # And now it is the first database that does not fit.
    assert await refused_by(retention) == "another_store"


async def test_who_lost_the_store_to_another_while_accepting_it_accepts_nothing(
    retention: Retention,
    media_path: Path,
    store: DendriteStore,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    (media_path / ".retentiond/store").unlink()

    async def take_over(*_arguments: Any) -> None:
        await connection.execute("UPDATE retentiond.lease SET epoch = epoch + 1")

    with monkeypatch.context() as patched:
        patched.setattr(acceptance, "recover", take_over)
        with pytest.raises(LeaseLostError):
            await accept(retention, yes=True)
    assert await refused_by(retention) == "another_store"


async def test_a_missing_mark_is_another_store_where_the_ledger_has_had_a_pass(
    retention: Retention, media_path: Path, store: DendriteStore
) -> None:
    held = await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    (media_path / ".retentiond/store").unlink()
    assert await refused_by(retention) == "another_store"
    done = await accept(retention, yes=True)
    assert (done.unknown, done.taken, done.lost) == (0, 0, 0)
    assert (await retention.one_pass(**LATER)).refused is None
    assert quarantined(media_path) == [held.base64hash]


async def test_a_mark_that_cannot_be_read_is_shown_and_written_anew(
    retention: Retention, media_path: Path, store: DendriteStore
) -> None:
    await store.add(origin="there.test", age=YOUNG)
    await retention.one_pass()
    (media_path / ".retentiond/store").write_text('{"store": 5}')
    assert await refused_by(retention) == "another_store"
    shown = await accept(retention, yes=False)
    assert [refusal.value for refusal in shown.refused] == ["an invalid store ID file"]
    await accept(retention, yes=True)
    assert (await retention.one_pass()).refused is None


async def test_a_disk_that_is_not_mounted_is_not_accepted(
    retention: Retention, media_path: Path, store: DendriteStore, connection: Connection
) -> None:
    await store.add(origin="there.test", age=YOUNG)
    await retention.one_pass()
    empty(media_path)
    shown = await accept(retention, yes=False)
    assert (shown.sampled, shown.without_file) == (1, 1)
    with pytest.raises(RefusedError, match="empty_media_directory"):
        await accept(retention, yes=True)
    assert not (media_path / ".retentiond").exists()


async def test_entries_whose_files_are_gone_are_closed_as_lost_with_their_rows_kept(
    retention: Retention, media_path: Path, store: DendriteStore, connection: Connection
) -> None:
    await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=YOUNG)
    await retention.one_pass(**LATER)
    shutil.rmtree(media_path / ".retentiond/quarantine/1")
    assert (await accept(retention, yes=False)).gone == 1
    assert (await accept(retention, yes=True)).lost == 1
    async with retention.opened() as target:
        status = await target.status()
        assert status.problems == ("1 file: its files were gone when the store was accepted",)
        assert [released.state async for released in target.released()] == ["lost"]


async def test_a_last_pass_in_the_future_stops_passes_until_the_clock_is_accepted(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=YOUNG)
    await retention.one_pass(**LATER)
    year = timedelta(days=365)
    await connection.execute("UPDATE retentiond.store SET last_pass_at = last_pass_at + $1::interval", year)
    await connection.execute(
        "UPDATE retentiond.released_media SET released_at = released_at + $1::interval,"
        " grace_until = grace_until + $1::interval",
        year,
    )
    assert await refused_by(retention) == "clock_behind"
    await accept(retention, yes=True)
    assert (await retention.one_pass()).refused is None
    row = await connection.fetchrow(
        "SELECT grace_until - clock_timestamp() AS left, released_at < clock_timestamp() AS past"
        " FROM retentiond.released_media"
    )
    assert row is not None
    assert timedelta(days=29) < row["left"] <= timedelta(days=30)
    assert row["past"]


@pytest.mark.parametrize("leap", [7200, -7200])
async def test_after_a_leap_of_the_clock_nothing_passes_or_goes_and_every_grace_begins_anew(
    retention: Retention, media_path: Path, store: DendriteStore, connection: Connection, leap: int
) -> None:
    taken = await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=YOUNG)
    await retention.one_pass(grace="1h", settle="0s")
    await connection.execute("UPDATE retentiond.host_clock SET wall_ahead = wall_ahead - $1", leap)
    # By the clock as it is now the grace is over.
    await connection.execute(
        "UPDATE retentiond.released_media SET released_at = released_at - interval '2 hours',"
        " grace_until = grace_until - interval '2 hours'"
    )
    assert await refused_by(retention) == "clock_leapt"
    async with retention.opened() as target:
        assert (await target.sweep(everything=True)).purged == 0
    shown = await accept(retention, yes=False)
    assert [refusal.limit for refusal in shown.refused] == ["clock_leapt"]
    await accept(retention, yes=True)
    assert (await retention.one_pass()).refused is None
    assert quarantined(media_path) == [taken.base64hash]
    assert await connection.fetchval("SELECT grace_until > clock_timestamp() FROM retentiond.released_media")


async def test_a_purge_by_hand_after_a_leap_of_the_clock_is_refused_and_ends_no_grace(
    retention: Retention, media_path: Path, store: DendriteStore, connection: Connection
) -> None:
    taken = await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    await connection.execute("UPDATE retentiond.host_clock SET wall_ahead = wall_ahead - 7200")
    async with retention.opened() as target:
        with pytest.raises(RefusedError, match="clock_leapt"):
            await target.end_grace()
    assert quarantined(media_path) == [taken.base64hash]
    assert await connection.fetchval("SELECT grace_until > clock_timestamp() FROM retentiond.released_media")


async def test_a_row_without_a_file_is_not_counted_among_what_can_come_back(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=OLD, file=False)
    lost = await store.add(origin="there.test", age=OLD)
    assert (await retention.one_pass(**LATER)).removed_items == 3
    await connection.execute("UPDATE retentiond.entry SET state = 'lost' WHERE hash = $1", lost.base64hash)
    async with retention.opened(**LATER) as target:
        quarantine = (await target.status()).quarantine
    assert quarantine is not None
    assert quarantine.items == 1


async def test_after_an_accepted_leap_a_content_in_quarantine_is_still_told_once_with_its_row(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    taken = await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    await connection.execute("UPDATE retentiond.host_clock SET wall_ahead = wall_ahead - 7200")
    await accept(retention, yes=True)
    async with retention.opened() as target:
        assert [item.media async for item in target.released()] == [taken.uri]


async def test_after_an_accepted_leap_the_grace_of_thumbnails_that_went_alone_begins_anew(
    retention: Retention, media_path: Path, store: DendriteStore, connection: Connection
) -> None:
    await store.add(origin="there.test", age=OLD, thumbnails=((32, 32, "crop"),))
    thumbs = {"name": "thumbs", "match": {"origin": "remote"}, "keep": "30d", "remove": "thumbnails"}
    await retention.one_pass(policies=[thumbs], **LATER)
    await connection.execute("UPDATE retentiond.host_clock SET wall_ahead = wall_ahead - 7200")
    # By the clock as it is now the grace is over.
    await connection.execute(
        "UPDATE retentiond.thumbnail_release SET released_at = released_at - interval '40 days',"
        " grace_until = grace_until - interval '40 days'"
    )
    async with retention.opened(**AT_ONCE) as target:
        await target.accept(yes=True)
        for _ in range(2):
            await target.sweep(everything=True)
        assert [item.state async for item in target.released()] == ["thumbnails"]
    assert len(quarantined(media_path)) == 1


async def test_an_entry_on_the_disk_gets_a_new_number_where_the_ledger_has_given_its_own_to_another(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    taken = await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=YOUNG)
    await retention.one_pass(**LATER)
    await connection.execute("UPDATE retentiond.entry SET hash = $1, state = 'lost'", "x" * 43)
    assert (await accept(retention, yes=True)).taken == 1
    rows = await connection.fetch(
        "SELECT hash, grace_until IS NULL AS own FROM retentiond.entry ORDER BY entry_id"
    )
    assert [tuple(row) for row in rows] == [("x" * 43, True), (taken.base64hash, False)]
    assert (await accept(retention, yes=False)).unknown == 0
    await store.add(origin="there.test", age=OLD)
    assert (await retention.one_pass(**LATER)).removed_items == 1


async def test_who_accepted_is_on_record(
    retention: Retention, media_path: Path, store: DendriteStore, connection: Connection
) -> None:
    await store.add(origin="there.test", age=YOUNG)
    await retention.one_pass()
    (media_path / ".retentiond/store").unlink()
    await accept(retention, yes=True)
    async with retention.opened() as target:
        [record] = [record async for record in target.records() if record["kind"] == "accepted"]
        assert (await target.verify_records()).broken is None
    assert record["body"]["refused"] == ["another_store"]
    assert "@" in record["body"]["by"]


async def test_what_was_restored_is_kept_until_that_is_forgotten(
    retention: Retention, store: DendriteStore
) -> None:
    one, other = [await store.add(origin="there.test", age=OLD) for _ in range(2)]
    await retention.one_pass(**LATER)
    async with retention.opened(**LATER) as target:
        await target.restore(Selection())
        assert dict((await retention.one_pass(**LATER)).kept) == {"restored": 2}
        assert await target.forget([one.uri, "mxc://there.test/unknown"]) == [one.uri]
        assert dict((await retention.one_plan())[0].kept) == {"restored": 1}
        assert await target.forget(None) == [other.uri]
    assert (await retention.one_pass(**LATER)).removed_items == 2
