"""A purge on a real cluster of ClickHouse, two shards with two replicas each or the like, whose servers are killed.

Distributed DDL has a stand-in (tests/support/clickhouse_coordinator.py); all else is the cluster's own.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import NullProgress
from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.store_access import PollPolicy
from tests.support.chats import ChatStore
from tests.support.clickhouse_coordinator import Coordinator, coordinating
from tests.support.closing_lines import not_run
from tests.support.stats_table import CUTOFF, QUICK, Stats
from tests.support.store_purge import Notes, Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from retentiond.model.purge import StoreReport


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


HURRIED = PollPolicy(between=0.05, back=0.2)
"""Without a wait for what is down."""
DAYS = 100
DUE = DAYS // 2


@pytest.fixture
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    if not os.environ.get(URLS) or not os.environ.get(START):
        not_run(request.config, "clusters of ClickHouse", HOW)
        pytest.skip(HOW)
    named = Cluster(os.environ[URLS])
    await named.make(DAYS)
    yield named
    await named.start()


def states(report: StoreReport) -> list[tuple[str, list[str]]]:
    return [(shard.state, [replica.state for replica in shard.replicas]) for shard in report.shards]


@pytest.mark.timeout(300)
async def test_a_replicated_table_is_refused_on_each_server_without_a_cluster_with_the_line_to_write(
    cluster: Cluster,
) -> None:
    for table in cluster.servers:
        async with table.opened() as store:
            (problem,) = await store.check()
        assert problem.endswith(f"set `cluster: {cluster.name}`, so that all of them are purged")
        report = await table.purge()
        assert report.refused is not None
        assert report.refused.limit == "clickhouse_cluster"
    assert await cluster.left() == [DAYS] * len(cluster.servers)


@pytest.mark.timeout(300)
async def test_a_table_of_each_shards_own_and_a_distributed_table_are_refused_without_a_cluster(
    cluster: Cluster,
) -> None:
    for table in cluster.servers:
        await table.do("DROP TABLE t SYNC")
        await table.do(
            "CREATE TABLE retentiond_test.thread (account String, created DateTime, threadid Int64) "
            "ENGINE = MergeTree ORDER BY account"
        )
    line = f"set `cluster: {cluster.name}`, so that all of them are purged"
    first = cluster.servers[0]
    report = await first.purge()
    assert report.refused is not None
    assert report.refused.hint == line
    await first.do(
        "CREATE TABLE retentiond_test.every AS retentiond_test.thread "
        f"ENGINE = Distributed('{cluster.name}', 'retentiond_test', 'thread')"
    )
    report = await first.purge()
    assert report.refused is not None
    assert report.refused.hint == line
    assert "retentiond_test.every" in str(report.refused.value)
    first.config = first.config.model_copy(update={"table": "retentiond_test.every"})
    report = await first.purge()
    assert report.refused is not None
    assert f"set `table: retentiond_test.thread` and `cluster: {cluster.name}`" in report.refused.hint


@pytest.mark.timeout(300)
async def test_all_shards_and_replicas_are_purged_and_counted_once(cluster: Cluster) -> None:
    async with cluster.coordinated() as (table, _):
        async with table.opened() as store:
            assert await store.check() == []
        purge = Purge("acme", CUTOFF)
        report = await table.purge(purge)
    shards = len(cluster.shards)
    assert (report.state, report.rows, report.at_least, report.error) == (
        "finished",
        DUE * shards,
        False,
        None,
    )
    assert [(shard.rows, shard.left) for shard in report.shards] == [(DUE, 0)] * shards
    assert states(report) == [("finished", ["finished"] * len(shard)) for shard in cluster.shards]
    assert len(purge.shards) > 1
    assert await cluster.left() == [DAYS - DUE] * len(cluster.servers)


@pytest.mark.timeout(300)
async def test_a_dead_replica_is_unreachable_and_the_rest_is_purged_and_the_next_purge_is_finished(
    cluster: Cluster,
) -> None:
    dead, notes = len(cluster.shards[0]) - 1, Notes()
    await cluster.kill(cluster.servers[dead])
    async with cluster.coordinated() as (table, _):
        async with table.opened() as store:
            assert await store.check() == []
        report = await table.purge(Purge("acme", CUTOFF, notes=notes), HURRIED)
        assert (report.state, report.rows, report.at_least, report.refused) == (
            "interrupted",
            DUE * len(cluster.shards),
            False,
            None,
        )
        assert "cannot be reached" in (report.error or "")
        assert states(report)[0][1][dead] == "unreachable"
        await cluster.start()
        report = await table.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert (report.state, report.rows) == ("finished", 0)
    assert await cluster.left() == [DAYS - DUE] * len(cluster.servers)


@pytest.mark.timeout(300)
async def test_a_dead_shard_sends_nothing_and_is_neither_refused_nor_finished(cluster: Cluster) -> None:
    last = len(cluster.shards[-1])
    for table in cluster.servers[-last:]:
        await cluster.kill(table)
    async with cluster.coordinated() as (table, coordinators):
        report = await table.purge()
        assert coordinators[0].sent == []
    assert (report.state, report.rows, report.refused) == ("interrupted", 0, None)
    assert "no server of shard" in (report.error or "")
    assert states(report)[-1] == ("unreachable", ["unreachable"] * last)


@pytest.mark.timeout(300)
async def test_with_a_dead_replica_the_database_is_purged_and_the_store_goes_on_with_the_next_purge(
    cluster: Cluster, database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    await chats.chat()
    dead = len(cluster.shards[0]) - 1
    await cluster.kill(cluster.servers[dead])
    async with cluster.coordinated() as (table, _):
        config = {"url": list(table.config.url), "table": "retentiond_test.thread", "cluster": cluster.name}
        store: dict[str, Any] = {"clickhouse": {**config, "thread_column": "threadid"}}
        report = await chats.purge(wish={"stores": ("clickhouse",)}, **store)
        assert (report.exit_status, report.chats, await chats.chats()) == (4, 1, set())
        assert (report.stores["clickhouse"].state, report.stores["clickhouse"].refused) == (
            "interrupted",
            None,
        )
        await cluster.start()
        report = await chats.purge(wish={"stores": ("clickhouse",)}, **store)
        assert (report.exit_status, report.stores["clickhouse"].state) == (0, "finished")


async def sent_and_waiting(
    cluster: Cluster, table: Stats, purge: Purge, patience: PollPolicy
) -> asyncio.Task[StoreReport]:
    """Begin a purge whose first mutation every replica knows and none carries out."""

    async def work() -> StoreReport:
        async with table.opened(patience) as store:
            return await store.purge(purge, NullProgress())

    for server in cluster.servers:
        await server.do("SYSTEM STOP MERGES retentiond_test.thread")
    task = asyncio.create_task(work())
    for server in cluster.servers:
        while not await server.marks():
            assert not task.done(), task.result()
            await asyncio.sleep(0.02)
    return task


@pytest.mark.timeout(300)
@pytest.mark.parametrize("back", [True, False])
async def test_a_replica_killed_in_the_middle_of_a_mutation_ends_nothing_and_the_count_is_exact(
    cluster: Cluster, *, back: bool
) -> None:
    dead, notes = len(cluster.shards[0]) - 1, Notes()
    patience = PollPolicy(between=0.05, back=120) if back else HURRIED
    async with cluster.coordinated() as (table, coordinators):
        task = await sent_and_waiting(cluster, table, Purge("acme", CUTOFF, notes=notes), patience)
        await cluster.kill(cluster.servers[dead])
        for number, server in enumerate(cluster.servers):
            if number != dead:
                await server.do("SYSTEM START MERGES retentiond_test.thread")
        if back:
            await cluster.start()
        report = await task
        notes.record(report)
        assert (report.state, report.rows, report.at_least, report.refused) == (
            "finished" if back else "interrupted",
            DUE * len(cluster.shards),
            False,
            None,
        )
        sent = len(coordinators[0].sent)
        await cluster.start()
        again = await table.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
        assert len(coordinators[0].sent) == sent
    assert (again.state, again.rows) == ("finished", 0)
    assert await cluster.left() == [DAYS - DUE] * len(cluster.servers)


@pytest.mark.timeout(300)
async def test_a_coordinator_killed_in_the_middle_of_a_mutation_is_followed_by_the_next_url(
    cluster: Cluster,
) -> None:
    async with cluster.coordinated(0, len(cluster.servers) - 1) as (table, coordinators):
        task = await sent_and_waiting(
            cluster, table, Purge("acme", CUTOFF), PollPolicy(between=0.05, back=120)
        )
        await cluster.kill(cluster.servers[0])
        for server in cluster.servers[1:]:
            await server.do("SYSTEM START MERGES retentiond_test.thread")
        await cluster.start()
        report = await task
        partitions = {
            statement.split(b"IN PARTITION", 1)[-1] for one in coordinators for statement in one.sent
        }
        assert sum(len(one.sent) for one in coordinators) == len(partitions)
    assert (report.state, report.rows, report.at_least) == ("finished", DUE * len(cluster.shards), False)
    assert await cluster.left() == [DAYS - DUE] * len(cluster.servers)


@pytest.mark.timeout(300)
async def test_a_replica_that_lags_is_waited_for(cluster: Cluster) -> None:
    behind = cluster.servers[len(cluster.shards[0]) - 1]
    await behind.do("SYSTEM STOP REPLICATION QUEUES retentiond_test.thread")
    async with cluster.coordinated() as (table, _):
        task = asyncio.create_task(table.purge(patience=QUICK))
        while await cluster.servers[0].left() == DAYS:
            await asyncio.sleep(0.05)
        assert not task.done()
        await behind.do("SYSTEM START REPLICATION QUEUES retentiond_test.thread")
        report = await task
    assert (report.state, report.rows) == ("finished", DUE * len(cluster.shards))
    assert await cluster.left() == [DAYS - DUE] * len(cluster.servers)
