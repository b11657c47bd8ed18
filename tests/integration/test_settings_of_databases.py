"""What a database or a role is set to changes nothing of what goes, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from retentiond.engine.target import Selection
from tests.support.media_target import REMOTE, one_repair

if TYPE_CHECKING:
    import asyncpg

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]


async def set_to(connection: Connection, setting: str, value: str) -> None:
    """Give every later connection to this database a setting."""
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {database} SET {setting} TO {value}")


async def test_a_grace_in_days_is_as_long_in_a_zone_with_summer_time(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await set_to(connection, "timezone", "'Europe/Berlin'")
    # Summer time is no shorter than any of these steps, and so is the rest of the year: one of them leads from one to
    # the other, whatever the day of this test.
    graces = {timedelta(days=days) for days in (90, 180, 270)}
    for grace in graces:
        await store.add()
        await retention.one_pass(grace=f"{grace.days}d")
    rows = await connection.fetch("SELECT grace_until - released_at AS given FROM retentiond.released_media")
    # A moment of the release itself lies between the two.
    assert {timedelta(seconds=round(row["given"].total_seconds())) for row in rows} == graces


async def test_backslashes_that_a_database_reads_in_the_old_way_hide_no_reference(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await set_to(connection, "standard_conforming_strings", "off")
    kept, due = await store.add(), await store.add()
    await store.add_state_event("!r:there.test", "m.room.avatar", "", {"url": kept.uri})
    report = await retention.one_pass()
    assert (report.refused, report.removed_items) == (None, 1)
    assert due.key not in await store.rows()


async def test_names_that_a_database_tells_in_quotes_are_no_unknown_columns(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await set_to(connection, "quote_all_identifiers", "on")
    await store.add()
    report = await retention.one_pass()
    assert (report.refused, report.removed_items) == (None, 1)


async def test_logical_replication_of_all_tables_stops_nothing(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    # Of dendrite's own tables, too, its administrator must have seen to that.
    for table in ("mediaapi_media_repository", "mediaapi_thumbnail"):
        await connection.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    restored, purged = [await store.add(thumbnails=[(32, 32, "crop")]) for _ in range(2)]
    assert (await retention.one_pass(settle="0s")).removed_items == 2
    async with retention.opened(settle="0s") as target:
        assert (await target.restore(Selection(media=restored.uri))).restored == [restored.uri]
        assert (await target.end_grace()).failed == 0
    assert await connection.fetchval("SELECT count(*) FROM retentiond.entry") == 0
    await store.add_thumbnail(purged, (32, 32, "crop"), file=False)
    assert (await one_repair(retention)).repaired


async def test_tables_that_come_before_our_temporary_ones_are_left_alone(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await set_to(connection, "search_path", "public, pg_temp")
    tables = (
        "due",
        "matched",
        "content",
        "finding",
        "mention",
        "plan_reference",
        "plan_hold_media",
        "audited",
    )
    for table in tables:
        await connection.execute(f"CREATE TABLE public.{table} (hash text, media_id text, media_origin text)")
    quota = {"match": {"origin": "remote"}, "max_size": "1B", "min_age": "1d"}
    unreferenced = REMOTE | {"match": {"origin": "remote", "unreferenced": True}}
    keys: dict[str, Any] = {"policies": [unreferenced], "quota": [quota]}
    await store.add()
    await store.add(age=timedelta(days=10), file=False)
    await store.add(age=timedelta(days=10))
    assert (await retention.one_plan(**keys))[0].removed_items == 2
    assert (await retention.one_pass(**keys)).removed_items == 2
    assert (await one_repair(retention)).repaired
    for table in tables:
        assert await connection.fetchval(f"SELECT count(*) FROM public.{table}") == 0
