"""A purge while others write, stop it, block it or slow it down: round after round, and each document counted once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import NullProgress, Stop
from retentiond.model.errors import UnreachableError
from tests.support.search_index import INDEX, SLOW, Watching
from tests.support.search_proxy import standing_before
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import Notes, Purge

if TYPE_CHECKING:
    from tests.support.search_index import Chats

# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)
# What both servers do alike is shown on one.
on_one_server = pytest.mark.parametrize("server", ["opensearch"], indirect=True)


async def test_what_another_changes_meanwhile_is_left_and_goes_in_the_next_round(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=4)

    async def change_once() -> None:
        between.first.clear()
        # All of them: a purge that deletes nothing refreshes nothing either.
        await chats.change_unseen(*range(1, 5))

    async with standing_before(chats.config.url[0]) as between:
        between.first["_delete_by_query"] = change_once
        report = await chats.purge(url=between.url)
        assert between.times("_delete_by_query") == 2
    assert (report.state, report.rows) == ("finished", 4)
    assert await chats.left() == 0


@on_one_server
async def test_another_who_is_always_ahead_ends_it_with_what_is_left(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)
    async with standing_before(chats.config.url[0]) as between:
        between.first["_delete_by_query"] = lambda: chats.change_unseen(1, 2)
        report = await chats.purge(url=between.url)
        assert between.times("_delete_by_query") == 5
    assert (report.state, report.rows) == ("finished_with_failures", 18)
    assert "2 documents are left" in (report.error or "")
    assert await chats.left() == 2


@on_one_server
async def test_what_comes_in_meanwhile_and_goes_is_counted_too(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)

    async def add_once() -> None:
        between.first.clear()
        await chats.add(first=CUTOFF - timedelta(hours=50), count=5)

    async with standing_before(chats.config.url[0]) as between:
        between.first["_delete_by_query"] = add_once
        report = await chats.purge(url=between.url)
    assert (report.state, report.rows) == ("finished", 25)


async def test_documents_that_merely_became_newer_count_as_deleted(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)

    async def renew() -> None:
        between.first.clear()
        query = {"query": {"terms": {"threadid": [3, 4, 5]}}, "_source": False}
        for hit in (await chats.ask("POST", f"/{INDEX}/_search", query))["hits"]["hits"]:
            newer = {"doc": {"created": "2023-12-01T00:00:00Z"}}
            await chats.ask("POST", f"/{INDEX}/_update/{hit['_id']}", newer, refresh="true")

    async with standing_before(chats.config.url[0]) as between:
        between.first["_delete_by_query"] = renew
        report = await chats.purge(url=between.url)
    assert (report.state, report.rows, report.at_least) == ("finished", 17, False)
    assert await chats.left() == 3


@on_one_server
async def test_documents_that_are_gone_though_they_conflicted_make_the_count_a_least_one(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)

    async def delete_unseen() -> None:
        between.first.clear()
        query = {"query": {"terms": {"threadid": [3, 4, 5]}}, "_source": False}
        for hit in (await chats.ask("POST", f"/{INDEX}/_search", query))["hits"]["hits"]:
            await chats.ask("DELETE", f"/{INDEX}/_doc/{hit['_id']}", refresh="false")

    async with standing_before(chats.config.url[0]) as between:
        # As a shard does that a dying node had told to delete already.
        between.first["_delete_by_query"] = delete_unseen
        report = await chats.purge(url=between.url)
    assert (report.state, report.rows, report.at_least) == ("finished", 17, True)
    assert await chats.left() == 0


@on_one_server
async def test_asked_to_stop_between_two_rounds_it_begins_no_other_and_the_next_purge_goes_on(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)
    stop, notes = Stop(), Notes()

    async def stop_now() -> None:
        stop.ask()

    async with standing_before(chats.config.url[0]) as between:
        between.first["_delete_by_query"] = lambda: chats.change_unseen(1, 2)
        # The first round is over when its result is removed.
        between.first["DELETE /.tasks"] = stop_now
        report = await chats.purge(Purge("acme", CUTOFF, notes=notes, stop=stop), url=between.url)
        assert between.times("_delete_by_query") == 1
    assert (report.state, report.rows) == ("interrupted", 18)
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert (report.state, report.rows) == ("finished", 2)


@on_one_server
async def test_a_block_in_the_middle_is_named_and_what_went_before_is_counted(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=1000)
    watching = Watching()
    try:
        async with chats.opened(rate=SLOW) as store:
            task = asyncio.create_task(store.purge(Purge("acme", CUTOFF), watching))
            await watching.until_some_are_gone()
            await chats.ask("PUT", f"/{INDEX}/_settings", {"index": {"blocks": {"write": True}}})
            while not task.done():
                await chats.hurry()
                await asyncio.sleep(0.02)
            report = await task
    finally:
        await chats.ask("PUT", f"/{INDEX}/_settings", {"index": {"blocks": {"write": None}}})
    assert report.state == "refused"
    assert report.refused is not None
    assert "the block `write`" in report.refused.hint
    assert report.rows == 1000 - await chats.left() > 0


@on_one_server
async def test_it_goes_in_the_background_and_no_batch_is_larger_than_what_may_go_in_a_second(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)
    async with standing_before(chats.config.url[0]) as between:
        for rate in (100, 50_000):
            async with chats.opened(rate=rate, url=between.url) as store:
                await store.purge(Purge("acme", CUTOFF), NullProgress())
            await chats.add(first=CUTOFF - timedelta(hours=50), count=20)
        slow, fast = [line for line in between.asked if "_delete_by_query" in line]
    # A synchronous one would lose its answer: it bears a header for each batch, and no client takes so many.
    assert "wait_for_completion=false" in slow
    assert "scroll_size=100&" in slow.replace(" ", "&")
    assert "scroll_size=1000&" in fast.replace(" ", "&")


@on_one_server
async def test_two_purges_at_once_both_end_well(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=2000)
    reports = await asyncio.gather(chats.purge(), chats.purge(Purge("acme", CUTOFF, purge_id=2)))
    assert [report.state for report in reports] == ["finished", "finished"]
    assert await chats.left() == 0


@on_one_server
@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("_refresh", {"_shards": {"total": 2, "successful": 1, "failed": 1}}),
        (
            "_field_caps",
            {
                "fields": {
                    "account": {"keyword": {"searchable": True}},
                    "created": {"date": {"searchable": True}},
                    "threadid": {"long": {"searchable": True}},
                },
                "failures": [
                    {"indices": [INDEX], "failure": {"error": {"type": "node_disconnected_exception"}}}
                ],
            },
        ),
    ],
)
async def test_an_answer_of_a_part_of_the_shards_is_none_and_nothing_is_deleted(
    chats: Chats, question: str, part: dict[str, Any]
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=20)
    async with standing_before(chats.config.url[0]) as between:
        between.instead[question] = part
        # It is either raised or reported, and exit status 4 for both.
        try:
            state = (await chats.purge(url=between.url)).state
        except UnreachableError:
            state = "interrupted"
        assert between.times("_delete_by_query") == 0
    assert state == "interrupted"
    assert await chats.left() == 20
