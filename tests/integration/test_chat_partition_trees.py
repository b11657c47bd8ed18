"""Tables in many parts: partitions at several levels and heirs are purged; what is elsewhere is refused by its name."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.support.chats import CUTOFF, OLD, ChatStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MESSAGES = (
    "messageid bigint, threadid bigint NOT NULL REFERENCES pro.chatthread, kind int, message text, created timestamptz, "
    "sendername text, operatorid bigint"
)
RANGE = "FOR VALUES FROM ('2022-01-01Z') TO ('2023-01-01Z')"
TREES = {
    "by hash": [
        ("pro.chatmessage", None, None, "HASH (messageid)"),
        ("pro.h0", "pro.chatmessage", "FOR VALUES WITH (MODULUS 2, REMAINDER 0)", None),
        ("pro.h1", "pro.chatmessage", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)", None),
    ],
    "by range, then by list, then by hash": [
        ("pro.chatmessage", None, None, "RANGE (created)"),
        ("pro.y2022", "pro.chatmessage", RANGE, "LIST (kind)"),
        ("pro.y2022_visitors", "pro.y2022", "FOR VALUES IN (1)", "HASH (threadid)"),
        ("parts.y2022_visitors_0", "pro.y2022_visitors", "FOR VALUES WITH (MODULUS 2, REMAINDER 0)", None),
        ("parts.y2022_visitors_1", "pro.y2022_visitors", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)", None),
        ("pro.y2022_other", "pro.y2022", "DEFAULT", None),
        ("parts.other", "pro.chatmessage", "DEFAULT", None),
    ],
    "by list, then by range": [
        ("pro.chatmessage", None, None, "LIST (kind)"),
        ("parts.files", "pro.chatmessage", "FOR VALUES IN (13, 14)", None),
        ("parts.texts", "pro.chatmessage", "DEFAULT", "RANGE (created)"),
        ("parts.texts_2022", "parts.texts", RANGE, None),
        ("parts.texts_other", "parts.texts", "DEFAULT", None),
    ],
}


@pytest.fixture
async def chats(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> ChatStore:
    """A store, and a schema beside it for parts of its tables."""
    store = ChatStore(database, connection)
    await store.make()
    await connection.execute("CREATE SCHEMA parts")
    return store


@pytest.fixture
async def reader(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of somebody who reads meanwhile."""
    opened = await asyncpg.connect(database)
    try:
        yield opened
    finally:
        await opened.close()


async def divide_messages(chats: ChatStore, tree: str) -> None:
    """Make the table of messages anew, in parts."""
    await chats.connection.execute("DROP TABLE pro.chatmessage")
    for name, parent, values, further in TREES[tree]:
        begin = f"CREATE TABLE {name} " + (
            f"({MESSAGES})" if parent is None else f"PARTITION OF {parent} {values}"
        )
        await chats.connection.execute(begin + (f" PARTITION BY {further}" if further else ""))


@pytest.mark.parametrize("tree", TREES)
async def test_chats_whose_messages_are_in_partitions_at_several_levels_go_whole(
    chats: ChatStore, tree: str
) -> None:
    await divide_messages(chats, tree)
    for _ in range(4):
        # One message is below the partitions of 2022 as well.
        await chats.chat(messages=(OLD, OLD, OLD.replace(year=2020)))
    newer = await chats.chat(messages=(OLD, CUTOFF))
    files = await chats.chat(files=2)
    dry = await chats.purge(dry_run=True)
    report = await chats.purge()
    assert (report.state, report.chats) == ("finished", 4)
    assert dry.entities == report.entities
    # Of the chat with files the two texts go as well.
    assert report.entities["chatmessage"] == 14
    assert (report.kept["newer"], report.kept["has_file_messages"]) == (1, 1)
    assert await chats.chats() == {newer, files}
    assert await chats.connection.fetchval("SELECT count(*) FROM pro.chatmessage") == 4


async def test_chats_that_are_themselves_in_partitions_go_from_each_of_them(chats: ChatStore) -> None:
    await chats.connection.execute(
        "ALTER TABLE pro.chatthread RENAME TO before;"
        "CREATE TABLE pro.chatthread (LIKE pro.before INCLUDING DEFAULTS) PARTITION BY HASH (threadid);"
        "CREATE TABLE parts.t0 PARTITION OF pro.chatthread FOR VALUES WITH (MODULUS 2, REMAINDER 0) "
        "PARTITION BY LIST (state);"
        "CREATE TABLE parts.t0_closed PARTITION OF parts.t0 FOR VALUES IN ('closed');"
        "CREATE TABLE parts.t0_other PARTITION OF parts.t0 DEFAULT;"
        "CREATE TABLE parts.t1 PARTITION OF pro.chatthread FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        "CREATE INDEX ON pro.chatthread (threadid); DROP TABLE pro.before CASCADE"
    )
    for _ in range(6):
        await chats.chat()
    stays = {await chats.chat(state="chatting") for _ in range(4)}
    dry = await chats.purge(dry_run=True)
    report = await chats.purge()
    assert (report.state, report.chats) == ("finished", 6)
    assert dry.entities == report.entities
    assert await chats.chats() == stays
    assert await chats.torn() == set()


async def test_rows_of_heirs_go_with_those_of_their_table(chats: ChatStore) -> None:
    await chats.connection.execute("CREATE TABLE parts.archive () INHERITS (pro.chatmessage)")
    gone, stays = await chats.chat(), await chats.chat(state="chatting")
    await chats.connection.execute(
        f"INSERT INTO parts.archive (messageid, threadid, kind, created) "
        f"SELECT 1000 + n, CASE n WHEN 0 THEN {stays} ELSE {gone} END, 1, '2022-01-01Z' FROM generate_series(0, 5) n"
    )
    dry = await chats.purge(dry_run=True)
    report = await chats.purge()
    assert (report.state, report.chats, report.entities["chatmessage"]) == ("finished", 1, 7)
    assert dry.entities == report.entities
    assert await chats.connection.fetchval("SELECT array_agg(threadid) FROM parts.archive") == [stays]


@pytest.mark.parametrize(
    ("made", "told", "step"),
    [
        (
            "ALTER TABLE pro.chatrate RENAME TO rates; CREATE VIEW pro.chatrate AS SELECT * FROM pro.rates",
            "pro.chatrate is a view",
            "name the table behind the view",
        ),
        (
            "ALTER TABLE pro.chatrate RENAME TO rates; CREATE MATERIALIZED VIEW pro.chatrate AS SELECT * FROM pro.rates",
            "pro.chatrate is a materialized view",
            "name the table behind the view",
        ),
        (
            (
                "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; DROP TABLE pro.chatrate;"
                "CREATE FOREIGN TABLE pro.chatrate (rateid bigint, threadid bigint) SERVER far"
            ),
            "pro.chatrate is a foreign table",
            "configure a target for the server that has the rows",
        ),
        (
            (
                "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;"
                "ALTER TABLE pro.chatmessage RENAME TO before; DROP TABLE pro.before;"
                f"CREATE TABLE pro.chatmessage ({MESSAGES.replace('REFERENCES pro.chatthread', '')}) PARTITION BY RANGE (created);"
                "CREATE TABLE pro.y2022 PARTITION OF pro.chatmessage FOR VALUES FROM ('2022-01-01Z') TO ('2023-01-01Z') "
                "PARTITION BY LIST (kind);"
                "CREATE FOREIGN TABLE parts.cold PARTITION OF pro.y2022 DEFAULT SERVER far"
            ),
            "parts.cold (part of pro.y2022) is a foreign table",
            "detach a foreign partition first",
        ),
        (
            (
                "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;"
                "CREATE FOREIGN TABLE parts.cold () INHERITS (pro.chatmessage) SERVER far"
            ),
            "parts.cold (part of pro.chatmessage) is a foreign table",
            "configure a target for the server that has the rows",
        ),
        (
            # The name of Citus' access method, on PostgreSQL's own storage.
            (
                "CREATE ACCESS METHOD columnar TYPE TABLE HANDLER heap_tableam_handler; DROP TABLE pro.chatrate;"
                "CREATE TABLE pro.chatrate (rateid bigint, threadid bigint) USING columnar"
            ),
            "pro.chatrate is stored by the access method columnar",
            "move the table to the access method heap",
        ),
        (
            # The catalogue of Citus, as far as it is read; the extension itself cannot be had here.
            (
                "SET allow_system_table_mods = on; CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass);"
                "INSERT INTO pg_catalog.pg_dist_partition VALUES ('pro.chatmessage')"
            ),
            "pro.chatmessage is distributed by Citus",
            "Citus is not supported",
        ),
        (
            # And that of TimescaleDB.
            (
                "CREATE SCHEMA _timescaledb_catalog; CREATE TABLE _timescaledb_catalog.hypertable "
                "(schema_name name, table_name name); INSERT INTO _timescaledb_catalog.hypertable VALUES ('pro', 'chatmessage')"
            ),
            "pro.chatmessage is a hypertable of TimescaleDB",
            "hypertables are not supported",
        ),
    ],
    ids=[
        *(
            "a view",
            "a materialized view",
            "a foreign table",
            "a foreign partition",
            "a foreign heir",
            "columnar",
        ),
        *("Citus", "TimescaleDB"),
    ],
)
async def test_a_table_that_no_batch_can_delete_from_safely_is_refused_by_its_name(
    chats: ChatStore, made: str, told: str, step: str
) -> None:
    await chats.chat()
    await chats.connection.execute(made)
    for dry_run in (True, False):
        report = await chats.purge(dry_run=dry_run)
        assert (report.state, report.exit_status) == ("refused", 3)
        assert report.refused is not None
        assert told in str(report.refused.value)
        assert step in report.refused.hint
    assert len(await chats.chats()) == 1


async def test_a_partition_whose_detachment_was_broken_off_is_refused_with_the_statement_that_finishes_it(
    chats: ChatStore, reader: asyncpg.Connection[asyncpg.Record], database: str
) -> None:
    # No query on the table shows its rows, and no foreign key of it keeps their chats.
    await divide_messages(chats, "by list, then by range")
    chat = await chats.chat()
    # The one that finds fault with a partition by default has none.
    await chats.connection.execute(
        "DROP TABLE parts.texts_other; ALTER TABLE pro.chatmessage ALTER created SET NOT NULL"
    )
    async with reader.transaction():
        await reader.fetch("SELECT * FROM pro.chatmessage")
        other = await asyncpg.connect(database)
        with suppress(asyncpg.QueryCanceledError):
            await other.execute("SET lock_timeout = 0")
            await other.execute("SET statement_timeout = '500ms'")
            await other.execute("ALTER TABLE parts.texts DETACH PARTITION parts.texts_2022 CONCURRENTLY")
        await other.close()
    assert await chats.connection.fetchval("SELECT count(*) FROM pro.chatmessage") == 0
    report = await chats.purge()
    assert report.refused is not None
    assert "parts.texts_2022 (part of parts.texts) is being detached" in str(report.refused.value)
    finish = "ALTER TABLE parts.texts DETACH PARTITION parts.texts_2022 FINALIZE"
    assert finish in report.refused.hint
    assert await chats.chats() == {chat}
    await chats.connection.execute(finish)
    # It is a table of its own then, whose foreign key the layout does not name.
    report = await chats.purge()
    assert report.refused is not None
    assert "parts.texts_2022 (threadid) refers to chatthread" in str(report.refused.value)
    assert await chats.chats() == {chat}
