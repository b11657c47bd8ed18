"""A real cluster of ClickHouse that is named from outside: replicated tables on it, and servers that a test kills."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from retentiond.model.errors import UnreachableError
from tests.support.clickhouse_coordinator import Coordinator, coordinating
from tests.support.stats_table import CUTOFF, Stats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

URLS = "RETENTIOND_TEST_CLICKHOUSE_CLUSTER"
START = "RETENTIOND_TEST_CLICKHOUSE_CLUSTER_START"
HOW = (
    f"set {URLS} to the HTTP interfaces of a cluster's servers, those of a shard with a comma between them and shards with a "
    f"semicolon, and {START} to a command that starts those that are down"
)
_STARTS = 3


class Cluster:
    """Its servers need the macros `shard` and `replica`; the first cluster in system.clusters is used."""

    def __init__(self, urls: str) -> None:
        self.shards = [[url.strip() for url in shard.split(",")] for shard in urls.split(";")]
        self.name = ""

    @property
    def servers(self) -> list[Stats]:
        """The table on each server, as that one has it."""
        return [Stats(url) for shard in self.shards for url in shard]

    async def make(self, days: int = 100) -> None:
        """Make the replicated table on all servers; each shard has chats of its own, one a day before and after the date.

        The rows come by a table beside it, of which each replica takes its own: where replicas can fetch parts of each
        other, an INSERT would do.
        """
        await self.start()
        self.name = str(await self.servers[0].value("SELECT min(cluster) FROM system.clusters"))
        columns = "(account String, created DateTime('UTC'), threadid Int64, value String)"
        keys = "PARTITION BY toYYYYMM(created) ORDER BY (account, created)"
        path = f"/retentiond_test/{secrets.token_hex(8)}"
        for table in self.servers:
            await table.do("DROP DATABASE IF EXISTS retentiond_test SYNC")
            await table.do("CREATE DATABASE retentiond_test")
            for name, engine in (
                ("thread", f"ReplicatedMergeTree('{path}/{{shard}}', '{{replica}}')"),
                ("rows", "MergeTree"),
            ):
                await table.do(f"CREATE TABLE retentiond_test.{name} {columns} ENGINE = {engine} {keys}")
        for number, shard in enumerate(self.shards):
            first = int(CUTOFF.timestamp()) - days // 2 * 86400
            for url in shard:
                await Stats(url).do(
                    f"INSERT INTO retentiond_test.rows SELECT 'acme', toDateTime({first}, 'UTC') + number * 86400, "
                    f"1 + number * {len(self.shards)} + {number}, 'x' FROM numbers({days})"
                )
            table = Stats(shard[0])
            question = (
                "SELECT groupUniqArray(partition_id) FROM system.parts WHERE database = 'retentiond_test' "
                "AND table = 'rows' AND active"
            )
            for partition in await table.value(question):
                await table.do(f"ALTER TABLE t ATTACH PARTITION ID '{partition}' FROM retentiond_test.rows")
        for table in self.servers:
            await table.do("DROP TABLE retentiond_test.rows SYNC")
            while await table.left() < days:
                await asyncio.sleep(0.05)

    async def start(self) -> None:
        """Start what is down; on a busy machine the command may give up on a server that is about to answer."""
        for _ in range(_STARTS):
            process = await asyncio.create_subprocess_exec(
                *shlex.split(os.environ[START]), stdout=asyncio.subprocess.DEVNULL
            )
            if await process.wait() == 0:
                return
        raise AssertionError(f"{os.environ[START]} failed {_STARTS} times")

    async def kill(self, table: Stats) -> None:
        """Kill a server as a power cut would."""
        with suppress(UnreachableError):
            await table.do("SYSTEM KILL")
        with suppress(UnreachableError):
            while True:
                await table.value("SELECT 1")

    async def left(self) -> list[int]:
        """Count the rows of each server."""
        return [await table.left() for table in self.servers]

    @asynccontextmanager
    async def coordinated(self, *places: int) -> AsyncIterator[tuple[Stats, list[Coordinator]]]:
        """The table as a whole, by coordinators in front of these servers, in the place of Distributed DDL."""
        async with AsyncExitStack() as opened:
            servers = [table.config.url[0] for table in self.servers]
            coordinators = [
                await opened.enter_async_context(coordinating(servers[place], self.shards))
                for place in places or (0,)
            ]
            whole = Stats(servers[0])
            urls = tuple(coordinator.url for coordinator in coordinators)
            whole.config = whole.config.model_copy(update={"url": urls, "cluster": self.name})
            yield whole, coordinators
