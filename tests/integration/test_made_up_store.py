"""The demo's store is what it says: whole in every row, but for the accidents that it names."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from PIL import Image

from retentiond.demo.store import SERVER_NAME, MadeUpStore, make_tables, make_up_store
from retentiond.model.errors import UsageError
from tests.support.store import DendriteStore, hash_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.database import DatabaseServer

    Connection = asyncpg.Connection[asyncpg.Record]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MEDIA = 300


@pytest.fixture
async def made(connection: Connection, media_path: Path) -> MadeUpStore:
    return await make_up_store(connection, media_path, MEDIA, seed=1, now=NOW)


async def test_each_row_has_its_file_but_for_the_one_that_is_named(
    made: MadeUpStore, store: DendriteStore
) -> None:
    files = store.files()
    rows = await store.rows()
    assert len(rows) == made.rows == MEDIA
    without = []
    for row in rows.values():
        content = files.get(str((store.path_of(row.base64hash) / "file").relative_to(store.media_path)))
        if content is None:
            without.append(row.key)
        else:
            assert (len(content), hash_of(content)) == (row.file_size_bytes, row.base64hash)
    assert without == [made.cases.missing]


async def test_each_thumbnail_row_has_its_file_but_for_the_one_that_is_named(
    made: MadeUpStore, store: DendriteStore
) -> None:
    files = store.files()
    rows = await store.rows()
    thumbnails = await store.thumbnail_rows()
    assert len(thumbnails) == made.thumbnail_rows
    without = []
    for thumbnail in thumbnails:
        if thumbnail.key not in rows:
            without.append(thumbnail.key)
            continue
        path = store.path_of(rows[thumbnail.key].base64hash) / thumbnail.file_name
        assert len(files[str(path.relative_to(store.media_path))]) == thumbnail.file_size_bytes
    assert without == [made.cases.orphan_thumbnail]


async def test_no_file_lacks_a_row_but_those_of_the_orphan_that_is_named(
    made: MadeUpStore, store: DendriteStore
) -> None:
    files = store.files()
    assert (len(files), sum(map(len, files.values()))) == (made.files, made.size)
    blob = str(store.path_of(made.cases.orphan_blob).relative_to(store.media_path))
    orphans = await store.orphan_files()
    assert f"{blob}/file" in orphans
    assert {path.rpartition("/")[0] for path in orphans} == {blob}


async def test_every_picture_and_thumbnail_opens(made: MadeUpStore, store: DendriteStore) -> None:
    encrypted = {row.base64hash for row in (await store.rows()).values() if row.content_type != "image/jpeg"}
    assert encrypted
    for path, content in store.files().items():
        if "".join(path.split("/")[:3]) in encrypted:
            continue
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            assert picture.format == "JPEG"


async def test_a_month_for_remote_media_takes_a_third_of_the_rows(
    made: MadeUpStore, store: DendriteStore
) -> None:
    cutoff = (NOW - timedelta(days=30)).timestamp() * 1000
    old = {row.key for row in (await store.rows()).values() if not row.user_id and row.creation_ts < cutoff}
    references = made.cases.references
    protected = {references.profile_avatar[1], references.member_avatar, references.room_avatar}
    protected |= {*references.room_emoji, *references.personal_emoji}
    assert protected < old
    assert {made.cases.shared_leaving, made.cases.missing, made.cases.restorable} < old - protected
    assert references.replaced_avatar in old - protected
    assert made.cases.shared_staying not in old
    assert 0.3 <= len(old - protected) / MEDIA <= 0.4
    assert len(old) / MEDIA < 0.5


async def test_a_shared_content_has_the_thumbnail_rows_of_its_first_row_only(
    made: MadeUpStore, store: DendriteStore
) -> None:
    rows = await store.rows()
    leaving, staying = rows[made.cases.shared_leaving], rows[made.cases.shared_staying]
    assert leaving.base64hash == staying.base64hash
    assert (leaving.user_id, staying.media_origin) == ("", SERVER_NAME)
    keys = {thumbnail.key for thumbnail in await store.thumbnail_rows()}
    assert leaving.key in keys
    assert staying.key not in keys


async def test_the_references_stand_where_dendrite_has_them(
    made: MadeUpStore, connection: Connection
) -> None:
    references = made.cases.references
    user, avatar = references.profile_avatar
    profile = "SELECT avatar_url FROM userapi_profiles WHERE localpart = $1"
    assert await connection.fetchval(profile, user) == avatar.uri
    content = "SELECT headered_event_json::json->'content' FROM syncapi_current_room_state WHERE type = $1"
    events = {
        event_type: " ".join(record[0] for record in await connection.fetch(content, event_type))
        for event_type in ("m.room.member", "m.room.avatar", "im.ponies.room_emotes")
    }
    assert references.member_avatar.uri in events["m.room.member"]
    assert references.replaced_avatar.uri not in events["m.room.member"]
    assert references.room_avatar.uri in events["m.room.avatar"]
    assert all(key.uri in events["im.ponies.room_emotes"] for key in references.room_emoji)
    kept = await connection.fetchval("SELECT content FROM userapi_account_datas WHERE localpart = $1", user)
    assert all(key.uri in kept for key in references.personal_emoji)


async def test_the_same_seed_and_time_make_the_same_store(
    made: MadeUpStore, store: DendriteStore, postgres: DatabaseServer, tmp_path: Path
) -> None:
    dsn = await postgres.clone()
    connection = await asyncpg.connect(dsn)
    try:
        again = await make_up_store(connection, tmp_path / "again", MEDIA, seed=1, now=NOW)
        assert again == made
        other = DendriteStore(connection, tmp_path / "again")
        assert await other.rows() == await store.rows()
        assert other.files() == store.files()
    finally:
        await connection.close()
        await postgres.drop(dsn)


async def test_the_tables_are_made_in_an_empty_database(connection: Connection) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await make_tables(connection)
    assert await connection.fetchval("SELECT count(*) FROM mediaapi_media_repository") == 0


async def test_a_directory_that_holds_anything_is_refused_and_left_alone(
    connection: Connection, store: DendriteStore
) -> None:
    (store.media_path / "precious").write_bytes(b"x")
    with pytest.raises(UsageError, match="not empty"):
        await make_up_store(connection, store.media_path, MEDIA, seed=1, now=NOW)
    assert store.files() == {"precious": b"x"}
    assert await store.rows() == {}


async def test_too_few_media_are_refused(connection: Connection, media_path: Path) -> None:
    with pytest.raises(UsageError, match="ask for 25 or more"):
        await make_up_store(connection, media_path, 24, seed=1, now=NOW)
