"""The rights that chats need in ClickHouse: exactly those that are named, each named where it is missing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.model.check import AccountRows
from retentiond.model.errors import MissingRightError
from retentiond.targets.chat_database.clickhouse.connection import ServerError, said
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import ChatStore
from tests.support.clickhouse_server import GRANTS
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    import asyncpg

    from tests.support.stats_table import Stats

CUTOFF = datetime(2023, 8, 21, tzinfo=UTC)


@pytest.fixture
async def filled(stats: Stats) -> Stats:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.add("other", first=CUTOFF - timedelta(hours=50), count=10)
    # Parts with rows of both take a mutation, others are dropped.
    await stats.do("OPTIMIZE TABLE t FINAL")
    return stats


async def test_a_user_with_exactly_the_named_rights_can_check_plan_and_purge(filled: Stats) -> None:
    granted = filled.as_user("granted")
    async with granted.opened() as store:
        assert await store.check() == []
        found = await store.look(["testcom", "acme"])
    assert dict(found.accounts) == {"testcom": AccountRows(0, None), "acme": AccountRows(100, "2023-08-18")}
    assert re.fullmatch(r"ClickHouse \d[\d.]+", found.version)
    planned = await granted.purge(Purge("acme", CUTOFF, purge_id=None, dry_run=True))
    assert (planned.state, planned.rows) == ("planned", 50)
    report = await granted.purge()
    assert (report.state, report.rows, report.error) == ("finished", 50, None)
    with pytest.raises(ServerError, match="Not enough privileges"):
        await granted.value("SELECT any(value) FROM t")


@pytest.mark.parametrize("place", range(len(GRANTS)))
async def test_each_right_that_is_missing_is_named_as_the_statement_that_grants_it(
    filled: Stats, place: int
) -> None:
    user = f"without_{place}"
    async with filled.as_user(user).opened() as store:
        with pytest.raises(MissingRightError) as missing:
            await store.check()
    assert missing.value.statements == (f"GRANT {GRANTS[place]} TO {user};",)


async def test_a_new_user_is_told_all_rights_at_once(filled: Stats) -> None:
    async with filled.as_user("stranger").opened() as store:
        with pytest.raises(MissingRightError) as missing:
            await store.check()
    assert list(missing.value.statements) == [f"GRANT {grant} TO stranger;" for grant in GRANTS]


async def test_a_missing_right_keeps_a_purge_by_hand_from_the_database_and_is_in_check_and_plan(
    filled: Stats, database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    chat = await chats.chat()
    section = filled.as_user("without_1").config.model_dump(exclude_unset=True)
    section |= {"password": "secret", "url": list(section["url"])}
    statement = f"GRANT {GRANTS[1]} TO without_1;"
    async with open_chat_database("chats", chats.config(clickhouse=section)) as target:
        check = await target.check()
    assert check.rights == [statement]
    assert [store.store for store in check.stores] == ["postgresql"]
    for dry_run in (True, False):
        report = await chats.purge(dry_run=dry_run, wish={"stores": ("clickhouse",)}, clickhouse=section)
        refused = report.refused or report.stores["clickhouse"].refused
        assert refused is not None
        assert refused.limit == "clickhouse_rights"
        assert statement in refused.hint
    assert await chats.chats() == {chat}
    assert await filled.left() == 100


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (
            (
                "Received ClickHouse exception, code: 60, server response: Code: 60. DB::Exception: Unknown table\n x. "
                "(UNKNOWN_TABLE) (version 26.9.2.1) (for url http://127.0.0.1:8123)"
            ),
            "Unknown table x. (UNKNOWN_TABLE)",
        ),
        (
            "Code: 341. DB::Exception: no room (NOT_ENOUGH_SPACE) (version 24.3.1 (official build))",
            "no room (NOT_ENOUGH_SPACE)",
        ),
        ("something else", "something else"),
        ("", ""),
    ],
)
def test_what_client_and_server_put_around_a_no_is_not_shown(told: str, shown: str) -> None:
    assert said(told) == shown
