"""Sizes and dates of any value that a column holds cost their own row at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retentiond.engine.target import AuditOptions, NullProgress, PassOptions, Selection

if TYPE_CHECKING:
    import asyncpg

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

LARGEST = 2**63 - 1
SMALLEST = -(2**63)
EVERYTHING: dict[str, Any] = {
    "policies": [
        {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
        {"name": "small", "match": {"origin": "local"}, "keep": "30d", "remove": "thumbnails"},
    ],
    "quota": [{"match": {"origin": "remote"}, "max_size": "1GiB", "min_age": "1d"}],
    "grace": "1h",
    "settle": "0s",
}


async def fill(store: DendriteStore, connection: Connection) -> None:
    for size in (LARGEST, LARGEST, SMALLEST):
        media = await store.add(size=size, thumbnails=[(32, 32, "crop")])
        await connection.execute(
            "UPDATE mediaapi_thumbnail SET file_size_bytes = $1 WHERE media_id = $2", size, media.key.media_id
        )
        await store.add(size=size, origin="here.test", user_id="@a:here.test")
    for date in (LARGEST, SMALLEST, 0):
        media = await store.add(created_ms=date, thumbnails=[(32, 32, "crop")])
        await store.add(created_ms=date, origin="here.test", user_id="@a:here.test")


async def test_no_size_and_no_date_stops_anything(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await fill(store, connection)
    ordinary = await store.add()
    uris = [key.uri for key in await store.rows()]
    async with retention.opened(**EVERYTHING) as target:
        plan = await target.plan(None, NullProgress())
        assert (plan.refused, plan.error) == (None, None)
        await target.statistics(NullProgress())
        for uri in uris:
            await target.explain(uri, NullProgress())
        await target.audit(AuditOptions(command="audit"))
        report = await target.run_pass(PassOptions(command="run"))
        assert (report.refused, report.error) == (None, None)
        assert ordinary.key not in await store.rows()
        await target.check_quotas(PassOptions(command="run"))
        await target.sweep(everything=True)
        await target.status()
        async for _ in target.released():
            pass
        await target.restore(Selection())
