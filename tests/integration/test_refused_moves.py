"""Files that can be looked at and not moved: what was released comes back at once, and whoever asks can restore."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from retentiond.engine.target import AuditOptions, Selection
from retentiond.model.errors import LeaseLostError
from retentiond.targets.dendrite_media.disk import moves
from retentiond.targets.dendrite_media.quarantine import release
from tests.support.file_systems import attribute, clear, overlaid
from tests.support.media_target import REMOTE, Retention, let_pass
from tests.support.store import COMMON_THUMBNAILS, DendriteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

    from retentiond.model.report import RestoreReport, SweepReport
    from retentiond.targets.dendrite_media.disk.layout import EntryPath
    from tests.support.store import StoredMedia

    Connection = asyncpg.Connection[asyncpg.Record]

NOW: dict[str, Any] = {"grace": "0s", "settle": "0s"}
THUMBNAILS: dict[str, Any] = {"policies": [REMOTE | {"remove": "thumbnails"}]}


async def sweep(retention: Retention, *, everything: bool = False, **keys: Any) -> SweepReport:
    async with retention.opened(**keys) as target:
        return await target.sweep(everything=everything)


async def restore_all(retention: Retention) -> RestoreReport:
    async with retention.opened() as target:
        return await target.restore(Selection())


async def everything(store: DendriteStore) -> tuple[object, ...]:
    return await store.rows(), await store.thumbnail_rows(), store.files()


def errors(logs: list[Any]) -> list[str]:
    return [entry["error"] for entry in logs if entry["event"] == "item_failed"]


@pytest.mark.parametrize("letter", ["a", "i"])
async def test_a_blob_that_cannot_be_renamed_keeps_its_rows_its_thumbnails_and_its_file(
    connection: Connection, store: DendriteStore, retention: Retention, letter: str
) -> None:
    stuck = await store.add(thumbnails=COMMON_THUMBNAILS)
    await store.add(content=stuck.content, origin="elsewhere.test", size=7)
    before = await everything(store)
    free = await store.add()
    with attribute(letter, store.path_of(stuck.base64hash)), capture_logs() as logs:
        report = await retention.one_pass()
    assert (report.state, report.exit_status) == ("finished_with_failures", 1)
    assert dict(report.failed) == {"not_moved": 2}
    assert report.removed["remote"].items == 1
    assert report.removed["remote"].bytes == len(free.content)
    assert await everything(store) == before
    [error] = errors(logs)
    assert error.startswith("EPERM: Operation not permitted; a file attribute")
    assert [error in remark for remark in report.remarks] == [True]
    entries = await connection.fetch("SELECT hash, state FROM retentiond.entry")
    assert [tuple(entry) for entry in entries] == [(free.base64hash, "quarantined")]
    assert await connection.fetchval("SELECT count(*) FROM retentiond.released_media") == 1
    async with retention.opened() as target:
        assert (await target.verify_records()).broken is None


async def test_once_it_can_be_renamed_the_next_pass_takes_it(
    store: DendriteStore, retention: Retention
) -> None:
    stuck = await store.add()
    with attribute("a", store.path_of(stuck.base64hash)):
        await retention.one_pass()
        with capture_logs() as logs:
            swept = await sweep(retention)
        assert (errors(logs), swept.failed) == ([], 0)
    assert (await retention.one_pass()).removed_items == 1
    assert await store.rows() == {}
    assert (await restore_all(retention)).restored == [stuck.uri]


async def test_two_batches_that_cannot_be_renamed_stop_the_pass_and_keep_all_rows(
    connection: Connection, store: DendriteStore, retention: Retention
) -> None:
    media = [await store.add(thumbnails=COMMON_THUMBNAILS[:1]) for _ in range(6)]
    before = await everything(store)
    with attribute("a", *(store.path_of(one.base64hash) for one in media)):
        report = await retention.one_pass(pace={"batch": 1})
    assert (report.state, report.exit_status) == ("interrupted", 4)
    assert report.error
    assert "two batches in a row could not be moved: EPERM" in report.error
    assert (report.removed_items, report.removed_bytes) == (0, 0)
    assert await everything(store) == before
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0


async def test_a_blob_of_an_overlays_lower_layer_keeps_its_row(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    stuck = await store.add(thumbnails=COMMON_THUMBNAILS)
    before = await everything(store)
    with overlaid(media_path), capture_logs() as logs:
        report = await retention.one_pass()
        assert await everything(store) == before
    assert dict(report.failed) == {"not_moved": 1}
    [error] = errors(logs)
    assert error.startswith("EXDEV:")
    assert "keep the media on one plain file system" in error
    assert stuck.key in await store.rows()


async def test_thumbnails_that_cannot_be_moved_keep_their_rows(
    connection: Connection, store: DendriteStore, retention: Retention
) -> None:
    stuck, free = [await store.add(thumbnails=COMMON_THUMBNAILS) for _ in range(2)]
    with attribute("i", store.path_of(stuck.base64hash) / "thumbnail-96x96-crop"):
        report = await retention.one_pass(**THUMBNAILS)
    assert dict(report.failed) == {"not_moved": 1}
    assert report.removed["remote"].items == 1
    rows = await store.thumbnail_rows()
    assert [row.key for row in rows] == [stuck.key] * 3
    assert await store.broken_references() == []
    thumbnails = [path for path in store.files() if "thumbnail" in path]
    assert [stuck.base64hash[2:] in path for path in thumbnails] == [True] * 3
    assert await connection.fetchval("SELECT count(*) FROM retentiond.thumbnail_release") == 1
    assert free.key in await store.rows()


async def test_a_release_that_a_crash_left_open_is_taken_back_by_the_next_sweep(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = await store.add(thumbnails=COMMON_THUMBNAILS)
    before = await everything(store)

    async def die(*_arguments: Any) -> None:
        raise LeaseLostError("the connection that held our lock has ended")

    monkeypatch.setattr(release, "carry_out", die)
    await retention.one_pass()
    monkeypatch.undo()
    assert await store.rows() == {}
    with attribute("a", store.path_of(stuck.base64hash)):
        await sweep(retention)
    assert await everything(store) == before


async def test_an_orphan_that_a_repair_cannot_move_stays_and_is_counted(
    connection: Connection, store: DendriteStore, retention: Retention
) -> None:
    orphan = await store.add()
    await store.add(age=timedelta(0))
    await connection.execute("DELETE FROM mediaapi_media_repository WHERE media_id = $1", orphan.key.media_id)
    later = datetime.now(UTC) + timedelta(days=3)
    with attribute("a", store.path_of(orphan.base64hash)):
        async with retention.opened() as target:
            report = await target.audit(AuditOptions("audit", repair=True, now=later))
    assert (dict(report.failed), report.repaired.total()) == ({"not_moved": 1}, 0)
    assert store.path_of(orphan.base64hash).is_dir()
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0


async def quarantined(store: DendriteStore, retention: Retention) -> tuple[StoredMedia, Path]:
    """A medium in quarantine, and its file there."""
    media = await store.add(thumbnails=COMMON_THUMBNAILS[:1])
    await retention.one_pass()
    [copy] = (store.media_path / ".retentiond/quarantine").rglob("file")
    return media, copy


@contextmanager
def purge_refused(store: DendriteStore, media: StoredMedia, copy: Path) -> Iterator[None]:
    """Let the unlinking of a file in quarantine be refused, wherever a purge renames it to."""
    purging = store.media_path / f".retentiond/purging/1.{media.base64hash}.1/file"
    with attribute("i", copy):
        try:
            yield
        finally:
            clear("i", purging, copy)


async def test_a_purge_that_fails_is_logged_less_and_less_and_counted_in_the_status(
    connection: Connection, store: DendriteStore, retention: Retention
) -> None:
    media, copy = await quarantined(store, retention)
    await let_pass(connection, timedelta(hours=48))
    with purge_refused(store, media, copy):
        with capture_logs() as logs:
            await sweep(retention, everything=True)
            for _ in range(8):
                await sweep(retention)
        assert len(errors(logs)) == 2
        async with retention.opened() as target:
            [problem] = (await target.status()).problems
        assert problem.startswith("1 file: EPERM")
        for _ in range(8):
            await let_pass(connection, timedelta(hours=1))
            with capture_logs() as logs:
                await sweep(retention)
                await sweep(retention)
            assert len(errors(logs)) == 1
    await let_pass(connection, timedelta(hours=1))
    await sweep(retention)
    assert store.left_of_ours() == []


async def test_after_a_purge_that_failed_a_restore_brings_all_of_it_back(
    connection: Connection, store: DendriteStore, retention: Retention
) -> None:
    media, copy = await quarantined(store, retention)
    before = store.written(media.base64hash)
    await let_pass(connection, timedelta(hours=48))
    with purge_refused(store, media, copy):
        await sweep(retention, everything=True)
        assert await connection.fetchval("SELECT state FROM retentiond.entry") == "purging"
        restored = await restore_all(retention)
        assert (restored.restored, restored.busy, restored.failed) == ([media.uri], [], [])
    assert set(await store.rows()) == {media.key}
    assert (store.path_of(media.base64hash) / "file").read_bytes() == before


async def test_an_intent_that_nobody_claims_is_restored_and_not_called_busy(
    connection: Connection, store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk does not show whether the rename was done, and the file stands where it was."""
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    before = await everything(store)
    (store.media_path / ".retentiond").mkdir(mode=0o700)
    rename = os.rename

    def refuse(source: str, target: str, **places: Any) -> None:
        if media.base64hash[2:] in (source, target[2:45]):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **places)

    def unseen(_tree: object, entry: EntryPath, error: OSError) -> moves.MoveResult:
        return moves.MoveResult(entry, "failed", str(error))

    monkeypatch.setattr(moves, "_judge_refused", unseen)
    monkeypatch.setattr(os, "rename", refuse)
    await retention.one_pass()
    assert await connection.fetchval("SELECT state FROM retentiond.entry") == "intended"
    restored = await restore_all(retention)
    assert (restored.restored, restored.busy, restored.failed) == ([media.uri], [], [])
    assert await everything(store) == before
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0


async def test_a_blob_that_comes_unwanted_again_and_cannot_be_moved_is_tried_again_less_and_less(
    connection: Connection, store: DendriteStore, retention: Retention
) -> None:
    media, _ = await quarantined(store, retention)
    again = await store.add(content=media.content, origin="again.test", file=False)
    await sweep(retention)
    assert await connection.fetchval("SELECT state FROM retentiond.entry") == "returned"
    await connection.execute("DELETE FROM mediaapi_media_repository WHERE media_id = $1", again.key.media_id)
    with attribute("a", store.path_of(media.base64hash)):
        with capture_logs() as logs:
            for _ in range(6):
                await sweep(retention)
        assert len(errors(logs)) == 2
    assert await connection.fetchval("SELECT state FROM retentiond.entry") == "returned"
    # What the first pass released can still be brought back from the copy in quarantine.
    assert (await restore_all(retention)).restored == [media.uri]
