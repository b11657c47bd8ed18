"""A ledger of an older version: brought up to date with all that it has, and never read as if it were of this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import Selection
from retentiond.ledger import ledger as ledgers
from retentiond.ledger import migrations
from retentiond.ledger.ledger import Ledger
from retentiond.ledger.migrations import VERSION
from retentiond.model.errors import UnreachableError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.targets.chat_database.context import SCHEMA as CHATS
from retentiond.targets.dendrite_media.database.rows import SCHEMA as MEDIA

if TYPE_CHECKING:
    import asyncpg

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

VERSION_1 = Path(__file__).with_name("ledger_version_1.sql").read_text()
SHAPE = """
SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
       || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || a.attidentity::text || a.attcollation::regcollation AS part
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'retentiond'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT c.relname || ' ' || c.relkind::text || c.relpersistence::text FROM pg_class c WHERE c.relnamespace = 'retentiond'::regnamespace
UNION ALL
SELECT indexdef FROM pg_indexes WHERE schemaname = 'retentiond'
UNION ALL
SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'retentiond'::regnamespace AND contype <> 'n'
UNION ALL
SELECT viewname || definition FROM pg_views WHERE schemaname = 'retentiond'
"""


async def shape(connection: Connection) -> set[str]:
    return {row["part"] for row in await connection.fetch(SHAPE)}


async def make_older(connection: Connection) -> None:
    """Turn the ledger into one of version 1, with all the rows that such a one can have."""
    await connection.execute("ALTER SCHEMA retentiond RENAME TO newer")
    await connection.execute(VERSION_1)
    columns = await connection.fetch(
        "SELECT o.relname AS table, string_agg(quote_ident(a.attname), ', ') AS columns "
        "FROM pg_class o JOIN pg_attribute a ON a.attrelid = o.oid "
        "JOIN pg_class n ON n.relname = o.relname AND n.relnamespace = 'newer'::regnamespace "
        "JOIN pg_attribute b ON b.attrelid = n.oid AND b.attname = a.attname "
        "WHERE o.relnamespace = 'retentiond'::regnamespace AND o.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped "
        "GROUP BY 1"
    )
    # The tables that begin with a row.
    await connection.execute(
        "DELETE FROM retentiond.store; DELETE FROM retentiond.lease; DELETE FROM retentiond.record_chain"
    )
    for row in columns:
        table, names = row["table"], row["columns"]
        # Until version 5 they were JSON.
        values = ", ".join(
            "to_jsonb(thumbnails)" if name == "thumbnails" else name for name in names.split(", ")
        )
        await connection.execute(
            f"INSERT INTO retentiond.{table} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {values} FROM newer.{table}"
        )
    sequences = await connection.fetch(
        "SELECT s.relname AS name FROM pg_class s WHERE s.relnamespace = 'retentiond'::regnamespace AND s.relkind = 'S'"
    )
    for row in sequences:
        await connection.execute(
            f"SELECT setval('retentiond.{row['name']}', s.last_value, s.is_called) FROM newer.{row['name']} s"
        )
    await connection.execute("UPDATE retentiond.ledger_version SET version = 1; DROP SCHEMA newer CASCADE")


async def test_a_ledger_that_is_brought_up_to_date_has_the_shape_of_a_new_one(connection: Connection) -> None:
    await Ledger().make(connection, MEDIA, CHATS)
    new = await shape(connection)
    await make_older(connection)
    assert await shape(connection) != new
    await Ledger().make(connection, MEDIA, CHATS)
    assert await shape(connection) == new
    assert await connection.fetchval("SELECT version FROM retentiond.ledger_version") == VERSION


async def test_what_a_ledger_of_version_1_has_in_quarantine_comes_back_and_its_holds_hold(
    connection: Connection, retention: Retention, store: DendriteStore
) -> None:
    media = [await store.add() for _ in range(3)]
    held = await store.add()
    before = await store.rows(), store.files()
    async with retention.opened() as target:
        await target.holds.add(HoldRequest(HoldSubject("media", held.uri)))
    assert (await retention.one_pass()).removed_items == 3
    await make_older(connection)
    async with retention.opened() as target:
        report = await target.restore(Selection())
    assert len(report.restored) == len(media)
    assert (await store.rows(), store.files()) == before
    assert (await retention.one_pass()).kept == {"hold": 1, "restored": 3}


async def test_a_plan_over_an_older_ledger_changes_nothing_and_says_what_updates_it(
    connection: Connection, retention: Retention, store: DendriteStore
) -> None:
    await store.add()
    await Ledger().make(connection, MEDIA)
    await make_older(connection)
    older = await shape(connection)
    with pytest.raises(
        UnreachableError, match=r"is of version 1, .*; the next pass, or the daemon, updates it"
    ):
        await retention.one_plan()
    assert await shape(connection) == older
    assert (await retention.one_pass()).removed_items == 1


async def test_a_ledger_of_a_newer_program_is_refused_and_stays_as_it_is(
    connection: Connection, retention: Retention, store: DendriteStore
) -> None:
    await store.add()
    await Ledger().make(connection, MEDIA)
    await connection.execute("UPDATE retentiond.ledger_version SET version = $1", VERSION + 1)
    with pytest.raises(UnreachableError, match="run the retentiond that made it, or a newer one"):
        await retention.one_pass()
    assert len(await store.rows()) == 1
    assert await connection.fetchval("SELECT version FROM retentiond.ledger_version") == VERSION + 1


async def test_a_program_that_finds_no_entry_on_the_shelves_of_today_is_refused(
    connection: Connection, retention: Retention, store: DendriteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of ledger version 3 purged such entries without their files, and restored rows of none of them."""
    await store.add()
    await retention.one_pass()
    with monkeypatch.context() as older:
        older.setattr(ledgers, "VERSION", 3)
        older.setattr(migrations, "VERSION", 3)
        with pytest.raises(UnreachableError, match="run the retentiond that made it, or a newer one"):
            await Ledger().make(connection, MEDIA)
    # The ledger of such a program is brought up to date by the next one that works on it.
    await connection.execute(
        "UPDATE retentiond.ledger_version SET version = 3; UPDATE retentiond.ledger_part SET version = 3; "
        "DROP TABLE retentiond.sample; "
        "ALTER TABLE retentiond.host_clock DROP CONSTRAINT host_clock_pkey, DROP target, ADD PRIMARY KEY (boot_id); "
        "ALTER TABLE retentiond.store DROP accepted_pass; "
        "ALTER TABLE retentiond.released_media ALTER thumbnails TYPE jsonb USING to_jsonb(thumbnails); "
        "ALTER TABLE retentiond.thumbnail_release ALTER thumbnails TYPE jsonb USING to_jsonb(thumbnails); "
        "DROP TYPE retentiond.thumbnail_copy"
    )
    async with retention.opened() as target:
        assert len((await target.restore(Selection())).restored) == 1
    assert await connection.fetchval("SELECT version FROM retentiond.ledger_version") == VERSION


async def test_an_update_that_breaks_off_leaves_the_ledger_as_it_was(connection: Connection) -> None:
    await Ledger().make(connection, MEDIA)
    await make_older(connection)
    older = await shape(connection)
    # The last statement of the first step finds its name taken.
    await connection.execute("ALTER TABLE retentiond.host_clock DROP CONSTRAINT host_clock_pkey")
    broken = await shape(connection)
    with pytest.raises(Exception, match="host_clock_pkey"):
        await Ledger().make(connection, MEDIA)
    assert await shape(connection) == broken
    await connection.execute("ALTER TABLE retentiond.host_clock ADD PRIMARY KEY (host)")
    assert await shape(connection) == older
    await Ledger().make(connection, MEDIA)
    assert await connection.fetchval("SELECT version FROM retentiond.ledger_version") == VERSION
