"""What the sweeps give back, what they purge and when, and the thumbnails that nobody would miss but dendrite."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from retentiond.engine.target import Selection
from retentiond.targets.dendrite_media.disk import thumbnails as moving
from retentiond.targets.dendrite_media.disk.bring_back import dispensable
from retentiond.targets.dendrite_media.quarantine import release
from retentiond.targets.dendrite_media.quarantine.entries import carry_out
from retentiond.targets.dendrite_media.sweeps import purge as purging
from retentiond.targets.dendrite_media.sweeps import strays
from retentiond.targets.dendrite_media.sweeps import sweep as sweeping
from retentiond.targets.dendrite_media.sweeps.purge import purge_due
from tests.support.media_target import let_pass
from tests.support.store import COMMON_THUMBNAILS, DendriteStore, StoredMedia

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from retentiond.model.report import SweepReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SOON: dict[str, Any] = {"grace": "0s", "settle": "10m"}


async def sweep(retention: Retention, *, everything: bool = True, **keys: Any) -> SweepReport:
    async with retention.opened(**keys) as target:
        return await target.sweep(everything=everything)


async def upload_again(store: DendriteStore, media: StoredMedia, *, file: bool) -> StoredMedia:
    """A local upload of the same content: dendrite found the file there (none is written), or writes it anew."""
    return await store.add(
        media_id=f"again-{media.key.media_id}",
        origin="here.test",
        user_id="@alice:here.test",
        content=media.content,
        age=timedelta(0),
        file=file,
    )


async def states(connection: Connection) -> list[str]:
    return [row["state"] for row in await connection.fetch("SELECT state FROM retentiond.entry ORDER BY 1")]


def quarantined(media_path: Path) -> list[Path]:
    return [path for path in (media_path / ".retentiond/quarantine").rglob("*") if path.is_file()]


async def test_a_row_that_comes_while_its_file_is_renamed_gets_it_back_in_the_same_pass(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Elsewhere a sweep between dendrite's look at the file and its row left a row without a file."""
    media = await store.add()

    async def upload_then_carry_out(*arguments: Any) -> Any:
        await upload_again(store, media, file=False)
        return await carry_out(*arguments)

    monkeypatch.setattr(release, "carry_out", upload_then_carry_out)
    await retention.one_pass()
    assert len(await store.rows()) == 1
    assert await store.broken_references() == []
    assert await states(connection) == ["returned"]


async def test_a_row_that_comes_after_the_rename_gets_its_file_back_by_the_next_sweep(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    await retention.one_pass()
    again = await upload_again(store, media, file=False)
    assert await store.broken_references() != []
    assert (await sweep(retention, everything=False)).returned == 1
    assert await store.broken_references() == []
    # Thumbnails that no row knows would keep dendrite from ever making them.
    assert list(store.files().values()) == [media.content]
    assert set(await store.rows()) == {again.key}


async def test_what_was_renamed_more_than_an_hour_ago_is_asked_for_once_an_hour(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    await retention.one_pass()
    await let_pass(connection, HOUR + MINUTE)
    await upload_again(store, media, file=False)
    assert (await sweep(retention, everything=False)).returned == 0
    assert (await sweep(retention, everything=True)).returned == 1


async def test_a_file_that_dendrite_made_anew_stays_and_one_of_another_size_gives_way(
    store: DendriteStore, retention: Retention
) -> None:
    whole, damaged = await store.add(), await store.add()
    await retention.one_pass()
    for media in (whole, damaged):
        await upload_again(store, media, file=True)
    made = store.path_of(whole.base64hash) / "file"
    inode = made.stat().st_ino
    (store.path_of(damaged.base64hash) / "file").write_bytes(b"torn")
    assert (await sweep(retention)).returned == 1
    assert made.stat().st_ino == inode
    assert await store.broken_references() == []


async def test_the_spare_stands_in_when_dendrite_removes_the_live_directory(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    """An upload whose insert fails removes the whole directory, and what another upload relies on."""
    media = await store.add()
    await retention.one_pass()
    await upload_again(store, media, file=False)
    await sweep(retention, everything=False)
    shutil.rmtree(store.path_of(media.base64hash))
    assert (await sweep(retention, everything=False)).returned == 1
    assert await store.broken_references() == []
    assert await states(connection) == ["returned"]


async def test_a_spare_is_purged_after_its_grace_only_if_the_live_file_is_whole(
    store: DendriteStore,
    retention: Retention,
    media_path: Path,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, torn, gone = [await store.add() for _ in range(3)]
    await retention.one_pass(**SOON)
    for media in (whole, torn, gone):
        await upload_again(store, media, file=False)
    assert (await sweep(retention, **SOON)).returned == 3
    await let_pass(connection, 11 * MINUTE)

    async def tear_then_purge(*arguments: Any, **keywords: Any) -> None:
        # After the sweep has looked, and before the purge does.
        live = store.path_of(torn.base64hash) / "file"
        live.unlink()
        live.write_bytes(b"torn")
        shutil.rmtree(store.path_of(gone.base64hash))
        await purge_due(*arguments, **keywords)

    monkeypatch.setattr(sweeping, "purge_due", tear_then_purge)
    swept = await sweep(retention, everything=False, **SOON)
    assert (swept.returned, swept.purged) == (2, 1)
    assert await store.broken_references() == []
    monkeypatch.undo()
    assert (await sweep(retention, **SOON)).purged == 2
    assert await store.broken_references() == []
    assert quarantined(media_path) == []


async def test_a_live_file_that_goes_while_an_earlier_batch_is_unlinked_gets_its_spare(
    store: DendriteStore, retention: Retention, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that fails removes it; the spare had been asked for before the wait, and was purged after it."""
    media = [await store.add() for _ in range(2)]
    keys = SOON | {"pace": {"batch": 1}}
    await retention.one_pass(**keys)
    for one in media:
        await upload_again(store, one, file=False)
    assert (await sweep(retention, **keys)).returned == 2
    await let_pass(connection, 11 * MINUTE)
    asked, finish = [asyncio.Event(), asyncio.Event()], purging.finish_purge
    second: list[str] = []

    def note(tree: MediaTree) -> Any:
        (asked[1] if asked[0].is_set() else asked[0]).set()
        return dispensable(tree)

    async def finish_slowly(session: Any, report: Any, rows: list[Any]) -> None:
        if not second:
            second.extend({one.base64hash for one in media} - {row["hash"] for row in rows})
            # Only a purge that asks too early asks now.
            with suppress(TimeoutError):
                await asyncio.wait_for(asked[1].wait(), 1)
            shutil.rmtree(store.path_of(second[0]))
        await finish(session, report, rows)

    monkeypatch.setattr(purging, "dispensable", note)
    monkeypatch.setattr(purging, "finish_purge", finish_slowly)
    swept = await sweep(retention, everything=False, **keys)
    assert second != []
    assert (swept.returned, swept.purged) == (1, 1)
    assert await store.broken_references() == []


async def test_what_came_back_and_lost_its_rows_again_waits_anew(
    store: DendriteStore, retention: Retention, media_path: Path, connection: Connection
) -> None:
    media = await store.add()
    await retention.one_pass(**SOON)
    again = await upload_again(store, media, file=False)
    await sweep(retention, **SOON)
    await let_pass(connection, 11 * MINUTE)
    await connection.execute("DELETE FROM mediaapi_media_repository WHERE media_id = $1", again.key.media_id)
    assert (await sweep(retention, **SOON)).purged == 0
    assert await store.orphan_files() == []
    assert set(await states(connection)) == {"quarantined"}
    await sweep(retention, **SOON)
    await let_pass(connection, 11 * MINUTE)
    assert (await sweep(retention, **SOON)).purged == 2
    assert quarantined(media_path) == []


async def test_a_sweep_beside_a_pass_leaves_what_that_has_released_to_it(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media = await store.add()
    await retention.one_pass(**SOON)
    await store.add(content=media.content, origin="elsewhere.test", file=False)
    await sweep(retention, **SOON)
    assert await states(connection) == ["returned"]

    async def sweep_before(*arguments: Any) -> Any:
        # A restore begins with a sweep, also beside a daemon's pass.
        async with retention.opened(**SOON) as other:
            await other.restore(Selection(media="mxc://there.test/nothing"))
        return await carry_out(*arguments)

    monkeypatch.setattr(release, "carry_out", sweep_before)
    await retention.one_pass(**SOON)
    # Two that rename one directory: the one who comes second would call the content lost.
    assert await states(connection) == ["quarantined", "quarantined"]


@pytest.mark.parametrize("unreadable", ["entry", "shelf"])
async def test_a_bad_directory_in_quarantine_holds_up_nobody_but_itself(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    unreadable: str,
) -> None:
    media = await store.add()
    await retention.one_pass(**SOON)
    # The other entry is on a shelf of its own.
    await connection.fetchval("SELECT setval('retentiond.entry_entry_id_seq', 1000)")
    await store.add()
    await retention.one_pass(**SOON)
    await connection.execute("UPDATE retentiond.entry SET state = 'intended', claimed_by = 1000000")
    bad = media.base64hash if unreadable == "entry" else "from-0"
    real = os.open

    def refuse(path: Any, *arguments: Any, **keywords: Any) -> int:
        if str(path).partition(".")[0] == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert (await sweep(retention, **SOON)).failed == 1
    assert await states(connection) == ["intended", "quarantined"]
    assert (await sweep(retention, **SOON)).failed == 0
    assert await states(connection) == ["quarantined", "quarantined"]


async def test_nothing_is_purged_before_settle_nor_before_a_sweep_has_looked(
    store: DendriteStore, retention: Retention, media_path: Path, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass(**SOON)
    async with retention.opened(**SOON) as target:
        assert (await target.end_grace()).purged == 0
        await let_pass(connection, 9 * MINUTE)
        assert (await target.end_grace()).purged == 0
        await connection.execute("UPDATE retentiond.entry SET looked_at = NULL")
        await let_pass(connection, 2 * HOUR)
        # Settle is over, and nobody has looked since the rename: a small sweep does not ask for one so old.
        assert (await target.sweep(everything=False)).purged == 0
        assert (await target.sweep(everything=True)).purged == 1
    assert quarantined(media_path) == []


async def test_the_purge_has_a_last_look_of_its_own(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    await retention.one_pass(**SOON)
    await sweep(retention, **SOON)
    await let_pass(connection, 2 * HOUR)
    await upload_again(store, media, file=False)
    # A small sweep does not ask for what was renamed so long ago; the purge does.
    swept = await sweep(retention, everything=False, **SOON)
    assert (swept.returned, swept.purged) == (1, 0)
    assert await store.broken_references() == []


async def test_one_pass_does_not_end_the_grace_of_another(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    first = await store.add(thumbnails=COMMON_THUMBNAILS)
    await retention.one_pass(grace="24h")
    await store.add(media_id="second", origin="elsewhere.test", content=first.content)
    await store.add(media_id="other")
    await retention.one_pass(**SOON)
    await sweep(retention, **SOON)
    await let_pass(connection, 11 * MINUTE)
    # The other goes; of the shared content both copies stay until the first row's grace is over.
    assert (await sweep(retention, **SOON)).purged == 1
    await let_pass(connection, 24 * HOUR)
    assert (await sweep(retention, **SOON)).purged == 2
    assert await connection.fetchval("SELECT count(*) FROM retentiond.released_media") == 0


async def test_what_was_unlinked_is_told_and_added_to_its_pass(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add(thumbnails=COMMON_THUMBNAILS)
    report = await retention.one_pass(**SOON)
    await sweep(retention, **SOON)
    await let_pass(connection, 11 * MINUTE)
    with capture_logs() as log:
        await sweep(retention, **SOON)
    (told,) = [entry for entry in log if entry["event"] == "sweep_finished"]
    assert (told["purged"], told["purged_bytes"]) == (1, report.removed_bytes)
    totals = await connection.fetchrow("SELECT purged_entries, purged_bytes FROM retentiond.pass")
    assert totals is not None
    assert tuple(totals) == (1, report.removed_bytes)
    assert await connection.fetchval("SELECT count(*) FROM retentiond.released_media") == 0


async def shared_then_released(store: DendriteStore, retention: Retention) -> StoredMedia:
    """The row whose thumbnail rows they were goes; the row that stays knows one of the three."""
    first = await store.add(content=b"shared", thumbnails=COMMON_THUMBNAILS)
    stays = await store.add(content=b"shared", origin="here.test", user_id="@alice:here.test")
    await store.add_thumbnail(stays, COMMON_THUMBNAILS[0], file=False)
    await retention.one_pass()
    assert first.key not in await store.rows()
    return stays


def age_files(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The change time of a file cannot be set: the sweep's clock goes ahead instead."""

    class Later:
        @staticmethod
        def time() -> float:
            return time.time() + seconds

    monkeypatch.setattr(strays, "time", Later)


async def test_thumbnails_of_a_shared_content_that_no_row_knows_go_after_an_hour(
    store: DendriteStore,
    retention: Retention,
    media_path: Path,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Left there, they keep dendrite from ever making those thumbnails again."""
    media = await shared_then_released(store, retention)
    age_files(monkeypatch, 3700)
    await sweep(retention)
    assert len(store.files()) == 4
    await let_pass(connection, HOUR + MINUTE)
    age_files(monkeypatch, 0)
    await sweep(retention)
    # The files are younger than that: they may be in the making.
    assert len(store.files()) == 4
    age_files(monkeypatch, 3700)
    await sweep(retention)
    left = {path.name for path in store.path_of(media.base64hash).iterdir()}
    assert left == {"file", "thumbnail-32x32-crop"}
    assert await store.broken_references() == []
    # A row that comes to know one of them gets it back.
    await store.add_thumbnail(media, COMMON_THUMBNAILS[1], file=False)
    await sweep(retention)
    assert (store.path_of(media.base64hash) / "thumbnail-96x96-crop").exists()
    assert await store.broken_references() == []
    await sweep(retention)
    await let_pass(connection, 25 * HOUR)
    await sweep(retention)
    assert quarantined(media_path) == []
    assert await store.broken_references() == []


async def test_a_stray_thumbnail_that_cannot_be_moved_keeps_nothing_else_from_being_purged(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media = await shared_then_released(store, retention)
    await store.add(age=timedelta(days=90))
    await retention.one_pass(**SOON)
    await sweep(retention)
    await let_pass(connection, 25 * HOUR)
    age_files(monkeypatch, 3700)

    def deny(*_: object) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as hindered, capture_logs() as logs:
        hindered.setattr(moving, "move_thumbnails", deny)
        assert (await sweep(retention)).purged == 1
    assert [log["hash"] for log in logs if log["event"] == "item_failed"] == [media.base64hash]
    # It is tried again, and not every minute.
    await sweep(retention)
    assert len(store.files()) == 4
    await let_pass(connection, HOUR + MINUTE)
    await sweep(retention)
    assert len(store.files()) == 2


async def test_a_thumbnail_row_that_came_after_its_media_row_went_is_dropped(
    store: DendriteStore, retention: Retention
) -> None:
    late, fetched_again = await store.add(), await store.add()
    await retention.one_pass()
    await store.add(media_id=fetched_again.key.media_id, content=fetched_again.content, age=timedelta(0))
    never_ours = StoredMedia(late.key._replace(media_id="never-seen"), late.base64hash, b"")
    for media in (late, fetched_again, never_ours):
        await store.add_thumbnail(media, COMMON_THUMBNAILS[0], file=media is fetched_again)
    await sweep(retention, everything=False)
    assert {row.key for row in await store.thumbnail_rows()} == {fetched_again.key, never_ours.key}


async def test_a_thumbnail_row_whose_file_is_missing_beside_a_live_one_goes_at_the_second_sight(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    await retention.one_pass()
    await store.add(media_id=media.key.media_id, content=media.content, age=timedelta(0))
    await store.add_thumbnail(media, COMMON_THUMBNAILS[0], file=False)
    await store.add_thumbnail(media, COMMON_THUMBNAILS[1])
    await sweep(retention, everything=False)
    await sweep(retention, everything=False)
    assert len(await store.thumbnail_rows()) == 2
    await let_pass(connection, MINUTE)
    await sweep(retention, everything=False)
    assert [row.width for row in await store.thumbnail_rows()] == [96]


async def test_a_thumbnail_row_beside_a_missing_file_stays(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add(age=timedelta(0))
    media = await store.add(file=False)
    await retention.one_pass()
    await store.add(media_id=media.key.media_id, content=media.content, age=timedelta(0), file=False)
    await store.add_thumbnail(media, COMMON_THUMBNAILS[0], file=False)
    for _ in range(3):
        await sweep(retention)
        await let_pass(connection, 2 * MINUTE)
    assert len(await store.thumbnail_rows()) == 1


async def test_what_the_ledger_does_not_know_is_kept_and_reported_and_given_back_to_who_wants_it(
    store: DendriteStore, retention: Retention, media_path: Path, connection: Connection
) -> None:
    wanted, unwanted = await store.add(), await store.add()
    await retention.one_pass()
    await connection.execute("DELETE FROM retentiond.entry")
    await upload_again(store, wanted, file=False)
    odd = media_path / ".retentiond/quarantine/1/odd"
    odd.mkdir()
    with capture_logs() as log:
        assert (await sweep(retention)).unknown == 2
    told = {entry["path"][-48:-2]: entry["wanted"] for entry in log if entry.get("kind") == "unknown_entry"}
    assert sorted(told.values()) == [False, True]
    assert await store.broken_references() == []
    assert len(quarantined(media_path)) == 2
    assert odd.is_dir()
    assert unwanted.key not in await store.rows()


async def test_a_purge_that_is_refused_is_logged_once_by_the_sweeps_of_a_minute(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass(**SOON)
    await connection.execute("UPDATE retentiond.host_clock SET wall_ahead = wall_ahead - 7200")
    async with retention.opened(**SOON) as target:
        with capture_logs() as logs:
            for _ in range(3):
                await target.sweep(everything=False)
        assert [entry["limit"] for entry in logs if entry["event"] == "purge_refused"] == ["clock_leapt"]
        with capture_logs() as logs:
            await target.sweep(everything=True)
        assert [entry["limit"] for entry in logs if entry["event"] == "purge_refused"] == ["clock_leapt"]
