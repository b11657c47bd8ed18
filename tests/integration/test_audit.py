"""The audit finds what is wrong between database and disk, each rule by itself, and nothing else."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import STOPPED, AuditOptions
from retentiond.model.errors import RefusedError
from tests.support.media_target import counts, one_audit
from tests.support.store import hash_of

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from retentiond.model.audit import Finding
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

SMALL = (32, 32, "crop")
LARGE = (640, 480, "scale")


def only(findings: list[Finding], kind: str) -> Finding:
    (finding,) = findings
    assert finding.kind == kind
    return finding


async def test_a_store_that_fits_has_no_finding_however_often_contents_are_shared(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(content=b"shared", thumbnails=[SMALL, LARGE])
    await store.add(content=b"shared", origin="here.test", user_id="@a:here.test")
    await store.add(content=b"")
    for number in range(70):
        await store.add(content=b"%d" % number, thumbnails=[SMALL] if number % 2 else [])
    report, findings = await one_audit(retention)
    assert findings == []
    assert (report.rows, report.blobs, report.contents) == (73, 72, 72)
    assert report.exit_status == 0


async def test_each_row_without_its_file_is_a_finding_and_its_content_counts_once(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(content=b"gone", file=False, media_id="a")
    await store.add(content=b"gone", file=False, media_id="b")
    await store.add()
    report, findings = await one_audit(retention)
    assert counts(report) == {"missing_file": 2}
    assert [finding.media for finding in findings] == ["mxc://there.test/a", "mxc://there.test/b"]
    assert report.missing_contents == 1
    assert report.findings["missing_file"].bytes == len(b"gone")


async def test_a_file_is_missing_although_its_thumbnails_stand(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL])
    await store.add()
    (store.path_of(media.base64hash) / "file").unlink()
    _, findings = await one_audit(retention)
    assert only(findings, "missing_file").media == media.uri


async def test_a_link_where_the_file_should_be_is_an_unknown_path_and_no_missing_file(
    store: DendriteStore, retention: Retention, tmp_path: Path
) -> None:
    media = await store.add()
    file = store.path_of(media.base64hash) / "file"
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    _, findings = await one_audit(retention)
    assert only(findings, "unknown_path").path == str(file.relative_to(retention.media_path))


async def test_a_blob_without_a_row_is_an_orphan_with_its_thumbnails(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    media = await store.add(thumbnails=[SMALL, LARGE])
    await connection.execute("DELETE FROM mediaapi_thumbnail")
    await connection.execute("DELETE FROM mediaapi_media_repository WHERE media_id = $1", media.key.media_id)
    report, findings = await one_audit(retention)
    orphan = only(findings, "orphan_blob")
    assert orphan.path == str(store.path_of(media.base64hash).relative_to(retention.media_path))
    directory = store.path_of(media.base64hash)
    assert orphan.bytes == sum(path.stat().st_size for path in directory.iterdir())
    assert report.blobs == 2


async def test_what_is_newer_than_a_day_is_no_orphan(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    orphan = await store.add()
    thumbnailed = await store.add()
    await store.add_thumbnail(thumbnailed, SMALL, row=False)
    (retention.media_path / "tmp" / "upload").mkdir(parents=True)
    (retention.media_path / "tmp" / "upload" / "content").write_bytes(b"half")
    await connection.execute("DELETE FROM mediaapi_media_repository WHERE media_id = $1", orphan.key.media_id)
    report, _ = await one_audit(retention, in_future=timedelta(hours=23))
    assert counts(report) == {}
    report, _ = await one_audit(retention, in_future=timedelta(hours=25))
    assert counts(report) == {"orphan_blob": 1, "orphan_thumbnail_file": 1, "stale_upload": 1}


async def test_one_new_thumbnail_says_that_an_old_blob_is_in_use(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    old = datetime.now(UTC).timestamp() - 7 * 86400
    store.write_file(hash_of(b"orphan"), "file", b"orphan")
    os.utime(store.path_of(hash_of(b"orphan")) / "file", (old, old))
    report, _ = await one_audit(retention, in_future=timedelta(0))
    assert counts(report) == {"orphan_blob": 1}
    store.write_file(hash_of(b"orphan"), "thumbnail-32x32-crop", b"small")
    report, _ = await one_audit(retention, in_future=timedelta(0))
    assert counts(report) == {}


async def test_an_empty_directory_is_nothing(store: DendriteStore, retention: Retention) -> None:
    await store.add()
    store.path_of(hash_of(b"nothing")).mkdir(parents=True)
    report, findings = await one_audit(retention)
    assert (findings, report.blobs) == ([], 1)


async def test_a_thumbnail_row_is_an_orphan_only_if_its_own_medium_has_no_row(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    """Of failures seen elsewhere: a check that was not tied to the medium found nothing unless no medium was left."""
    kept = await store.add(media_id="same", thumbnails=[SMALL])
    gone = await store.add(media_id="same", origin="other.test", content=b"x")
    await store.add_thumbnail(gone, SMALL, file=False)
    await connection.execute(
        "DELETE FROM mediaapi_media_repository WHERE media_origin = $1", gone.key.media_origin
    )
    (store.path_of(gone.base64hash) / "file").unlink()
    _, findings = await one_audit(retention)
    assert only(findings, "orphan_thumbnail_row").media == gone.uri
    assert kept.uri in {f"mxc://{key.media_origin}/{key.media_id}" for key in await store.rows()}


async def test_a_thumbnail_file_is_known_if_any_row_of_its_content_knows_it(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(content=b"shared", thumbnails=[SMALL])
    second = await store.add(content=b"shared", origin="other.test")
    assert (await one_audit(retention))[1] == []
    await store.add_thumbnail(second, LARGE, row=False)
    _, findings = await one_audit(retention)
    assert only(findings, "orphan_thumbnail_file").path.endswith("thumbnail-640x480-scale")


async def test_a_thumbnail_row_without_its_file_is_a_finding_where_the_file_itself_stands(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_thumbnail(media, LARGE, file=False)
    lost = await store.add(file=False)
    await store.add_thumbnail(lost, LARGE, file=False)
    report, findings = await one_audit(retention)
    assert counts(report) == {"missing_thumbnail_file": 1, "missing_file": 1}
    assert {finding.media for finding in findings if finding.kind == "missing_thumbnail_file"} == {media.uri}


async def test_a_thumbnail_of_another_size_than_its_row_says_is_a_finding(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_thumbnail(media, SMALL, size=7)
    _, findings = await one_audit(retention)
    assert only(findings, "thumbnail_size_mismatch").media == media.uri


async def test_a_file_of_another_size_is_a_finding_of_each_row_that_says_so_and_a_recorded_size_of_none_is_none(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(content=b"shared", media_id="right")
    await store.add(content=b"shared", media_id="wrong", size=7)
    await store.add(content=b"shared", media_id="unknown", size=-1)
    await store.add(content=b"shared", media_id="zero", size=0)
    _, findings = await one_audit(retention)
    finding = only(findings, "size_mismatch")
    assert finding.media == "mxc://there.test/wrong"
    assert finding.detail == "recorded 7, on disk 6"


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "A" * 42, "A" * 44, "A" * 42 + "+", "A" * 43 + "\n", ""]
)
async def test_a_hash_that_is_none_is_a_finding_and_becomes_no_path(
    store: DendriteStore, retention: Retention, text: str
) -> None:
    await store.add()
    media = await store.add(base64hash=text)
    report, findings = await one_audit(retention)
    finding = only(findings, "invalid_hash")
    assert (finding.media, finding.path) == (media.uri, "")
    assert (report.rows, report.contents) == (2, 1)


async def test_old_uploads_are_stale_and_other_things_among_them_unknown(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    uploads = retention.media_path / "tmp"
    for name in ("one", "two", "odd"):
        (uploads / name).mkdir(parents=True)
    (uploads / "one" / "content").write_bytes(b"half")
    (uploads / "odd" / "other").write_bytes(b"what")
    (uploads / "loose").write_bytes(b"why")
    _, findings = await one_audit(retention)
    assert [(finding.kind, finding.path, finding.bytes) for finding in findings] == [
        ("unknown_path", "tmp/loose", 3),
        ("unknown_path", "tmp/odd/other", 4),
        ("stale_upload", "tmp/one", 4),
        ("stale_upload", "tmp/two", 0),
    ]


async def test_what_dendrite_does_not_make_is_an_unknown_path_at_every_level_and_nothing_else(
    store: DendriteStore, retention: Retention, tmp_path: Path
) -> None:
    media = await store.add()
    blob = store.path_of(media.base64hash)
    (retention.media_path / "lost+found").mkdir()
    (retention.media_path / "notes.txt").write_bytes(b"note")
    (blob.parent.parent / "ab").mkdir()
    (blob.parent / "short").mkdir()
    (blob.parent / ("l" * 41)).symlink_to(tmp_path)
    (blob / "thumbnail-032x32-crop").write_bytes(b"odd")
    _, findings = await one_audit(retention)
    assert {finding.kind for finding in findings} == {"unknown_path"}
    assert {(retention.media_path / finding.path).name for finding in findings} == {
        "lost+found", "notes.txt", "ab", "short", "l" * 41, "thumbnail-032x32-crop",
    }  # fmt: skip


async def test_the_directory_with_which_a_pass_tries_the_disk_is_no_finding(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    (retention.media_path / ".retentiond-probe").mkdir()
    assert (await one_audit(retention))[1] == []


async def test_what_lies_in_an_open_entry_of_the_quarantine_is_no_finding(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add(content=b"old", thumbnails=[SMALL])
    await store.add(age=timedelta(days=1))
    shared = await store.add(content=b"shared", thumbnails=[SMALL])
    await store.add(content=b"shared", age=timedelta(days=1), media_id="stays")
    assert (await retention.one_pass()).removed_items == 2
    # dendrite fetched it again and found the file standing a moment before; the next sweep brings it back.
    await store.add(media_id="again", content=b"old", age=timedelta(0), file=False)
    assert not store.path_of(media.base64hash).exists()
    assert (store.path_of(shared.base64hash) / "thumbnail-32x32-crop").exists()
    assert (await one_audit(retention))[1] == []
    # Without the ledger's word both would be findings.
    await connection.execute("UPDATE retentiond.entry SET state = 'lost'")
    await connection.execute("DELETE FROM retentiond.shared_blob")
    report, _ = await one_audit(retention)
    assert counts(report) == {"missing_file": 1, "orphan_thumbnail_file": 1}


@pytest.mark.parametrize(("level", "failures"), [(slice(2, None), 1), (slice(0, 1), 2)])
async def test_a_directory_that_cannot_be_read_is_a_failure_and_no_missing_file(
    store: DendriteStore,
    retention: Retention,
    monkeypatch: pytest.MonkeyPatch,
    level: slice,
    failures: int,
) -> None:
    media = await store.add()
    await store.add()
    real = os.open

    def deny(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        # Root may read everything, so permissions show nothing here.
        if path == media.base64hash[level]:
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", deny)
    report, findings = await one_audit(retention)
    assert findings == []
    assert report.failed == {"unreadable": failures}
    assert report.exit_status == 1


async def test_a_content_that_is_not_what_its_name_says_is_found_when_contents_are_read(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(content=b"right")
    await store.add()
    short = await store.add(size=1)
    (store.path_of(media.base64hash) / "file").write_bytes(b"wrong")
    (store.path_of(short.base64hash) / "file").write_bytes(b"wrong")
    report, _ = await one_audit(retention)
    assert counts(report) == {"size_mismatch": 1}
    report, findings = await one_audit(retention, verify_content=True)
    assert counts(report) == {"size_mismatch": 1, "hash_mismatch": 1}
    assert {finding.media for finding in findings if finding.kind == "hash_mismatch"} == {media.uri}


async def test_reading_contents_leaves_no_access_time_behind(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    file = store.path_of(media.base64hash) / "file"
    # An access that is older than the last change: even a file system mounted relatime would move it.
    os.utime(file, (1_500_000_000, 1_600_000_000))
    await one_audit(retention, verify_content=True)
    assert file.stat().st_atime == 1_500_000_000


async def test_an_audit_of_an_empty_directory_beside_rows_is_refused(
    store: DendriteStore, retention: Retention
) -> None:
    """Of failures seen elsewhere: an unmounted disk makes every file look missing."""
    await store.add(file=False)
    with pytest.raises(RefusedError, match="empty_media_directory"):
        await one_audit(retention)


async def test_an_audit_that_is_asked_to_stop_says_so_and_is_none_for_the_ledger(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    async with retention.opened() as target:
        order = AuditOptions("run")
        order.stop.ask()
        report = await target.audit(order)
        assert (report.error, report.exit_status) == (STOPPED, 4)
        assert (await target.status()).last_audit is None


async def test_a_scheduled_audit_is_remembered_and_one_by_hand_makes_no_ledger(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add(file=False)
    await store.add()
    async with retention.opened() as target:
        await target.audit(AuditOptions("audit"))
        assert await connection.fetchval("SELECT to_regnamespace('retentiond')") is None
        report = await target.audit(AuditOptions("run"))
        last = (await target.status()).last_audit
    assert last is not None
    assert last["started_at"] == report.started_at
    assert last["findings"] == {"missing_file": {"items": 1, "bytes": 192}}
