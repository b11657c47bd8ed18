"""Purges in the background: what is believed of them, and what becomes of them when somebody dies, writes or cancels."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from retentiond.config.chat_stores import ElasticsearchStore
from retentiond.engine.target import Silence, Stop
from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.search.client import ask_for, open_search
from tests.support.search_index import INDEX
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import HELD, Notes, Purge

if TYPE_CHECKING:
    from tests.support.search_index import Chats
    from tests.support.search_server import SearchServer

# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)
# What both servers do alike, and takes its time, is shown on one.
on_one_server = pytest.mark.parametrize("server", ["opensearch"], indirect=True)


@on_one_server
async def test_documents_that_others_change_meanwhile_are_not_called_gone_before_they_are(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=3000)
    stop = asyncio.Event()

    async def change() -> None:
        update = {"query": {"range": {"threadid": {"lt": 200}}}}
        while not stop.is_set():
            try:
                await chats.ask(
                    "POST", f"/{INDEX}/_update_by_query", update, conflicts="proceed", refresh="true"
                )
            except HTTPError:
                await asyncio.sleep(0.01)

    writer = asyncio.create_task(change())
    await asyncio.sleep(0.05)
    try:
        report = await chats.purge()
    finally:
        stop.set()
        await writer
    # What is changed at each look conflicts at each; nothing is called done that is not.
    left = await chats.left()
    assert report.rows == 3000 - left
    assert report.state == ("finished_with_failures" if left else "finished")
    assert (await chats.purge()).state == "finished"
    assert await chats.left() == 0


@on_one_server
async def test_what_the_daemons_death_left_running_is_followed_and_not_started_beside_it(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=4000)
    notes = Notes()
    async with chats.opened(rate=1000) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), Silence()))
        await chats.until_running()
        while "task" not in await notes.read():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(await chats.tasks()) == 1
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert report.state == "finished"
    assert await chats.left() == 0
    # Only the first was ever started.
    assert len({note["mark"] for note in notes.written if note}) == 1


@on_one_server
async def test_asked_to_stop_it_leaves_the_purge_to_the_server_and_the_next_finds_it(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=4000)
    stop, notes = Stop(), Notes()
    async with chats.opened(rate=1000) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes, stop=stop), Silence()))
        await chats.until_running()
        stop.ask()
        assert (await task).state == "interrupted"
    assert (await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))).state == "finished"
    assert await chats.left() == 0


@on_one_server
async def test_a_hold_that_comes_before_a_round_keeps_it_from_being_sent(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    report = await chats.purge(Purge("acme", CUTOFF, held_after=0))
    assert (report.state, report.rows, report.refused) == ("refused", 0, HELD)
    assert await chats.left() == 10


@on_one_server
async def test_a_purge_that_somebody_cancels_is_a_failure_that_says_so(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=6000)
    async with chats.opened(rate=500) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF), Silence()))
        await chats.until_running()
        await chats.ask("POST", "/_tasks/_cancel", actions="*/delete/byquery")
        report = await task
    assert report.state == "finished_with_failures"
    assert "cancelled" in (report.error or "")


@on_one_server
async def test_another_purges_result_under_the_same_number_is_not_believed(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    notes = Notes()
    # It ended long ago, and its number has come up again since.
    await notes.write({"mark": "retentiond:somebody's", "task": "node:1"})
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert (report.state, report.rows) == ("finished", 10)


async def test_the_results_of_purges_do_not_pile_up_on_the_server(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    notes = Notes()
    await chats.purge(Purge("acme", CUTOFF, notes=notes))
    tasks = [note["task"] for note in notes.written if "task" in note]
    assert tasks
    async with open_search(chats.config) as search:
        assert await ask_for(search, "GET", f"/_tasks/{tasks[-1]}") is None


@on_one_server
async def test_two_purges_at_once_both_end_well(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=2000)
    reports = await asyncio.gather(chats.purge(), chats.purge(Purge("acme", CUTOFF, purge_id=2)))
    assert [report.state for report in reports] == ["finished", "finished"]
    assert await chats.left() == 0


async def test_a_server_that_is_not_there_is_unreachable(unused_tcp_port: int) -> None:
    config = ElasticsearchStore(url=f"http://127.0.0.1:{unused_tcp_port}", index="x")
    with pytest.raises(UnreachableError, match="cannot be reached"):
        async with open_search(config):
            pass


@on_one_server
@pytest.mark.timeout(400)  # it starts twice, and takes its time
async def test_a_server_killed_in_the_middle_is_unreachable_and_the_next_purge_ends_what_it_began(
    chats: Chats, server: SearchServer | str
) -> None:
    if isinstance(server, str):
        pytest.skip("a server that was named is not ours to kill")
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=4000)
    notes = Notes()
    async with chats.opened(rate=500) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), Silence()))
        await chats.until_running()
        server.kill()
        with pytest.raises(UnreachableError):
            await task
    await asyncio.to_thread(server.start)
    # It died with the server, and is not among its tasks any more.
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert report.state == "finished"
    assert await chats.left() == 0
