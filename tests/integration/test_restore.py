"""Undo: what a pass took comes back as it was; what came back by itself wins; what was brought back stays."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import PassOptions, Selection
from retentiond.ledger.host import actor
from retentiond.targets.dendrite_media.restore import bringing as restoring
from tests.support.store import COMMON_THUMBNAILS, DendriteStore, StoredMedia

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg

    from retentiond.targets.dendrite_media.target import DendriteMedia
    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def target(retention: Retention) -> AsyncIterator[DendriteMedia]:
    # A content a page, so that what hangs together across pages is seen.
    async with retention.opened(pace={"batch": 1}) as opened_target:
        yield opened_target


def attributes(media_path: Path) -> dict[str, tuple[int, ...]]:
    """Owner, mode and age of everything that is dendrite's; directories without their age."""
    found: dict[str, tuple[int, ...]] = {}
    for path in media_path.rglob("*"):
        about = path.stat()
        if ".retentiond" not in path.parts:
            age = about.st_mtime_ns if path.is_file() else 0
            found[str(path)] = (about.st_uid, about.st_gid, about.st_mode, age)
    return found


async def snapshot(store: DendriteStore) -> tuple[Any, ...]:
    return (
        await store.rows(),
        await store.thumbnail_rows(),
        store.files(),
        attributes(store.media_path),
    )


async def fill(store: DendriteStore) -> list[StoredMedia]:
    """Media of every sort that a pass takes whole."""
    media = [
        await store.add(thumbnails=COMMON_THUMBNAILS),
        await store.add(content=b"twice", thumbnails=COMMON_THUMBNAILS[:1]),
        await store.add(content=b"twice", origin="elsewhere.test:8448"),
        await store.add(content=b"", upload_name="\x1b[2J'; --"),
        await store.add(size=-1),
        await store.add(content=b"shared", thumbnails=COMMON_THUMBNAILS[:2]),
    ]
    await store.add(content=b"shared", origin="here.test", user_id="@u:here.test")
    # A thumbnail file that no row knows, and an owner and modes of its own.
    await store.add_thumbnail(media[0], (17, 17, "crop"), row=False)
    directory = store.path_of(media[0].base64hash)
    directory.chmod(0o2750)
    (directory / "file").chmod(0o604)
    if os.geteuid() == 0:
        os.chown(directory / "file", 1234, 4321)
    os.utime(directory / "file", (1_500_000_000, 1_500_000_000))
    return media


@pytest.mark.parametrize("by", ["all", "pass", "media"])
async def test_rows_thumbnails_and_files_come_back_as_they_were(
    store: DendriteStore, target: DendriteMedia, by: str
) -> None:
    media = await fill(store)
    before = await snapshot(store)
    report = await target.run_pass(PassOptions(command="run"))
    assert report.removed_items == len(media)
    if by == "media":
        selections = [Selection(media=each.uri) for each in media]
    else:
        selections = [Selection(pass_id=report.pass_id if by == "pass" else None)]
    restored = [uri for selection in selections for uri in (await target.restore(selection)).restored]
    assert sorted(restored) == sorted(each.uri for each in media)
    assert await snapshot(store) == before


async def test_a_row_that_a_trigger_swallows_is_named_and_can_be_brought_back_later(
    store: DendriteStore, target: DendriteMedia, connection: Connection
) -> None:
    media = await store.add(thumbnails=[(32, 32, "crop")])
    before = await snapshot(store)
    await target.run_pass(PassOptions(command="run"))
    await connection.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER banned BEFORE INSERT ON mediaapi_media_repository FOR EACH ROW EXECUTE FUNCTION swallow()"
    )
    report = await target.restore(Selection())
    assert (report.restored, report.present, report.failed) == ([], [], [media.uri])
    await connection.execute("DROP TRIGGER banned ON mediaapi_media_repository")
    assert (await target.restore(Selection())).restored == [media.uri]
    assert await snapshot(store) == before


async def test_a_row_that_a_trigger_refuses_holds_up_no_other(
    store: DendriteStore, target: DendriteMedia, connection: Connection
) -> None:
    banned, others = await store.add(origin="banned.test"), [await store.add() for _ in range(2)]
    await target.run_pass(PassOptions(command="run"))
    await connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'it is banned'; END $$;"
        "CREATE TRIGGER banned BEFORE INSERT ON mediaapi_media_repository FOR EACH ROW"
        " WHEN (NEW.media_origin = 'banned.test') EXECUTE FUNCTION refuse()"
    )
    report = await target.restore(Selection())
    assert (sorted(report.restored), report.failed) == ([one.uri for one in others], [banned.uri])
    await target.sweep(everything=True)
    await connection.execute("DROP TRIGGER banned ON mediaapi_media_repository")
    assert (await target.restore(Selection())).restored == [banned.uri]


async def test_a_restore_of_one_pass_leaves_the_others_in_quarantine(
    store: DendriteStore, target: DendriteMedia
) -> None:
    first = await store.add(content=b"of both")
    one = await target.run_pass(PassOptions(command="run"))
    await store.add()
    await store.add(content=b"of both", origin="elsewhere.test")
    await target.run_pass(PassOptions(command="run"))
    await target.restore(Selection(pass_id=one.pass_id))
    assert set(await store.rows()) == {first.key}


async def test_of_a_key_that_went_twice_the_newer_content_comes_back(
    store: DendriteStore, target: DendriteMedia
) -> None:
    # Contents come back in the order of their hashes: with many, the newer is the later one of some.
    older = [await store.add(content=b"older %d" % number) for number in range(8)]
    await target.run_pass(PassOptions(command="run"))
    newer = [
        await store.add(media_id=media.key.media_id, content=b"newer %d" % number)
        for number, media in enumerate(older)
    ]
    await target.run_pass(PassOptions(command="run"))
    for batch_wise in (Selection(media=older[0].uri), Selection()):
        await target.restore(batch_wise)
    assert {key: row.base64hash for key, row in (await store.rows()).items()} == {
        media.key: media.base64hash for media in newer
    }


async def test_a_row_that_came_back_meanwhile_wins(store: DendriteStore, target: DendriteMedia) -> None:
    media = await store.add()
    await target.run_pass(PassOptions(command="run"))
    await store.add(media_id=media.key.media_id, content=media.content, upload_name="anew", age=timedelta(0))
    rows, files = await store.rows(), store.files()
    report = await target.restore(Selection())
    assert (report.restored, report.present) == ([], [media.uri])
    assert await store.rows() == rows
    assert store.files() == files


async def test_a_row_that_comes_back_in_the_midst_of_a_restore_wins(
    store: DendriteStore, target: DendriteMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    await target.run_pass(PassOptions(command="run"))
    bring_files = restoring._bring_files

    async def fetched_meanwhile(*arguments: Any) -> Any:
        failed = await bring_files(*arguments)
        await store.add(media_id=media.key.media_id, content=media.content, upload_name="anew")
        return failed

    monkeypatch.setattr(restoring, "_bring_files", fetched_meanwhile)
    report = await target.restore(Selection())
    assert report.restored == []
    assert [row.upload_name for row in (await store.rows()).values()] == ["anew"]
    assert await store.thumbnail_rows() == []
    assert await store.dead_references() == []


async def test_a_file_that_dendrite_made_anew_stays(store: DendriteStore, target: DendriteMedia) -> None:
    media = await store.add()
    await target.run_pass(PassOptions(command="run"))
    store.write_file(media.base64hash, "file", media.content)
    made = (store.path_of(media.base64hash) / "file").stat().st_ino
    await target.restore(Selection())
    assert set(await store.rows()) == {media.key}
    assert (store.path_of(media.base64hash) / "file").stat().st_ino == made


async def test_half_a_file_in_the_place_gives_way_to_ours(
    store: DendriteStore, target: DendriteMedia
) -> None:
    media = await store.add()
    await target.run_pass(PassOptions(command="run"))
    store.write_file(media.base64hash, "file", media.content[:7])
    await target.restore(Selection())
    assert (store.path_of(media.base64hash) / "file").read_bytes() == media.content


async def test_no_directory_that_comes_back_is_closed_to_dendrite_however_briefly(
    store: DendriteStore, target: DendriteMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await store.add()
    store.path_of(media.base64hash).chmod(0o755)
    await target.run_pass(PassOptions(command="run"))
    seen = []
    rename = os.rename

    def look_at_once(*arguments: Any, **keywords: Any) -> None:
        rename(*arguments, **keywords)
        # dendrite panics on a directory that it may not search.
        if store.path_of(media.base64hash).exists():
            seen.append(store.path_of(media.base64hash).stat().st_mode & 0o777)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", look_at_once)
        await target.restore(Selection())
    assert seen == [0o755]


async def test_a_second_restore_is_harmless(
    store: DendriteStore, target: DendriteMedia, connection: Connection
) -> None:
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    await target.run_pass(PassOptions(command="run"))
    await target.restore(Selection())
    before = await snapshot(store)
    report = await target.restore(Selection())
    assert (report.restored, report.failed, report.busy) == ([], [], [])
    assert await snapshot(store) == before
    assert await connection.fetchval("SELECT restored_items FROM retentiond.pass") == 1
    assert media.key in before[0]


async def test_the_ledger_says_who_brought_what_back_when_and_why(
    store: DendriteStore, target: DendriteMedia, connection: Connection
) -> None:
    media = await store.add()
    await target.run_pass(PassOptions(command="run"))
    await target.restore(
        Selection(media=media.uri, reason="asked for by its owner", keep_for=timedelta(days=90))
    )
    said = await connection.fetchrow(
        "SELECT media_id, media_origin, restored_by, reason, clock_timestamp() - restored_at < interval '1 minute' AS now,"
        " until - restored_at BETWEEN interval '89 days' AND interval '91 days' AS quarter FROM retentiond.restored"
    )
    assert said is not None
    assert tuple(said) == (*media.key, actor(), "asked for by its owner", True, True)


async def test_what_was_brought_back_is_kept_by_the_passes_that_follow(
    store: DendriteStore, target: DendriteMedia
) -> None:
    media = await store.add()
    await target.run_pass(PassOptions(command="run"))
    await target.restore(Selection())
    report = await target.run_pass(PassOptions(command="run"))
    assert (report.removed_items, report.kept["restored"]) == (0, 1)
    assert set(await store.rows()) == {media.key}


async def test_what_was_brought_back_for_a_time_goes_when_that_is_over(
    store: DendriteStore, target: DendriteMedia, connection: Connection
) -> None:
    await store.add()
    await target.run_pass(PassOptions(command="run"))
    await target.restore(Selection(keep_for=timedelta(days=90)))
    await connection.execute("UPDATE retentiond.restored SET until = until - interval '91 days'")
    report = await target.run_pass(PassOptions(command="run"))
    assert (report.removed_items, report.kept["restored"]) == (1, 0)


async def test_what_was_brought_back_for_no_time_at_all_is_not_kept_for_good(
    store: DendriteStore, target: DendriteMedia
) -> None:
    await store.add()
    await target.run_pass(PassOptions(command="run"))
    await target.restore(Selection(keep_for=timedelta(0)))
    assert (await target.run_pass(PassOptions(command="run"))).removed_items == 1


async def test_a_restore_purges_nothing_of_what_it_is_asked_for(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add()
    async with retention.opened(grace="10m", settle="10m") as target:
        await target.run_pass(PassOptions(command="run"))
        await target.sweep(everything=False)
        # Grace and settle were over an hour ago, and nobody has swept since.
        await connection.execute(
            "UPDATE retentiond.released_media SET grace_until = grace_until - interval '1 hour'"
        )
        await connection.execute(
            "UPDATE retentiond.entry SET renamed_at = renamed_at - interval '1 hour',"
            " looked_at = looked_at - interval '59 minutes'"
        )
        assert (await target.restore(Selection())).restored == [media.uri]
        await target.sweep(everything=True)
    assert await store.broken_references() == []


async def test_a_row_that_had_no_file_stays_away_and_is_named(
    store: DendriteStore, target: DendriteMedia
) -> None:
    whole = await store.add()
    media = await store.add(file=False)
    await target.run_pass(PassOptions(command="run"))
    report = await target.restore(Selection())
    assert (report.restored, report.without_file) == ([whole.uri], [media.uri])
    assert set(await store.rows()) == {whole.key}


async def test_a_restore_that_would_insert_no_row_moves_no_file(
    store: DendriteStore, target: DendriteMedia
) -> None:
    # dendrite answers 404 for a file of another size than its row says.
    media = await store.add(size=3)
    await target.run_pass(PassOptions(command="run"))
    lying = store.left_of_ours()
    report = await target.restore(Selection())
    assert (report.restored, report.without_file) == ([], [media.uri])
    assert store.files() == {}
    assert store.left_of_ours() == lying


async def test_a_row_whose_file_has_another_size_is_not_counted_among_those_that_can_come_back(
    store: DendriteStore, target: DendriteMedia
) -> None:
    whole, unknown = await store.add(), await store.add(size=-1)
    damaged = await store.add(size=3)
    await target.run_pass(PassOptions(command="run"))
    quarantine = (await target.status()).quarantine
    assert quarantine is not None
    assert quarantine.items == 2
    states = {released.media: released.state async for released in target.released()}
    assert states == {whole.uri: "quarantined", unknown.uri: "quarantined", damaged.uri: "size_mismatch"}
    assert len((await target.restore(Selection())).restored) == quarantine.items


async def test_what_the_disk_does_not_give_back_is_named_and_can_be_tried_again(
    store: DendriteStore, target: DendriteMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await store.add()
    other = await store.add()
    await target.run_pass(PassOptions(command="run"))
    with monkeypatch.context() as broken:
        link = os.link

        def refuse(source: str, *arguments: Any, **keywords: Any) -> None:
            if f"/{media.base64hash}." in os.readlink(f"/proc/self/fd/{keywords['src_dir_fd']}"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            link(source, *arguments, **keywords)

        broken.setattr(os, "link", refuse)
        report = await target.restore(Selection())
    assert (report.restored, report.failed, report.without_file) == ([other.uri], [media.uri], [])
    assert await store.dead_references() == []
    await target.sweep(everything=True)
    assert (await target.restore(Selection())).restored == [media.uri]
    assert await store.broken_references() == []


async def test_restoring_beside_sweeps_and_passes_of_a_daemon_is_safe(
    store: DendriteStore, retention: Retention
) -> None:
    media = [await store.add(thumbnails=COMMON_THUMBNAILS[:1]) for _ in range(12)]
    await retention.one_pass()
    before = store.files()
    assert before == {}
    async with (
        retention.opened(pace={"batch": 2}) as daemon,
        retention.opened() as target,
    ):
        done = asyncio.Event()

        async def keep_going() -> None:
            while not done.is_set():
                await daemon.sweep(everything=True)
                await daemon.run_pass(PassOptions(command="run"))

        async with asyncio.TaskGroup() as group:
            group.create_task(keep_going())
            for each in media:
                report = await target.restore(Selection(media=each.uri))
                # A sweep may have it in its hands, and then says so.
                while report.busy:
                    report = await target.restore(Selection(media=each.uri))
                assert (report.restored, report.without_file) == ([each.uri], [])
            done.set()
    assert await store.broken_references() == []
    assert len(await store.rows()) == len(media)
    assert len(await store.thumbnail_rows()) == len(media)
