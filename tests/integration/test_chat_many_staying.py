"""Chats that stay, however many: a store lists and compares them in portions of a bounded size."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from retentiond.targets.chat_database.clickhouse import portions
from retentiond.targets.chat_database.clickhouse.connection import Server
from retentiond.targets.chat_database.database_chats import DatabaseChats
from retentiond.targets.chat_database.store import months
from tests.support.chats import CUTOFF, ChatStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg
    import pytest

    from retentiond.targets.chat_database.store import ChatId, Comparison
    from tests.support.stats_table import Stats

_CHATS = 1000
_MOST = 60


async def test_the_statements_for_chats_that_stay_are_so_many_and_each_names_a_bounded_number(
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    stats: Stats,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    # One each 11 hours; all keep a message with a file.
    began = f"timestamptz '{CUTOFF.isoformat()}' - interval '11 hours' * n"
    await connection.execute(
        "INSERT INTO pro.chatthread (threadid, created, modified, state) "
        f"SELECT n, {began}, {began}, 'closed' FROM generate_series(1, {_CHATS}) n;"
        "INSERT INTO pro.chatmessage (messageid, threadid, kind, created) "
        "SELECT threadid, threadid, 13, created FROM pro.chatthread"
    )
    await stats.make()
    await stats.do(
        "INSERT INTO TABLE t (account, created, threadid) "
        f"SELECT 'testcom', toDateTime('2023-08-21 00:00:00', 'UTC') - 39600 * (number + 1), number + 1 FROM numbers({_CHATS})"
    )
    # A chat that the database does not have, in the middle.
    await stats.row("testcom", CUTOFF.replace(month=2), 10**6)
    asked: list[str] = []
    sizes: list[int] = []
    rows, compare = Server.rows, DatabaseChats.compare

    async def listen(self: Server, statement: str, parameters: Mapping[str, Any], **how: Any) -> Any:
        asked.append(statement)
        return await rows(self, statement, parameters, **how)

    async def count(self: DatabaseChats, ids: Sequence[ChatId], **how: Any) -> Comparison:
        sizes.append(len(ids))
        return await compare(self, ids, **how)

    monkeypatch.setattr(Server, "rows", listen)
    monkeypatch.setattr(DatabaseChats, "compare", count)
    monkeypatch.setattr(portions, "_MOST_NUMBERS", _MOST)
    store = {"url": list(stats.config.url), "table": stats.config.table, "thread_column": "threadid"}
    report = await chats.purge(wish={"stores": ("clickhouse",)}, clickhouse=store)
    in_months = await connection.fetch(
        "SELECT date_trunc('month', created AT TIME ZONE 'UTC') AS month, count(*) AS chats "
        "FROM (SELECT created FROM pro.chatthread UNION ALL SELECT '2023-02-21Z') c GROUP BY 1"
    )
    oldest = await connection.fetchval("SELECT min(created) FROM pro.chatthread")
    pages = sum(ceil(row["chats"] / _MOST) for row in in_months)
    # A page that is full is followed by a look whether there is another; an empty month is looked at once.
    full = sum(row["chats"] % _MOST == 0 for row in in_months)
    empty = len(list(months(oldest, CUTOFF))) - len(in_months)
    listed = [statement for statement in asked if "SELECT DISTINCT" in statement]
    assert len(listed) == pages + full + empty
    assert (len(sizes), max(sizes), sum(sizes)) == (pages, _MOST, _CHATS + 1)
    assert (report.stores["clickhouse"].rows, report.stores["clickhouse"].kept) == (
        1,
        {"has_file_messages": _CHATS},
    )
    assert report.kept["has_file_messages"] == _CHATS
