"""A repair mends what is safe to mend, through the quarantine, and leaves the rest with its reason."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import PassOptions, Selection
from retentiond.model.errors import RefusedError
from retentiond.model.holds import HoldRequest, HoldSubject
from tests.support.media_target import counts, one_audit, one_repair
from tests.support.store import hash_of

if TYPE_CHECKING:
    import asyncpg

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore, StoredMedia

    Connection = asyncpg.Connection[asyncpg.Record]

SMALL = (32, 32, "crop")
LARGE = (640, 480, "scale")
ALL = {"limits": {"max_share": 1.0, "max_missing_files": 1.0}}


async def make_orphan(store: DendriteStore, connection: Connection, *thumbnails: tuple[int, int, str]) -> str:
    media = await store.add(thumbnails=thumbnails)
    for table in ("mediaapi_media_repository", "mediaapi_thumbnail"):
        await connection.execute(f"DELETE FROM {table} WHERE media_id = $1 AND media_origin = $2", *media.key)
    return media.base64hash


async def left(retention: Retention) -> dict[str, int]:
    """What a second audit finds."""
    return counts((await one_audit(retention))[0])


async def test_a_remote_row_without_a_file_goes_and_a_local_one_is_only_reported(
    store: DendriteStore, retention: Retention
) -> None:
    kept = await store.add()
    await store.add(file=False)
    local = await store.add(origin="here.test", user_id="@ann:here.test", file=False)
    upload = await store.add(origin="there.test", user_id="@bob:here.test", file=False)
    report = await one_repair(retention)
    assert report.repaired == {"missing_file": 1}
    assert report.left == {"missing_file": {"local": 2}}
    assert set(await store.rows()) == {kept.key, local.key, upload.key}
    assert await left(retention) == {"missing_file": 2}


async def test_what_lies_beside_a_missing_file_goes_with_its_last_row(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    media = await store.add(thumbnails=[SMALL])
    (store.path_of(media.base64hash) / "file").unlink()
    assert (await one_repair(retention)).repaired == {"missing_file": 1}
    assert await left(retention) == {}
    assert not store.path_of(media.base64hash).exists()
    assert await store.orphan_thumbnail_rows() == []


@pytest.mark.parametrize("why", ["hold", "restored"])
async def test_a_row_on_hold_or_restored_by_hand_stays_although_its_file_is_missing(
    store: DendriteStore, retention: Retention, connection: Connection, why: str
) -> None:
    await store.add()
    media = await store.add()
    async with retention.opened(settle="0s") as target:
        await target.run_pass(PassOptions("run"))
        await target.restore(Selection(media=media.uri))
        await target.end_grace()  # the spare, too
        if why == "hold":
            await target.holds.add(HoldRequest(HoldSubject("media", media.uri), None, "a case"))
            await connection.execute("DELETE FROM retentiond.restored")
    (store.path_of(media.base64hash) / "file").unlink()
    report = await one_repair(retention)
    assert counts(report) == {"missing_file": 1}
    assert report.left == {"missing_file": {"kept": 1}}
    assert media.key in await store.rows()


async def test_an_orphan_goes_to_quarantine_for_its_grace_and_one_command_brings_it_back(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    blob = await make_orphan(store, connection, SMALL)
    before = store.files()
    report = await one_repair(retention, keys={"settle": "0s"})
    assert report.repaired == {"orphan_blob": 1}
    assert await left(retention) == {}
    async with retention.opened(settle="0s") as target:
        await target.sweep(everything=True)
        (item,) = [item async for item in target.released()]
        assert (item.policy, item.state) == ("orphan_blob", "quarantined")
        assert item.upload_name == str(store.path_of(blob).relative_to(retention.media_path))
        restored = await target.restore(Selection(pass_id=report.pass_id))
        assert restored.restored == [item.upload_name]
        await target.sweep(everything=True)
    assert store.files() == before
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0
    assert await left(retention) == {"orphan_blob": 1}


async def test_an_orphan_goes_also_while_thumbnails_lie_in_quarantine_that_went_alone_before(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    media = await store.add(thumbnails=[SMALL], content_type="video/mp4")
    alone = {"name": "thumbs", "match": {"content_type": "video/*"}, "keep": "30d", "remove": "thumbnails"}
    before = store.files()
    await retention.one_pass(policies=[alone])
    await connection.execute(
        "DELETE FROM mediaapi_media_repository WHERE media_id = $1 AND media_origin = $2", *media.key
    )
    assert (await one_repair(retention)).repaired == {"orphan_blob": 1}
    assert await left(retention) == {}
    async with retention.opened() as target:
        assert (await target.restore(Selection(pass_id=2))).failed == []
    assert store.files().items() <= before.items()
    assert (
        store.files()[f"{media.base64hash[0]}/{media.base64hash[1]}/{media.base64hash[2:]}/file"]
        == media.content
    )


async def test_an_orphan_is_purged_once_its_grace_and_settle_are_over(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    await make_orphan(store, connection)
    await one_repair(retention, keys={"settle": "0s"})
    async with retention.opened(settle="0s") as target:
        assert (await target.sweep(everything=True)).purged == 0
        assert (await target.end_grace()).purged == 1
    assert not [
        path for path in (retention.media_path / ".retentiond" / "quarantine").rglob("*") if path.is_file()
    ]


async def test_an_orphan_whose_ctime_is_new_is_reported_and_stays(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    """A tree that was copied just now keeps its mtimes: its database may be still on the way."""
    await store.add()
    blob = await make_orphan(store, connection)
    old = datetime.now(UTC).timestamp() - 30 * 86400
    os.utime(store.path_of(blob) / "file", (old, old))
    report = await one_repair(retention, in_future=timedelta(0))
    assert counts(report) == {"orphan_blob": 1}
    assert report.repaired == {}
    assert report.left == {"orphan_blob": {"young": 1}}
    assert (store.path_of(blob) / "file").exists()


async def test_an_orphan_beside_something_odd_stays(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    blob = await make_orphan(store, connection)
    (store.path_of(blob) / "notes.txt").write_bytes(b"mine")
    report = await one_repair(retention)
    assert report.left == {"orphan_blob": {"unsafe_path": 1}, "unknown_path": {"only_reported": 1}}
    assert (store.path_of(blob) / "file").exists()
    assert (store.path_of(blob) / "notes.txt").exists()


async def test_a_row_that_comes_while_its_orphan_is_taken_gets_it_back(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    blob = await make_orphan(store, connection)
    await one_repair(retention)
    # An upload that found the file standing, and inserts its row now.
    await store.add(base64hash=blob, content=b"", size=192, file=False)
    async with retention.opened() as target:
        await target.sweep(everything=False)
    assert (store.path_of(blob) / "file").exists()
    assert await store.broken_references() == []


async def test_an_orphan_that_a_row_bears_by_the_time_it_would_be_taken_stays(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass(policies=[])  # makes the ledger
    blob = await make_orphan(store, connection)
    await connection.execute(
        "CREATE FUNCTION upload() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.mediaapi_media_repository VALUES ('new', 'there.test', '', 192, 0, '', '"
        + blob
        + "', ''); RETURN NULL; END $$"
    )
    # An upload whose row comes after the audit saw none, and before the repair takes anything.
    await connection.execute(
        "CREATE TRIGGER upload AFTER INSERT ON retentiond.pass EXECUTE FUNCTION upload()"
    )
    report = await one_repair(retention)
    assert counts(report) == {"orphan_blob": 1}
    assert report.left == {"orphan_blob": {"changed": 1}}
    assert (store.path_of(blob) / "file").exists()
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0  # never touched


async def test_dead_thumbnail_rows_go_and_are_kept_on_record_for_the_grace(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add(thumbnails=[SMALL])
    await store.add_thumbnail(media, LARGE, file=False)
    gone = await store.add(media_id="gone")
    await store.add_thumbnail(gone, SMALL)
    await connection.execute("DELETE FROM mediaapi_media_repository WHERE media_id = 'gone'")
    report = await one_repair(retention, keys=ALL)
    assert report.repaired == {"missing_thumbnail_file": 1, "orphan_thumbnail_row": 1, "orphan_blob": 1}
    assert [row.file_name for row in await store.thumbnail_rows()] == ["thumbnail-32x32-crop"]
    assert await left(retention) == {}
    kept = await connection.fetch("SELECT media_id, width FROM retentiond.released_thumbnail ORDER BY width")
    assert [tuple(row) for row in kept] == [("gone", 32), (media.key.media_id, 640)]
    async with retention.opened(settle="0s") as target:
        await target.end_grace()
    assert await connection.fetchval("SELECT count(*) FROM retentiond.released_thumbnail") == 0


async def test_thumbnail_files_that_no_row_knows_go_to_quarantine(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add(thumbnails=[SMALL])
    await store.add_thumbnail(media, LARGE, row=False)
    report = await one_repair(retention, keys={"settle": "0s"})
    assert report.repaired == {"orphan_thumbnail_file": 1}
    names = {path.name for path in store.path_of(media.base64hash).iterdir()}
    assert names == {"file", "thumbnail-32x32-crop"}
    quarantined = [
        path.name for path in (retention.media_path / ".retentiond/quarantine").rglob("thumbnail-*")
    ]
    assert quarantined == ["thumbnail-640x480-scale"]  # through two sweeps, for its grace
    assert await left(retention) == {}


async def test_where_a_thumbnails_sizes_differ_its_row_and_its_file_go(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_thumbnail(media, SMALL, size=7)
    report = await one_repair(retention)
    assert report.repaired == {"thumbnail_size_mismatch": 1}
    assert await store.thumbnail_rows() == []
    assert {path.name for path in store.path_of(media.base64hash).iterdir()} == {"file"}
    assert await left(retention) == {}


async def test_thumbnails_of_one_content_go_together_also_where_its_findings_are_on_two_pages(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    for thumbnail in (SMALL, LARGE):
        await store.add_thumbnail(media, thumbnail, size=7)
    for thumbnail in ((33, 33, "crop"), (34, 34, "crop")):
        await store.add_thumbnail(media, thumbnail, row=False)
    report = await one_repair(retention, keys={"pace": {"batch": 1}})
    assert report.repaired == {"thumbnail_size_mismatch": 2, "orphan_thumbnail_file": 2}
    assert await left(retention) == {}


async def test_a_thumbnail_file_that_another_row_knows_rightly_stays(
    store: DendriteStore, retention: Retention
) -> None:
    right = await store.add(content=b"shared", thumbnails=[SMALL])
    wrong = await store.add(content=b"shared", origin="other.test")
    await store.add_thumbnail(wrong, SMALL, size=7)
    report = await one_repair(retention)
    assert report.repaired == {"thumbnail_size_mismatch": 1}
    assert [row.key for row in await store.thumbnail_rows()] == [right.key]
    assert await store.broken_references() == []
    assert await left(retention) == {}


async def test_stale_uploads_go_and_those_in_use_stay(store: DendriteStore, retention: Retention) -> None:
    await store.add()
    for name, age in (("stale", 2), ("in-use", 0)):
        upload = retention.media_path / "tmp" / name
        upload.mkdir(parents=True)
        (upload / "content").write_bytes(b"half")
        then = datetime.now(UTC).timestamp() - age * 86400
        os.utime(upload / "content", (then, then))
    report = await one_repair(retention, in_future=timedelta(0))
    assert report.repaired == {"stale_upload": 1}
    assert [path.name for path in (retention.media_path / "tmp").iterdir()] == ["in-use"]
    assert store.left_of_ours() == []


async def damaged(store: DendriteStore) -> tuple[StoredMedia, StoredMedia]:
    """Make a content of another size, and one of other bytes."""
    await store.add()
    short = await store.add(size=7)
    rotten = await store.add(content=b"right")
    (store.path_of(rotten.base64hash) / "file").write_bytes(b"wrong")
    return short, rotten


async def test_damaged_contents_are_only_reported_unless_asked_for(
    store: DendriteStore, retention: Retention
) -> None:
    await damaged(store)
    report = await one_repair(retention, verify_content=True)
    assert report.repaired == {}
    assert report.left == {"size_mismatch": {"damaged": 1}, "hash_mismatch": {"damaged": 1}}
    assert len(await store.rows()) == 3


async def test_damaged_remote_contents_are_dropped_row_and_file_where_that_is_asked_for(
    store: DendriteStore, retention: Retention
) -> None:
    short, rotten = await damaged(store)
    report = await one_repair(retention, verify_content=True, drop_damaged_remote=True)
    assert report.repaired == {"size_mismatch": 1, "hash_mismatch": 1}
    assert len(await store.rows()) == 1
    for media in (short, rotten):
        assert not store.path_of(media.base64hash).exists()
    assert await left(retention) == {}


async def test_a_damaged_content_stays_where_a_local_row_bears_it_or_one_that_it_is_right_for(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(content=b"local", size=7)
    await store.add(content=b"local", size=7, origin="here.test", user_id="@ann:here.test", media_id="l")
    await store.add(content=b"right", size=7)
    await store.add(content=b"right", origin="other.test")
    report = await one_repair(retention, drop_damaged_remote=True)
    assert report.repaired == {}
    assert report.left == {"size_mismatch": {"local_bears_it": 3}}
    assert len(await store.rows()) == 4


async def test_a_damaged_content_that_is_protected_stays(store: DendriteStore, retention: Retention) -> None:
    await store.add()
    media = await store.add(size=7)
    await store.add_profile("ann", media.uri)
    report = await one_repair(retention, drop_damaged_remote=True)
    assert report.left == {"size_mismatch": {"kept": 1}}
    assert media.key in await store.rows()


async def test_a_repair_that_finds_more_orphans_than_max_share_is_refused(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    """Of failures seen elsewhere: a scanner for orphans, by a wrong database, takes every live file for one."""
    await store.add()
    orphans = [await make_orphan(store, connection) for _ in range(3)]
    report = await one_repair(retention, keys={"limits": {"max_share": 0.7, "max_missing_files": 1.0}})
    assert report.refused is not None
    assert (report.refused.limit, report.refused.value) == ("max_share", 0.75)
    assert report.exit_status == 3
    assert all((store.path_of(blob) / "file").exists() for blob in orphans)
    assert report.repaired == {}


async def test_a_repair_that_finds_more_missing_files_than_allowed_is_refused(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    await store.add(file=False)
    report = await one_repair(retention, keys={"limits": {"max_share": 1.0, "max_missing_files": 0.4}})
    assert report.refused is not None
    assert report.refused.limit == "max_missing_files"
    assert len(await store.rows()) == 2


async def test_a_repair_with_an_empty_table_is_refused(store: DendriteStore, retention: Retention) -> None:
    store.write_file(hash_of(b"live"), "file", b"live")
    report = await one_repair(retention)
    assert report.refused is not None
    assert report.refused.limit == "empty_table"
    assert (store.path_of(hash_of(b"live")) / "file").exists()


async def test_a_repair_on_a_database_with_users_of_another_server_is_refused(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    await store.add(origin="here.test", user_id="@ann:elsewhere.test")
    with pytest.raises(RefusedError, match="foreign_users"):
        await one_repair(retention)


async def test_a_store_whose_directories_were_laid_out_anew_loses_nothing(
    store: DendriteStore, retention: Retention
) -> None:
    """Of failures seen elsewhere: after a change of the layout, scanners took every file for an orphan."""
    for number in range(10):
        await store.add(content=b"%d" % number)
    for first in [path for path in retention.media_path.iterdir() if len(path.name) == 1]:
        first.rename(retention.media_path / f"{first.name}{first.name}")
    (retention.media_path / "A").mkdir()
    before = store.files()
    report = await one_repair(retention, keys={"limits": {}})
    assert set(counts(report)) == {"missing_file", "unknown_path"}
    assert report.refused is not None
    assert report.refused.limit == "max_missing_files"
    assert store.files() == before
    assert len(await store.rows()) == 10


async def test_a_repair_puts_off_no_pass_and_has_a_number_of_its_own(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(age=timedelta(days=1))
    await store.add(age=timedelta(days=1), file=False)
    first = await retention.one_pass()
    report = await one_repair(retention)
    async with retention.opened() as target:
        last = (await target.status()).last_pass
    assert (first.pass_id, report.pass_id) == (1, 2)
    assert last is not None
    assert last["pass_id"] == 1
