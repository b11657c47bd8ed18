"""Two real servers of ClickHouse, a shard each: what is purged on one alone is not purged, and both are told apart.

The engine of these tests has no Distributed DDL: a coordinator of the tests' own stands in for it, and what that cannot
show is said there. Replicated tables need a Keeper: tests/integration/test_clickhouse_cluster.py has them.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import NullProgress
from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.store_access import PollPolicy
from tests.support.clickhouse_coordinator import Coordinator, coordinating
from tests.support.clickhouse_server import ClickHouseServer
from tests.support.ports import free_port
from tests.support.stats_table import CUTOFF, Stats
from tests.support.store_purge import Notes, Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

QUICK = PollPolicy(between=0.05, back=0.1)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, clickhouse_process: ClickHouseServer | None
) -> Iterator[list[ClickHouseServer]]:
    """Two servers, which know each other."""
    if clickhouse_process is None:
        pytest.skip("a server that was named knows no other")
    ports = [free_port(), free_port()]
    pair = [
        ClickHouseServer(tmp_path_factory.mktemp("shard"), order) for order in (ports, [ports[1], ports[0]])
    ]
    for server in pair:
        server.start()
    try:
        yield pair
    finally:
        for server in pair:
            server.stop()


@pytest.fixture
async def shards(servers: list[ClickHouseServer]) -> list[Stats]:
    """The table on both, with 50 rows to purge on the first and 20 on the second."""
    tables = [Stats(server.url) for server in servers]
    for table, due in zip(tables, (50, 20), strict=True):
        await table.make(partition=None)
        await table.add(first=CUTOFF - timedelta(hours=due), count=100)
    return tables


@asynccontextmanager
async def together(shards: list[Stats]) -> AsyncIterator[tuple[Stats, Coordinator]]:
    """Both as one cluster."""
    urls = [table.config.url[0] for table in shards]
    async with coordinating(urls[0], [[url] for url in urls]) as coordinator:
        both = Stats(coordinator.url)
        both.config = both.config.model_copy(update={"cluster": "several"})
        yield both, coordinator


async def test_a_table_that_another_shard_has_too_is_refused_without_a_cluster_with_the_line_to_write(
    shards: list[Stats],
) -> None:
    async with shards[0].opened() as store:
        (problem,) = await store.check()
    assert problem.endswith("set `cluster: several`, so that all of them are purged")
    for dry_run in (True, False):
        report = await shards[0].purge(Purge("acme", CUTOFF, dry_run=dry_run))
        assert report.refused is not None
        assert (report.refused.limit, report.rows) == ("clickhouse_cluster", 0)
    assert [await table.left() for table in shards] == [100, 100]


async def test_a_table_that_no_other_server_of_its_clusters_has_is_purged_without_a_cluster(
    shards: list[Stats],
) -> None:
    await shards[1].do("DROP TABLE t SYNC")
    known = await shards[0].value("SELECT groupUniqArray(cluster) FROM system.clusters")
    assert set(known) == {"alone", "halved", "several", "twice"}
    report = await shards[0].purge()
    assert (report.state, report.rows, report.shards) == ("finished", 50, ())


async def test_a_server_that_may_have_the_table_and_does_not_answer_is_unreachable_and_not_refused(
    shards: list[Stats], servers: list[ClickHouseServer]
) -> None:
    servers[1].kill()
    try:
        with pytest.raises(UnreachableError, match="may have the table, too"):
            await shards[0].purge()
    finally:
        await asyncio.to_thread(servers[1].start)


async def test_a_user_who_may_not_ask_the_other_servers_is_refused_with_the_grant_that_is_missing(
    shards: list[Stats],
) -> None:
    report = await shards[0].as_user("lonely").purge()
    assert report.refused is not None
    assert "REMOTE" in report.refused.hint
    assert "set `cluster: several`" in report.refused.hint
    assert await shards[0].left() == 100


async def test_both_shards_are_purged_and_each_has_its_state_and_rows_while_it_runs_and_at_the_end(
    shards: list[Stats],
) -> None:
    async with together(shards) as (both, _):
        async with both.opened() as store:
            assert await store.check() == []
        assert (await both.purge(Purge("acme", CUTOFF, dry_run=True))).rows == 70
        purge = Purge("acme", CUTOFF)
        report = await both.purge(purge)
    assert (report.state, report.rows, report.error) == ("finished", 70, None)
    assert sorted((shard.rows or 0, shard.state, shard.left) for shard in report.shards) == [
        (20, "finished", 0),
        (50, "finished", 0),
    ]
    assert sum(shard.left or 0 for shard in purge.shards[0]) == 70
    assert [await table.left() for table in shards] == [50, 80]
    assert [await table.marks() for table in shards] == [1, 1]


async def test_a_shard_killed_in_the_middle_is_unreachable_and_the_next_purge_ends_what_it_began(
    shards: list[Stats], servers: list[ClickHouseServer]
) -> None:
    notes = Notes()
    for table in shards:
        await table.do("SYSTEM STOP MERGES retentiond_test.thread")
    async with together(shards) as (both, _):
        async with both.opened(QUICK) as store:
            task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), NullProgress()))
            while not await shards[1].marks():
                await asyncio.sleep(0.02)
            servers[1].kill()
            await shards[0].do("SYSTEM START MERGES retentiond_test.thread")
            report = await task
        notes.record(report)
        assert (report.state, report.at_least, report.refused) == ("interrupted", True, None)
        assert "no server of shard" in (report.error or "")
        assert "unreachable" in {shard.state for shard in report.shards}
        await asyncio.to_thread(servers[1].start)
        again = await both.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert again.state == "finished"
    assert report.rows + again.rows == 70
    assert [await table.left() for table in shards] == [50, 80]
    assert [await table.marks() for table in shards] == [1, 1]


async def test_urls_of_two_clusters_of_one_name_are_refused_before_anything_is_deleted(
    shards: list[Stats],
) -> None:
    # To each of the two it is itself alone.
    both = Stats(shards[0].config.url[0])
    urls = [table.config.url[0] for table in shards]
    both.config = shards[0].config.model_copy(update={"cluster": "alone", "url": urls})
    report = await both.purge()
    assert report.refused is not None
    assert report.refused.limit == "clickhouse_cluster"
    assert "define the cluster alone differently" in report.refused.hint
    assert [await table.left() for table in shards] == [100, 100]
