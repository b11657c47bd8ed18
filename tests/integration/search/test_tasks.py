"""What is known of a purge that the server does in the background, when an answer, the daemon or the server is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.config.chat_stores import ElasticsearchStore
from retentiond.engine.target import NullProgress, Stop
from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.search import client
from retentiond.targets.chat_database.search.store import open_search
from retentiond.targets.chat_database.store_access import PollPolicy
from tests.support.chance import NIGHTLY
from tests.support.search_index import INDEX, SLOW, Watching
from tests.support.search_proxy import standing_before
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import HELD, Notes, Purge

if TYPE_CHECKING:
    from tests.support.search_index import Chats
    from tests.support.search_server import SearchServer

# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)
# What both servers do alike is shown on one.
on_one_server = pytest.mark.parametrize("server", ["opensearch"], indirect=True)


@on_one_server
async def test_what_the_daemons_death_left_running_is_followed_and_not_started_beside_it(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=1000, every=timedelta(minutes=10))
    notes = Notes()
    async with chats.opened(rate=SLOW) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), NullProgress()))
        while "task" not in await notes.read():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(await chats.tasks()) == 1
    async with standing_before(chats.config.url[0]) as between:
        between.first["GET /_tasks/"] = chats.hurry
        report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes), url=between.url)
        assert between.times("_delete_by_query") == 0
    # What it had deleted before the death is counted, too: no record tells of it.
    assert (report.state, report.rows, report.at_least) == ("finished", 1000, False)
    assert await chats.left() == 0


async def test_a_start_whose_answer_is_lost_is_found_again_and_not_sent_twice(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=1000, every=timedelta(minutes=10))
    async with standing_before(chats.config.url[0]) as between:
        between.lost.add("_delete_by_query")
        between.first["GET /_tasks/"] = chats.hurry
        async with chats.opened(rate=SLOW, url=between.url) as store:
            report = await store.purge(Purge("acme", CUTOFF), NullProgress())
        # The client did not try again by itself.
        assert between.times("_delete_by_query") == 1
    assert (report.state, report.rows, report.at_least) == ("finished", 1000, False)
    assert await chats.left() == 0


@on_one_server
async def test_a_start_that_was_lost_with_its_server_is_followed_by_another_round(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)

    async def end() -> None:
        between.first.clear()
        between.lost.clear()
        while await chats.tasks():
            await asyncio.sleep(0.02)

    async with standing_before(chats.config.url[0]) as between:
        between.lost.add("_delete_by_query")
        # It is over before it is looked for, as a task of a dead node is.
        between.first["GET /_tasks?"] = end
        report = await chats.purge(url=between.url)
    # What the first round deleted cannot be told from what it did not.
    assert (report.state, report.at_least) == ("finished", True)
    assert await chats.left() == 0


@on_one_server
async def test_what_ended_while_nobody_looked_leaves_no_result_on_the_server(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)
    notes = Notes()
    async with standing_before(chats.config.url[0]) as between:
        # The daemon hears of the start, and dies.
        between.lost.add("GET /_tasks")
        await chats.purge(Purge("acme", CUTOFF, notes=notes), url=between.url)
    (task,) = {note["task"] for note in notes.written if "task" in note}
    while not (await chats.result(task) or {}).get("completed"):
        await asyncio.sleep(0.02)
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    # The task's own count is there still.
    assert (report.state, report.rows, report.at_least) == ("finished", 20, False)
    assert await chats.result(task) is None


async def test_the_results_of_purges_do_not_pile_up_on_the_server(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    notes = Notes()
    await chats.purge(Purge("acme", CUTOFF, notes=notes))
    (task,) = [note["task"] for note in notes.written if "task" in note]
    assert await chats.result(task) is None


@on_one_server
async def test_another_purges_result_under_the_same_number_is_neither_believed_nor_removed(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add("other", first=CUTOFF - timedelta(hours=50), count=10)
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    query = {"query": {"term": {"account": "other"}}}
    started = await chats.ask("POST", f"/{INDEX}/_delete_by_query", query, wait_for_completion="false")
    notes = Notes()
    # Ours died with its node, and since then its number has come up again.
    await notes.write({"mark": "retentiond:ours", "task": started["task"]})
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert (report.state, report.rows) == ("finished", 10)
    assert await chats.result(started["task"]) is not None
    await chats.remove(f"/.tasks/_doc/{started['task']}")


@on_one_server
async def test_a_node_that_does_not_say_what_it_is_at_may_be_at_the_last_purge(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    notes = Notes()
    await notes.write({"mark": "retentiond:ours"})
    failure = {"type": "failed_node_exception", "reason": "Failed node [Cc6B]", "node_id": "Cc6B"}
    async with standing_before(chats.config.url[0]) as between:
        between.instead["_tasks?actions"] = {"node_failures": [failure], "nodes": {}}
        report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes), url=between.url)
    # And it may delete more meanwhile.
    assert (report.state, report.rows, report.at_least) == ("interrupted", 0, True)
    assert await chats.left() == 10


@on_one_server
async def test_asked_to_stop_it_leaves_the_purge_to_the_server_and_the_next_finds_it(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=1000, every=timedelta(minutes=10))
    stop, notes = Stop(), Notes()
    async with chats.opened(rate=SLOW) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes, stop=stop), NullProgress()))
        await chats.until_running()
        stop.ask()
        first = await task
    assert (first.state, first.at_least) == ("interrupted", True)
    notes.record(first)
    async with standing_before(chats.config.url[0]) as between:
        between.first["GET /_tasks/"] = chats.hurry
        report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes), url=between.url)
        assert between.times("_delete_by_query") == 0
    assert (report.state, first.rows + report.rows, report.at_least) == ("finished", 1000, False)
    assert await chats.left() == 0


@pytest.mark.parametrize("question", ["_count", "_delete_by_query", "GET /_tasks/"])
@on_one_server
async def test_a_stop_is_heard_while_a_server_that_went_silent_is_asked_and_the_next_purge_goes_on(
    chats: Chats, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setattr(client, "GRACE", 0.05)
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=40)
    notes, stop = Notes(), Stop()

    async def ask_to_stop() -> None:
        stop.ask()

    async with asyncio.timeout(60), standing_before(chats.config.url[0]) as between:
        between.first[question] = ask_to_stop
        between.unheard.add(question)
        report = await chats.purge(Purge("acme", CUTOFF, notes=notes, stop=stop), url=between.url)
    assert report.state == "interrupted"
    assert "stopped on request" in (report.error or "")
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
async def test_a_hold_has_the_task_cancelled_that_was_started_before_it(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=4000)
    purge = Purge("acme", CUTOFF)
    async with chats.opened(rate=500) as store, chats.opened() as beside:
        task = asyncio.create_task(store.purge(purge, NullProgress()))
        await chats.until_running()
        await beside.halt({})
        await beside.halt({"mark": "another's"})
        assert len(await chats.tasks()) == 1
        await beside.halt(await purge.notes.read())
        assert await chats.tasks() == []
        report = await task
    assert report.state == "finished_with_failures"
    left = await chats.left()
    assert 0 < left <= 4000 - report.rows
    # A slice that is cancelled while it searches does not say how many it has deleted.
    assert report.at_least or left == 4000 - report.rows


@on_one_server
async def test_a_purge_that_somebody_cancels_is_a_failure_that_says_so(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=1000, every=timedelta(minutes=10))
    async with chats.opened(rate=SLOW) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF), NullProgress()))
        # A slice that is cancelled while it searches says of its search alone that it failed.
        await chats.until_pausing()
        await chats.ask("POST", "/_tasks/_cancel", actions="*/delete/byquery")
        report = await task
    assert report.state == "finished_with_failures"
    assert "cancelled" in (report.error or "")


@on_one_server
async def test_a_purge_that_does_not_get_on_is_cancelled_and_its_result_removed(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)
    notes = Notes()
    # Each of its slices deletes one, and then waits for longer than we do.
    impatient = PollPolicy(between=0.05, stalled=1.5)
    async with chats.opened(rate=1, patience=impatient) as store:
        report = await store.purge(Purge("acme", CUTOFF, notes=notes), NullProgress())
    assert report.state == "finished_with_failures"
    assert "made no progress" in (report.error or "")
    assert report.rows == 20 - await chats.left() > 0
    assert await chats.tasks() == []
    (task,) = [note["task"] for note in notes.written if "task" in note]
    assert await chats.result(task) is None


@on_one_server
async def test_a_purge_that_ends_before_it_can_be_cancelled_is_over_and_not_failed(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)

    async def end_first() -> None:
        while await chats.tasks():
            await chats.hurry()
            await asyncio.sleep(0.02)

    async with standing_before(chats.config.url[0]) as between:
        between.first["_cancel"] = end_first
        impatient = PollPolicy(between=0.05, stalled=1.5)
        async with chats.opened(rate=1, patience=impatient, url=between.url) as store:
            report = await store.purge(Purge("acme", CUTOFF), NullProgress())
        assert between.times("_cancel") == 1
    assert (report.state, report.rows) == ("finished", 20)


@on_one_server
async def test_an_index_that_goes_before_the_purge_is_an_error_of_its_task(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    async with standing_before(chats.config.url[0]) as between:
        between.first["_delete_by_query"] = lambda: chats.ask("DELETE", f"/{INDEX}")
        report = await chats.purge(url=between.url)
    assert (report.state, report.at_least) == ("finished_with_failures", True)
    assert "no such index" in (report.error or "")


async def test_a_server_that_is_not_there_is_unreachable(closed_port: int) -> None:
    config = ElasticsearchStore(url=f"http://127.0.0.1:{closed_port}", index="x")
    with pytest.raises(UnreachableError, match="cannot be reached"):
        async with open_search(config):
            pass


@on_one_server
@pytest.mark.timeout(400)  # it starts twice, and takes its time
@pytest.mark.skipif(not NIGHTLY, reason="a server starts anew: RETENTIOND_TEST_NIGHTLY=1")
async def test_a_server_killed_in_the_middle_tells_what_is_known_to_be_gone_and_the_next_purge_ends_what_it_began(
    chats: Chats, server: SearchServer | str
) -> None:
    if isinstance(server, str):
        pytest.skip("a server that was named is not ours to kill")
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=4000)
    notes, watching = Notes(), Watching()
    async with chats.opened(rate=500) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), watching))
        await watching.until_some_are_gone()
        server.kill()
        lost = await task
    assert (lost.state, lost.rows, lost.at_least) == ("interrupted", watching.gone, True)
    notes.record(lost)
    await asyncio.to_thread(server.start)
    left = await chats.left()
    assert 0 < lost.rows <= 4000 - left
    # It died with the server, and is not among its tasks any more.
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert (report.state, report.rows, report.at_least) == ("finished", left, True)
    assert await chats.left() == 0
