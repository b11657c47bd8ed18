"""Indices that roll over, close or become read-only while they are purged, and data streams.

Policies of ISM and ILM do that; what they set is set here by hand, since no minimal distribution has them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.search_index import INDEX, Chats
from tests.support.search_proxy import standing_before
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)
# What both servers do alike is shown on one.
on_one_server = pytest.mark.parametrize("server", ["opensearch"], indirect=True)

OLD = CUTOFF - timedelta(days=9)
ALIAS = f"{INDEX}-all"


async def in_alias(chats: Chats, number: int, **changes: Any) -> None:
    """Make an index behind the alias, as a rollover does, with ten documents to purge."""
    await chats.make(f"{INDEX}-{number}", **changes)
    await chats.add(first=OLD, count=10, index=f"{INDEX}-{number}")
    await chats.alias(f"{INDEX}-{number}", ALIAS)


def once(between: Any, action: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    async def act() -> None:
        between.first.clear()
        await action()

    return act


@pytest.mark.parametrize("name", [ALIAS, f"{INDEX}-*"])
async def test_an_index_that_a_rollover_brings_in_the_middle_is_purged_too(chats: Chats, name: str) -> None:
    await in_alias(chats, 1)
    async with standing_before(chats.config.url[0]) as between:
        between.first["_delete_by_query"] = once(between, lambda: in_alias(chats, 2))
        report = await chats.purge(index=name, url=between.url)
    assert (report.state, report.rows) == ("finished", 20)
    assert [await chats.left(index=f"{INDEX}-{number}") for number in (1, 2)] == [0, 0]


@on_one_server
async def test_an_index_that_comes_in_with_other_fields_is_refused_before_anything_in_it_is_deleted(
    chats: Chats,
) -> None:
    await in_alias(chats, 1)
    async with standing_before(chats.config.url[0]) as between:
        change = {"account": {"type": "text"}}
        between.first["_delete_by_query"] = once(between, lambda: in_alias(chats, 2, **change))
        report = await chats.purge(index=ALIAS, url=between.url)
    assert (report.state, report.rows) == ("refused", 10)
    assert report.refused is not None
    assert report.refused.limit == "elasticsearch_account_field"
    assert await chats.left(index=f"{INDEX}-2") == 10


@on_one_server
async def test_an_index_that_is_closed_in_the_middle_is_named_and_the_others_are_purged(chats: Chats) -> None:
    await in_alias(chats, 1)
    await in_alias(chats, 2)
    async with standing_before(chats.config.url[0]) as between:
        closing = once(between, lambda: chats.ask("POST", f"/{INDEX}-2/_close"))
        between.first["_delete_by_query"] = closing
        report = await chats.purge(index=ALIAS, url=between.url)
    assert (report.state, report.rows) == ("refused", 10)
    assert report.refused is not None
    assert (report.refused.limit, report.refused.value) == ("elasticsearch_closed", f"{INDEX}-2")
    assert await chats.left(index=f"{INDEX}-1") == 0


async def test_an_index_that_is_read_only_for_a_moment_in_the_middle_is_purged_too(chats: Chats) -> None:
    await in_alias(chats, 1)
    await in_alias(chats, 2)

    async def block(value: bool | None) -> None:
        await chats.ask("PUT", f"/{INDEX}-2/_settings", {"index.blocks.write": value})

    async with standing_before(chats.config.url[0]) as between:

        async def end() -> None:
            between.first.clear()
            await block(None)

        async def begin() -> None:
            between.first.clear()
            await block(True)
            # The round has failed by the next look.
            between.first["_cat/indices"] = end

        between.first["_delete_by_query"] = begin
        report = await chats.purge(index=ALIAS, url=between.url)
    assert (report.state, report.rows, report.error) == ("finished", 20, None)
    assert await chats.left(index=ALIAS) == 0


@on_one_server
async def test_the_state_of_each_shard_and_copy_is_in_the_report(chats: Chats) -> None:
    await in_alias(chats, 1)
    await in_alias(chats, 2)
    await chats.ask("PUT", f"/{INDEX}-2/_settings", {"index": {"blocks": {"write": True}}})
    try:
        purge = Purge("acme", CUTOFF)
        report = await chats.purge(purge, index=ALIAS)
    finally:
        await chats.ask("PUT", f"/{INDEX}-2/_settings", {"index": {"blocks": {"write": None}}})
    assert {shard.name: shard.state for shard in report.shards} == {
        f"{INDEX}-1[0]": "finished",
        f"{INDEX}-1[1]": "finished",
        f"{INDEX}-2[0]": "failed",
        f"{INDEX}-2[1]": "failed",
    }
    assert report.shards[0].replicas[0].name.startswith("primary on ")


@pytest.fixture
async def stream(chats: Chats) -> AsyncIterator[str]:
    """A data stream of two generations, each with ten documents to purge."""
    name = f"{INDEX}-stream"
    fields = {"account": {"type": "keyword"}, "created": {"type": "date"}, "threadid": {"type": "long"}}
    template = {
        "index_patterns": [name],
        "data_stream": {},
        "template": {"settings": {"number_of_replicas": 0}, "mappings": {"properties": fields}},
    }
    await chats.ask("PUT", f"/_index_template/{name}", template)
    document = {"account": "acme", "created": "2023-01-01T00:00:00Z", "@timestamp": "2023-01-01T00:00:00Z"}
    for generation in (1, 2):
        lines: list[dict[str, Any]] = []
        for chat in range(1, 11):
            lines += [{"create": {}}, document | {"threadid": chat}]
        await chats.bulk(lines, name, "?refresh=true")
        if generation == 1:
            await chats.ask("POST", f"/{name}/_rollover")
    yield name
    await chats.remove(f"/_data_stream/{name}")
    await chats.remove(f"/_index_template/{name}")


@on_one_server
@pytest.mark.parametrize("named", ["by its name", "by a pattern"])
async def test_a_data_stream_is_purged_in_all_its_generations(chats: Chats, stream: str, named: str) -> None:
    report = await chats.purge(index=stream if named == "by its name" else f"{INDEX}-str*")
    assert (report.state, report.rows) == ("finished", 20)
    assert await chats.left(index=stream) == 0


@on_one_server
async def test_a_read_only_generation_of_a_data_stream_is_named_and_the_others_are_purged(
    chats: Chats, stream: str
) -> None:
    first = f".ds-{stream}-000001"
    await chats.ask("PUT", f"/{first}/_settings", {"index": {"blocks": {"write": True}}})
    report = await chats.purge(index=stream)
    assert (report.state, report.rows) == ("refused", 10)
    assert report.refused is not None
    assert (report.refused.limit, report.refused.value) == ("elasticsearch_blocked", first)
