"""An upgrade in place: entries on the shelves of an older version come back, and are purged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import Selection

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

LONE = ((32, 32, "crop"),)


@pytest.fixture
def older(media_path: Path) -> Path:
    """The quarantine's directory."""
    return media_path / ".retentiond/quarantine"


def put_on_older_shelves(quarantine: Path) -> int:
    """Put all entries on the shelves of their hashes, as versions up to 2 did; return how many."""
    entries = list(quarantine.glob("*/from-*/*.*"))
    for entry in entries:
        shelf = entry.parents[1] / entry.name[:2]
        shelf.mkdir(exist_ok=True)
        entry.rename(shelf / entry.name)
    for empty in quarantine.glob("*/from-*"):
        empty.rmdir()
    return len(entries)


def entries_in(quarantine: Path) -> int:
    """Return how many entries have their file, on any shelf."""
    return len(list(quarantine.rglob("file")))


async def test_what_an_older_version_quarantined_is_restored_whole(
    store: DendriteStore, retention: Retention, older: Path
) -> None:
    media = [await store.add(thumbnails=LONE) for _ in range(3)]
    before = await store.rows(), store.files()
    await retention.one_pass()
    assert put_on_older_shelves(older) == 3
    async with retention.opened() as target:
        # It is no stranger on the disk.
        assert (await target.sweep(everything=True)).unknown == 0
        report = await target.restore(Selection())
    assert len(report.restored) == len(media)
    assert (await store.rows(), store.files()) == before


async def test_what_an_older_version_quarantined_is_purged_with_its_shelves(
    store: DendriteStore, retention: Retention, older: Path, connection: Connection
) -> None:
    for _ in range(3):
        await store.add(thumbnails=LONE)
    await retention.one_pass(settle="0s")
    put_on_older_shelves(older)
    async with retention.opened(settle="0s") as target:
        assert (await target.end_grace()).purged == 3
    assert store.left_of_ours() == []
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0


async def test_a_blob_that_an_older_version_moved_without_saying_so_is_not_moved_twice(
    store: DendriteStore, retention: Retention, older: Path, connection: Connection
) -> None:
    """It was killed between rename and commit; dendrite has the same file again, and its row is not there yet."""
    media = await store.add()
    await retention.one_pass()
    put_on_older_shelves(older)
    await connection.execute(
        "UPDATE retentiond.entry SET state = 'intended', claimed_by = 1000000, renamed_at = NULL"
    )
    again = await store.add(media_id="again", content=media.content)
    async with retention.opened() as target:
        await target.sweep(everything=True)
        assert entries_in(older) == 1
        await target.sweep(everything=True)
    assert set(await store.rows()) == {again.key}
    assert await store.broken_references() == []


async def test_a_new_row_gets_its_file_back_from_an_older_shelf(
    store: DendriteStore, retention: Retention, older: Path
) -> None:
    media = await store.add(thumbnails=LONE)
    await retention.one_pass()
    put_on_older_shelves(older)
    await store.add(media_id="again", content=media.content, file=False)
    async with retention.opened() as target:
        assert (await target.sweep(everything=True)).returned == 1
    assert await store.broken_references() == []
