"""A real cluster that loses a node in the middle of a purge; run where the environment names one that may be killed."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.store_access import PollPolicy
from tests.support.closing_lines import not_run
from tests.support.search_index import INDEX, Chats, Watching
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import Notes, Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


URLS = "RETENTIOND_TEST_SEARCH_CLUSTER"
"""The URLs of all nodes, with blanks between them."""
START = "RETENTIOND_TEST_SEARCH_CLUSTER_START"
"""The command that starts the nodes that are down, and ends once the cluster is green."""


class SearchCluster:
    """Nodes that may be killed: the command brings them back, with their data."""

    def __init__(self, urls: list[str], start: str) -> None:
        self.urls = urls
        self._start = start

    async def kill(self, url: str) -> None:
        """Kill a node as a power cut would."""
        os.kill(await self._process(url), signal.SIGKILL)

    @asynccontextmanager
    async def hanging(self, url: str) -> AsyncIterator[None]:
        """Let a node hang: it takes connections, and answers nothing; then let it go on."""
        process = await self._process(url)
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    async def _process(self, url: str) -> int:
        answer = await _ask(url, "/_nodes/_local/process")
        (node,) = answer["nodes"].values()
        return int(node["process"]["id"])

    async def revive(self) -> None:
        """Start whatever is down, and wait until the cluster is whole."""
        await asyncio.to_thread(
            subprocess.run, shlex.split(self._start), check=True, stdout=subprocess.DEVNULL, timeout=400
        )

    async def data_node(self, index: str) -> str:
        """Return the URL of a node that has a primary copy of the index, other than the first."""
        copies = await _ask(self.urls[0], f"/_cat/shards/{index}?format=json")
        names = {copy["node"] for copy in copies if copy["prirep"] == "p"}
        for url in self.urls[1:]:
            if (await _ask(url, "/"))["name"] in names:
                return url
        raise AssertionError(f"all of {index} is on the first node")


async def _ask(url: str, path: str) -> Any:
    def ask() -> Any:
        with urlopen(url + path, timeout=60) as answer:
            return json.load(answer)

    return await asyncio.to_thread(ask)


# A node takes a minute to come back, and longer on a busy machine.
pytestmark = pytest.mark.timeout(900)

DOCUMENTS = 6000
RATE = 400


@pytest.fixture
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[SearchCluster]:
    urls, start = os.environ.get(URLS, "").split(), os.environ.get(START)
    if len(urls) < 3 or start is None:
        how = f"set {URLS} to the URLs of three nodes on this machine, and {START} to the command that starts those that are down"
        not_run(request.config, "search clusters that lose a node", how)
        pytest.skip(how)
    cluster = SearchCluster(urls, start)
    await cluster.revive()
    yield cluster
    await cluster.revive()


@pytest.fixture
async def chats(cluster: SearchCluster) -> AsyncIterator[Chats]:
    chats = Chats(cluster.urls[0])
    yield chats
    await cluster.revive()
    await chats.remove(f"/{INDEX}*")


async def filled(chats: Chats, replicas: int) -> None:
    await chats.make(
        settings={"number_of_shards": 3, "number_of_replicas": replicas, "refresh_interval": "1s"}
    )
    await chats.ask("GET", f"/_cluster/health/{INDEX}", wait_for_status="green", timeout="60s")
    # All in one month, and so in one round, if nothing happens.
    first = CUTOFF.replace(day=1) - timedelta(days=31)
    await chats.add(first=first, count=DOCUMENTS, every=timedelta(minutes=5))


async def test_a_coordinator_that_dies_in_the_middle_is_replaced_by_the_next_url(
    cluster: SearchCluster, chats: Chats
) -> None:
    await filled(chats, replicas=1)
    purge, watching = Purge("acme", CUTOFF), Watching()
    async with chats.opened(rate=RATE, patience=PollPolicy(between=0.2), url=cluster.urls) as store:
        task = asyncio.create_task(store.purge(purge, watching))
        await watching.until_some_are_gone()
        await cluster.kill(cluster.urls[0])
        report = await task
    assert (report.state, report.error) == ("finished", None)
    # The task died with its node, and its own count with it.
    assert report.at_least
    assert 0 < report.rows <= DOCUMENTS
    assert purge.steps == 2
    assert {shard.state for shard in report.shards} == {"finished"}
    assert len(report.shards) == 3
    await cluster.revive()
    assert await chats.left() == 0


async def test_a_data_node_that_dies_in_the_middle_leads_to_another_round(
    cluster: SearchCluster, chats: Chats
) -> None:
    await filled(chats, replicas=1)
    dying = await cluster.data_node(INDEX)
    purge, watching = Purge("acme", CUTOFF), Watching()
    async with chats.opened(rate=RATE, patience=PollPolicy(between=0.2)) as store:
        task = asyncio.create_task(store.purge(purge, watching))
        await watching.until_some_are_gone()
        await cluster.kill(dying)
        report = await task
    assert (report.state, report.error) == ("finished", None)
    assert 0 < report.rows <= DOCUMENTS
    assert report.at_least or report.rows == DOCUMENTS
    assert purge.steps == 2
    await cluster.revive()
    assert await chats.left() == 0


async def test_a_shard_without_a_copy_is_unreachable_and_the_purge_goes_on_once_it_is_back(
    cluster: SearchCluster, chats: Chats
) -> None:
    await filled(chats, replicas=0)
    dying = await cluster.data_node(INDEX)
    notes, watching = Notes(), Watching()
    hasty = PollPolicy(between=0.2, recovery=20)
    async with chats.opened(rate=RATE, patience=hasty) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), watching))
        await watching.until_some_are_gone()
        await cluster.kill(dying)
        lost = await task
        assert lost.state == "interrupted"
        assert "shards" in (lost.error or "")
        assert "unreachable" in {shard.state for shard in lost.shards}
        notes.record(lost)
        with pytest.raises(UnreachableError):
            await store.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes), watching)
    await cluster.revive()
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=3, notes=notes))
    assert report.state == "finished"
    # Both records together have all that went, exactly or as at least so much.
    assert lost.rows + report.rows <= DOCUMENTS
    assert lost.at_least or lost.rows + report.rows == DOCUMENTS
    assert await chats.left() == 0


async def test_a_coordinator_that_hangs_in_the_middle_is_replaced_by_the_next_url(
    cluster: SearchCluster, chats: Chats
) -> None:
    await filled(chats, replicas=1)
    purge, watching = Purge("acme", CUTOFF), Watching()
    async with chats.opened(rate=RATE, patience=PollPolicy(between=0.2), url=cluster.urls) as store:
        task = asyncio.create_task(store.purge(purge, watching))
        await watching.until_some_are_gone()
        async with cluster.hanging(cluster.urls[0]):
            report = await task
    # Its task may go on once the node does: there may be more gone than was counted.
    assert (report.state, report.error, report.at_least) == ("finished", None, True)
    assert 0 < report.rows <= DOCUMENTS
    await cluster.revive()
    assert await chats.left() == 0


async def test_a_node_without_a_copy_that_hangs_ends_the_purge_as_unreachable_and_the_next_goes_on(
    cluster: SearchCluster, chats: Chats
) -> None:
    await filled(chats, replicas=0)
    hanging = await cluster.data_node(INDEX)
    notes, watching = Notes(), Watching()
    async with chats.opened(rate=RATE, patience=PollPolicy(between=0.2, recovery=20)) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), watching))
        await watching.until_some_are_gone()
        async with cluster.hanging(hanging):
            lost = await task
    assert (lost.state, lost.at_least) == ("interrupted", True)
    notes.record(lost)
    await cluster.revive()
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert report.state == "finished"
    assert lost.rows + report.rows <= DOCUMENTS
    assert await chats.left() == 0
