"""The usage of chats: by account, month and department, and the daily sample."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import NullProgress, PassOptions
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import UnreachableError
from retentiond.model.report import Tally
from retentiond.model.usage import NOT_KNOWN, OTHERS, UsageRow
from retentiond.targets.chat_database.context import SCHEMA
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import ChatStore
from tests.support.chatwoot import Chatwoot

if TYPE_CHECKING:
    import asyncpg

    from retentiond.config.chats import ChatTarget
    from retentiond.model.usage import UsageBy

    Connection = asyncpg.Connection[asyncpg.Record]

ACCOUNTS = {"testcom": {"schema": "pro"}, "(others)": {"schema": "second"}}


def at(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=UTC)  # type: ignore[arg-type, misc]


async def usage(config: ChatTarget, by: UsageBy, top: int = 1000) -> dict[str, int]:
    async with open_chat_database("chats", config) as target:
        rows = await target.usage(by, top, NullProgress())
    assert all(row.bytes == 0 for row in rows)
    return {row.key: row.items for row in rows}


async def filled(chats: ChatStore) -> dict[str, Any]:
    """Add chats to two accounts, and return the keys of the configuration."""
    second = ChatStore(chats.dsn, chats.connection, "second")
    await second.make()
    for store, dates in (
        (chats, (at(2022, 1, 31, 23, 30), at(2022, 3, 1), None)),
        (second, (at(2022, 1, 1),)),
    ):
        for created in dates:
            await store.chat(created=created, messages=())
    # A date that no chat can have, and one that the layout does not believe.
    await chats.chat(created=at(1999, 5, 5), messages=())
    await chats.connection.execute(
        "INSERT INTO pro.chatthread (threadid, created, state) VALUES (900, 'infinity', 'closed')"
    )
    await chats.connection.execute("INSERT INTO pro.department VALUES (7, 'support')")
    await chats.connection.execute("UPDATE pro.chatthread SET departmentid = 7 WHERE created < '2022-02-02'")
    await chats.connection.execute("UPDATE second.chatthread SET departmentid = 1")
    return {"accounts": ACCOUNTS}


async def test_chats_are_divided_by_account_month_and_department(chats: ChatStore) -> None:
    keys = await filled(chats)
    config = chats.config(**keys)
    assert await usage(config, "account") == {"testcom": 5, "\\(others)": 1}
    assert await usage(config, "month") == {NOT_KNOWN: 3, "2022-01": 2, "2022-03": 1}
    assert await usage(config, "department") == {NOT_KNOWN: 3, "testcom/7": 2, "\\(others)/1": 1}
    # The day is that of the target.
    elsewhere = chats.config(timezone="Europe/Moscow", **keys)
    assert await usage(elsewhere, "month") == {NOT_KNOWN: 3, "2022-01": 1, "2022-02": 1, "2022-03": 1}


async def test_the_rows_sum_up_to_the_chats_of_the_report_however_few_are_named(chats: ChatStore) -> None:
    config = chats.config(**await filled(chats))
    async with open_chat_database("chats", config) as target:
        report = (await target.statistics(NullProgress())).total
        for by in target.divisions:
            for top in (1, 2, 1000):
                rows = await target.usage(by, top, NullProgress())
                assert Tally(sum(row.items for row in rows), sum(row.bytes for row in rows)) == report
                assert len([row for row in rows if row.key != OTHERS]) <= top


async def test_a_sample_of_chats_has_the_accounts_and_what_passes_took(
    chats: ChatStore, connection: Connection
) -> None:
    keys = await filled(chats)
    keys["accounts"] = ACCOUNTS | {"testcom": {"schema": "pro", "keep": "400d"}}
    async with open_chat_database("chats", chats.config(**keys)) as target:
        assert not await target.take_sample("once", NullProgress())
        await Ledger().make(connection, SCHEMA)
        assert await target.take_sample("once", NullProgress())
        assert not await target.take_sample("once", NullProgress())
        await connection.execute("UPDATE retentiond.sample SET day = day - 1")
        report = await target.run_pass(PassOptions("run"))
        assert await target.take_sample("run", NullProgress())
        before, after = await target.samples()
    assert report.removed_items > 0
    assert before.stored == Tally(6, 0)
    assert before.largest == {"account": (UsageRow("testcom", 5, 0), UsageRow("\\(others)", 1, 0))}
    assert (before.classes, before.free_bytes) == ({}, None)
    assert after.stored.items == 6 - report.removed_items
    assert after.taken == Tally(report.removed_items, 0)


async def test_a_layout_with_a_department_that_the_tables_lack_still_purges_and_usage_says_what_to_do(
    database: str, connection: Connection
) -> None:
    chatwoot = Chatwoot(database, connection)
    await chatwoot.make()
    config = chatwoot.config()
    with pytest.raises(
        UnreachableError, match=r"conversations\.team_id, is missing.*`department` in a copy of"
    ):
        await usage(config, "department")
    assert set(await usage(config, "account")) <= set(config.accounts)
    await connection.execute("ALTER TABLE conversations ADD team_id bigint")
    assert await usage(config, "department") == {}
