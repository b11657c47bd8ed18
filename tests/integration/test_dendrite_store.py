"""The judge of the other tests must itself be right: what it calls broken is broken, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from tests.support.database import DatabaseServer
    from tests.support.store import DendriteStore


async def test_a_store_as_it_was_made_has_no_broken_reference_and_no_orphan(store: DendriteStore) -> None:
    await store.add(thumbnails=[(32, 32, "crop")])
    await store.add(base64hash="../../etc", content=b"x")
    await store.add(file=False)
    assert await store.broken_references() == []
    assert await store.orphan_files() == []
    assert await store.orphan_thumbnail_rows() == []


async def test_a_row_whose_file_went_is_a_broken_reference(store: DendriteStore) -> None:
    media = await store.add()
    (store.path_of(media.base64hash) / "file").unlink()
    (broken,) = await store.broken_references()
    assert media.uri in broken
    assert "missing" in broken


async def test_a_row_whose_file_changed_is_a_broken_reference(store: DendriteStore) -> None:
    media = await store.add()
    (store.path_of(media.base64hash) / "file").write_bytes(b"other")
    assert "damaged" in (await store.broken_references())[0]


async def test_a_thumbnail_row_whose_file_went_is_a_broken_reference(store: DendriteStore) -> None:
    media = await store.add(thumbnails=[(32, 32, "crop"), (640, 480, "scale")])
    (store.path_of(media.base64hash) / "thumbnail-640x480-scale").unlink()
    (broken,) = await store.broken_references()
    assert "thumbnail-640x480-scale" in broken


async def test_a_file_without_a_row_is_an_orphan(
    store: DendriteStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    media = await store.add(thumbnails=[(32, 32, "crop")])
    await connection.execute("DELETE FROM mediaapi_media_repository")
    assert await store.broken_references() == []
    assert len(await store.orphan_files()) == 2
    assert [row.key for row in await store.orphan_thumbnail_rows()] == [media.key]


async def test_two_rows_of_one_content_share_one_directory(store: DendriteStore) -> None:
    first = await store.add(content=b"same", age=timedelta(days=1))
    second = await store.add(content=b"same", media_id="other", origin="elsewhere.test:8448")
    assert first.base64hash == second.base64hash
    assert list(store.files().values()) == [b"same"]
    assert len(await store.rows()) == 2


async def test_a_clone_knows_nothing_of_what_another_holds(
    postgres: DatabaseServer, store: DendriteStore
) -> None:
    await store.add()
    dsn = await postgres.clone()
    try:
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT count(*) FROM mediaapi_media_repository") == 0
        await connection.close()
    finally:
        await postgres.drop(dsn)
