"""`quarantine purge` ends the grace of all, says what goes later, and can be taken back until then."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.support.media_target import REMOTE, let_pass
from tests.support.store import COMMON_THUMBNAILS, DendriteStore

if TYPE_CHECKING:
    import asyncpg

    from retentiond.targets.dendrite_media.target import DendriteMedia
    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]

SETTLED = timedelta(minutes=11)
LONG: dict[str, Any] = {"grace": "24h", "settle": "10m"}


async def graces(connection: Connection) -> list[Any]:
    """When the grace of each thing in quarantine ends."""
    rows = await connection.fetch(
        "SELECT grace_until FROM retentiond.released_media"
        " UNION ALL SELECT grace_until FROM retentiond.thumbnail_release"
        " UNION ALL SELECT grace_until FROM retentiond.entry WHERE grace_until IS NOT NULL"
    )
    return sorted(row["grace_until"] for row in rows)


async def pending(target: DendriteMedia) -> dict[str, Any]:
    status = await target.status()
    assert status.quarantine is not None
    return status.quarantine.pending()


async def test_a_purge_within_settle_leaves_all_of_it_pending_until_settle_is_over(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    for _ in range(2):
        await store.add(thumbnails=COMMON_THUMBNAILS)
    size = sum(len(content) for content in store.files().values())
    await retention.one_pass(**LONG)
    async with retention.opened(**LONG) as target:
        assert (await target.end_grace()).purged == 0
        status = await target.status()
        listed = [item.bytes async for item in target.released()]
        settled = await connection.fetchval("SELECT min(renamed_at + settle) FROM retentiond.entry")
        left = await pending(target)
        assert (left["items"], left["bytes"]) == (2, size)
        assert left["from"] == f"{settled:%Y-%m-%dT%H:%M:%SZ}"
        assert status.quarantine is not None
        assert (sum(listed), status.quarantine.bytes) == (size, size)
        await let_pass(connection, SETTLED)
        assert (await target.sweep(everything=False)).purged == 2
        assert await pending(target) == {"items": 0, "bytes": 0, "from": None}


async def test_a_purge_within_settle_forgets_no_row_whose_file_another_upload_keeps(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    local = await store.add(origin="here.test", user_id="@a:here.test", content=b"shared")
    remote = await store.add(content=b"shared")
    assert local.base64hash == remote.base64hash
    await retention.one_pass(**LONG)
    async with retention.opened(**LONG) as target:
        await target.end_grace()
        # It can come back, is listed until its settle is over, and is counted among what is purged then.
        settled = await connection.fetchval(
            "SELECT released_at + interval '10m' FROM retentiond.released_media"
        )
        assert [item.grace_until async for item in target.released()] == [settled]
        assert (left := await pending(target))["items"] == 1
        assert left["from"] == f"{settled:%Y-%m-%dT%H:%M:%SZ}"
        assert (await target.cancel_purge()).items == 1
        await target.end_grace()
        await let_pass(connection, SETTLED)
        await target.sweep(everything=False)
        assert [item async for item in target.released()] == []


async def test_a_purge_within_settle_lists_items_until_their_settle_is_over(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass(**LONG)
    async with retention.opened(**LONG) as target:
        await target.end_grace()
        listed = [item.grace_until async for item in target.released()]
        settled = await connection.fetchval("SELECT renamed_at + settle FROM retentiond.entry")
        assert listed == [settled]
        status = await target.status()
        assert status.quarantine is not None
        assert status.quarantine.until == settled


async def test_a_purge_that_is_cancelled_gives_each_its_own_grace_back(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    media = await store.add(thumbnails=COMMON_THUMBNAILS)
    await store.add(origin="here.test", user_id="@a:here.test", thumbnails=COMMON_THUMBNAILS)
    thumbs = {"name": "thumbs", "match": {"origin": "local"}, "keep": "30d", "remove": "thumbnails"}
    await retention.one_pass(**LONG, policies=[REMOTE, thumbs])
    await connection.execute(
        "INSERT INTO retentiond.entry (pass_id, hash, kind, state, files, bytes, settle, renamed_at, grace_until)"
        " VALUES (0, repeat('A', 43), 'thumbnails', 'quarantined', 1, 1, '10m', now(), now() + interval '1 year')"
    )
    before = await graces(connection)
    async with retention.opened(**LONG) as target:
        await target.end_grace()
        assert await graces(connection) != before
        # A second purge must not take the ended grace for the one to give back.
        await target.end_grace()
        cancelled = await target.cancel_purge()
        assert (cancelled.items, cancelled.busy) == (1, 0)
        assert await graces(connection) == before
        await let_pass(connection, SETTLED)
        assert (await target.sweep(everything=True)).purged == 0
        assert (await target.cancel_purge()).items == 0
    assert media.key not in await store.rows()
    kinds = await connection.fetch("SELECT content::jsonb ->> 'kind' AS kind FROM retentiond.record")
    assert [row["kind"] for row in kinds].count("grace_given_back") == 2


async def test_what_was_cancelled_is_not_purged_by_a_purge_that_had_looked_before(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass(**LONG)
    async with retention.opened(**LONG) as target:
        await target.end_grace()
        await let_pass(connection, SETTLED)
        assert await connection.fetchval("SELECT looked_at > renamed_at FROM retentiond.entry")
        assert (await target.cancel_purge()).items == 1
    # Its claim, with the ended grace in its snapshot, meets an entry that no sweep has looked at.
    assert await connection.fetchval("SELECT looked_at FROM retentiond.entry") is None


async def test_a_purge_that_has_begun_cannot_be_cancelled_and_is_counted(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    other = await store.add()
    await retention.one_pass(**LONG)
    async with retention.opened(**LONG) as target:
        await target.end_grace()
        await connection.execute(
            "UPDATE retentiond.entry SET claimed_by = 1000000 WHERE hash = $1", other.base64hash
        )
        cancelled = await target.cancel_purge()
    assert (cancelled.items, cancelled.busy) == (1, 1)
    ended = "SELECT base64hash FROM retentiond.released_media WHERE grace_before IS NOT NULL"
    assert [row["base64hash"] for row in await connection.fetch(ended)] == [other.base64hash]
