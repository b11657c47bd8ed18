"""A table of statistics in ClickHouse that a test writes, and purges of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from retentiond.config.chat_stores import ClickHouseStore
from retentiond.engine.target import NullProgress
from retentiond.targets.chat_database.clickhouse.connection import only_value, open_server
from retentiond.targets.chat_database.clickhouse.store import ClickHouse, open_clickhouse
from retentiond.targets.chat_database.store_access import PollPolicy
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.model.purge import StoreReport

CUTOFF = datetime(2023, 8, 21, tzinfo=UTC)
QUICK = PollPolicy(between=0.05)
"""With what gets on, however slowly."""
IMPATIENT = PollPolicy(between=0.05, stalled=1.5)
"""With what never gets on."""


class Stats:
    """A table of statistics, made anew for each test."""

    def __init__(self, url: str) -> None:
        self.config = ClickHouseStore(url=url, table="retentiond_test.thread", thread_column="threadid")

    async def make(
        self,
        *,
        date: str = "DateTime('UTC')",
        engine: str = "MergeTree",
        order: str = "(account, created)",
        partition: str | None = "toYYYYMM(created)",
        others: str = "",
    ) -> None:
        """Make the table."""
        async with open_server(self.config) as server:
            await server.do("DROP DATABASE IF EXISTS retentiond_test SYNC", {})
            await server.do("CREATE DATABASE retentiond_test", {})
            by = f"PARTITION BY {partition}" if partition else ""
            columns = f"account String, created {date}, threadid Nullable(Int64), value String{others}"
            order_by = f"ORDER BY {order} SETTINGS old_parts_lifetime = 480" if "MergeTree" in engine else ""
            await server.do(
                f"CREATE TABLE retentiond_test.thread ({columns}) ENGINE = {engine} {by} {order_by}", {}
            )

    async def add(
        self, account: str = "acme", *, first: datetime, count: int, every: timedelta = timedelta(hours=1)
    ) -> None:
        """Add rows, one every so often; their chats are numbered from 1."""
        statement = (
            "INSERT INTO retentiond_test.thread (account, created, threadid, value) SELECT {account:String}, "
            "toDateTime({first:Int64}, 'UTC') + number * {every:Int64}, number + 1, repeat('x', 20) FROM numbers({count:Int64})"
        )
        values = {
            "account": account,
            "first": int(first.timestamp()),
            "every": int(every.total_seconds()),
            "count": count,
        }
        async with open_server(self.config) as server:
            await server.do(statement, values)

    async def row(self, account: str, created: datetime, chat: int) -> None:
        """Add one chat's row."""
        statement = (
            "INSERT INTO retentiond_test.thread (account, created, threadid) "
            "SELECT {account:String}, {created:DateTime('UTC')}, {chat:Int64}"
        )
        async with open_server(self.config) as server:
            await server.do(statement, {"account": account, "created": created, "chat": chat})

    async def chats(self, account: str) -> set[int]:
        """Return the chats of an account that are there."""
        statement = "SELECT threadid FROM retentiond_test.thread WHERE account = {account:String}"
        async with open_server(self.config) as server:
            return {row["threadid"] for row in await server.rows(statement, {"account": account})}

    async def value(self, question: str, **values: Any) -> Any:
        """Ask for one value; `FROM t` is the table."""
        async with open_server(self.config) as server:
            rows = await server.rows(question.replace("FROM t", "FROM retentiond_test.thread"), values)
            return only_value(rows)

    async def do(self, statement: str) -> None:
        """Do something to the table, which is `t`."""
        async with open_server(self.config) as server:
            await server.do(statement.replace("TABLE t", "TABLE retentiond_test.thread"), {})

    async def left(self, account: str = "acme") -> int:
        """Count an account's rows."""
        return int(
            await self.value("SELECT count() FROM t WHERE account = {account:String}", account=account)
        )

    def as_user(self, user: str, password: str = "secret") -> Stats:
        """Return the same table, seen by another user."""
        seen = Stats(self.config.url[0])
        seen.config = ClickHouseStore.model_validate(
            self.config.model_dump() | {"user": user, "password": password}
        )
        return seen

    async def marks(self) -> int:
        """Count the mutations that bear a mark of ours."""
        question = "SELECT count() FROM system.mutations WHERE database = 'retentiond_test' AND command LIKE '%retentiond:%'"
        return int(await self.value(question))

    @asynccontextmanager
    async def opened(self, patience: PollPolicy = QUICK) -> AsyncIterator[ClickHouse]:
        """Open the store."""
        async with open_clickhouse(self.config, patience) as store:
            yield store

    async def purge(self, purge: Purge | None = None, patience: PollPolicy = QUICK) -> StoreReport:
        """Purge, and record it."""
        purge = purge or Purge("acme", CUTOFF)
        async with self.opened(patience) as store:
            report = await store.purge(purge, NullProgress())
        purge.notes.record(report)
        return report
