"""What is refused before anything is deleted: fields that are not what they are taken for, and what would not let it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.search.index import Index
from retentiond.targets.chat_database.search.store import open_search
from tests.support.search_index import INDEX
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import Chats as Known
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    from tests.support.search_index import Chats

# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)
# What both servers do alike is shown on one.
on_one_server = pytest.mark.parametrize("server", ["opensearch"], indirect=True)


@on_one_server
async def test_an_index_that_takes_accounts_for_each_other_is_refused(chats: Chats) -> None:
    alias = {"type": "alias", "path": "account"}
    await chats.make(account={"type": "keyword", "normalizer": "lowercase"}, tenant=alias)
    await chats.add("ACME", first=CUTOFF - timedelta(days=9), count=1)
    for field in ("account", "tenant"):
        report = await chats.purge(account_field=field)
        assert report.refused is not None
        assert report.refused.limit == "elasticsearch_account_field"
    assert await chats.left() == 1


@on_one_server
async def test_an_account_whose_name_is_too_long_for_its_field_is_refused_and_not_called_purged(
    chats: Chats,
) -> None:
    await chats.make(account={"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 3}}})
    await chats.add(first=CUTOFF - timedelta(days=9), count=1)
    await chats.add("abc", first=CUTOFF - timedelta(days=9), count=1)
    report = await chats.purge(account_field="account.raw")
    assert report.refused is not None
    assert report.refused.value == "account.raw is keyword, with ignore_above 3"
    assert (await chats.purge(Purge("abc", CUTOFF), account_field="account.raw")).rows == 1


@on_one_server
@pytest.mark.parametrize(
    ("field", "filled", "key"),
    [
        ("account", "acme", "account_field"),
        ("created", "2022-01-01", "date_field"),
        ("threadid", -1, "thread_field"),
    ],
)
async def test_a_field_that_the_mapping_fills_does_not_tell_what_a_document_lacks(
    chats: Chats, field: str, filled: Any, key: str
) -> None:
    types = {"account": "keyword", "created": "date", "threadid": "long"}
    mapping: dict[str, Any] = {field: {"type": types[field], "null_value": filled}}
    await chats.make(**mapping, other={"type": "alias", "path": field})
    name = {} if key == "account_field" else {key: "other"}
    report = await chats.purge(Purge("acme", CUTOFF, chats=Known([7])), **name)
    assert report.refused is not None
    assert report.refused.limit == f"elasticsearch_{key}"
    assert str(filled) in str(report.refused.value)


@pytest.mark.parametrize("server", ["elasticsearch"], indirect=True)
async def test_a_field_that_is_not_indexed_is_refused_and_not_called_purged(chats: Chats) -> None:
    await chats.make(account={"type": "keyword", "index": False})
    await chats.add(first=CUTOFF - timedelta(days=9), count=1)
    report = await chats.purge()
    assert report.refused is not None
    assert report.refused.value == "account cannot be searched"


@on_one_server
async def test_a_misspelt_field_of_chats_is_told_before_any_chat_stays(chats: Chats) -> None:
    await chats.make()
    async with chats.opened(thread_field="thredid") as store:
        (problem,) = await store.check()
    assert "thredid" in problem


@on_one_server
async def test_what_is_misspelt_or_of_another_type_is_refused_and_matches_nothing_and_not_everything(
    chats: Chats,
) -> None:
    await chats.make(chat={"type": "nested", "properties": {"account": {"type": "keyword"}}})
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    changes: tuple[dict[str, Any], ...] = (
        {"index": "retentiond-tset"},
        {"index": "retentiond-tset-*"},
        {"index": f"{INDEX},retentiond-tset"},
        {"account_field": "acount"},
        {"account_field": "account.keyword"},
        {"account_field": "text"},
        {"account_field": "account*"},
        {"account_field": "chat.account"},
        {"date_field": "creatd"},
        {"date_field": "text"},
        {"date_field": "threadid"},
    )
    for change in changes:
        report = await chats.purge(**change)
        assert report.refused is not None, change
        assert report.refused.limit == f"elasticsearch_{next(iter(change))}"
    assert await chats.left() == 10


@pytest.mark.parametrize("mapping", [{"type": "text"}, None])
async def test_a_field_that_one_of_several_indices_lacks_is_refused(
    chats: Chats, mapping: dict[str, Any] | None
) -> None:
    await chats.make(f"{INDEX}-1")
    await chats.make(f"{INDEX}-2", account=mapping)
    report = await chats.purge(index=f"{INDEX}-*")
    assert report.refused is not None
    assert f"keyword, {'text' if mapping else 'unmapped'}" in str(report.refused.value)


@on_one_server
async def test_an_alias_that_shows_a_part_of_an_index_is_refused_unless_the_rest_is_reached_beside_it(
    chats: Chats,
) -> None:
    await chats.make(f"{INDEX}-1")
    await chats.make(f"{INDEX}-2")
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10, index=f"{INDEX}-1")
    await chats.alias(f"{INDEX}-1", f"{INDEX}-few", filter={"term": {"threadid": 1}})
    await chats.alias(f"{INDEX}-2", f"{INDEX}-few")
    await chats.alias(f"{INDEX}-1", f"{INDEX}-one-shard", routing="1")
    for name in ("few", "one-shard"):
        report = await chats.purge(index=f"{INDEX}-{name}")
        assert report.refused is not None
        assert report.refused.value == f"{INDEX}-1"
    assert await chats.left(index=f"{INDEX}-1") == 10
    # The pattern has the index itself beside its aliases.
    assert (await chats.purge(index=f"{INDEX}-*")).rows == 10


async def test_an_index_that_is_hidden_from_the_pattern_is_named_and_reached_where_it_is_named(
    chats: Chats,
) -> None:
    await chats.make(f"{INDEX}-1")
    await chats.make(f"{INDEX}-2", settings={"index.hidden": True})
    for number in (1, 2):
        await chats.add(first=CUTOFF - timedelta(hours=50), count=10, index=f"{INDEX}-{number}")
    report = await chats.purge(index=f"{INDEX}-*")
    assert report.refused is not None
    assert report.refused.value == f"{INDEX}-2"
    assert (await chats.purge(index=f"{INDEX}-*,{INDEX}-2")).rows == 20


async def test_a_shard_that_is_not_there_is_no_count_of_nothing(chats: Chats) -> None:
    await chats.make(f"{INDEX}-1")
    await chats.make(f"{INDEX}-2", settings={"index.routing.allocation.require._name": "nowhere"})
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10, index=f"{INDEX}-1")
    for name in ("2", "*"):
        with pytest.raises(UnreachableError, match="cluster's health"):
            await chats.purge(index=f"{INDEX}-{name}")
    # One that was there when it was looked for may be lost before it is counted.
    config = chats.config.model_copy(update={"index": f"{INDEX}-*"})
    async with open_search(config) as search:
        with pytest.raises(UnreachableError, match="2 of 4 shards"):
            await Index(search, config).count({"term": {"account": "acme"}})
    assert await chats.left(index=f"{INDEX}-1") == 10


@on_one_server
async def test_a_cluster_that_forbids_the_look_for_a_second_account_is_told_so(chats: Chats) -> None:
    await chats.make()
    await chats.ask("PUT", "/_cluster/settings", {"transient": {"search.allow_expensive_queries": False}})
    try:
        report = await chats.purge()
        assert report.refused is not None
        assert "set search.allow_expensive_queries to true" in report.refused.hint
    finally:
        await chats.ask("PUT", "/_cluster/settings", {"transient": {"search.allow_expensive_queries": None}})


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])
async def test_an_index_that_a_policy_or_a_full_disk_made_read_only_is_named_and_the_others_are_purged(
    chats: Chats, block: str
) -> None:
    for number in (1, 2, 3):
        await chats.make(f"{INDEX}-{number}")
        # Nothing is due in the third, which is blocked, too: it keeps nothing back.
        days = timedelta(days=-9 if number == 3 else 9)
        await chats.add(first=CUTOFF - days, count=10, index=f"{INDEX}-{number}")
    await chats.ask("PUT", f"/{INDEX}-2,{INDEX}-3/_settings", {"index": {"blocks": {block: True}}})
    try:
        async with chats.opened(index=f"{INDEX}-*") as store:
            # It is no fault of the configuration, and keeps the database from nothing.
            assert await store.check() == []
        dry = await chats.purge(Purge("acme", CUTOFF, dry_run=True), index=f"{INDEX}-*")
        report = await chats.purge(index=f"{INDEX}-*")
    finally:
        await chats.ask("PUT", f"/{INDEX}-2,{INDEX}-3/_settings", {"index": {"blocks": {block: None}}})
    for told in (dry, report):
        assert (told.state, told.rows) == ("refused", 10)
        assert told.refused is not None
        assert (told.refused.limit, told.refused.value) == ("elasticsearch_blocked", f"{INDEX}-2")
        assert f"{INDEX}-2 (10 documents to purge) has the block `{block}`" in told.refused.hint
        assert ("disk is full" in told.refused.hint) == (block == "read_only_allow_delete")
    assert [await chats.left(index=f"{INDEX}-{number}") for number in (1, 2, 3)] == [0, 10, 10]
    assert (await chats.purge(index=f"{INDEX}-*")).state == "finished"


@pytest.mark.parametrize("block", ["read", "metadata"])
@on_one_server
async def test_an_index_that_cannot_even_be_read_is_named_and_keeps_the_database_from_nothing(
    chats: Chats, block: str
) -> None:
    await chats.make(f"{INDEX}-1")
    await chats.make(f"{INDEX}-2")
    await chats.ask("PUT", f"/{INDEX}-2/_settings", {"index": {"blocks": {block: True}}})
    try:
        async with chats.opened(index=f"{INDEX}-*") as store:
            assert await store.check() == []
        report = await chats.purge(index=f"{INDEX}-*")
    finally:
        await chats.ask("PUT", f"/{INDEX}-2/_settings", {"index": {"blocks": {block: None}}})
    assert report.refused is not None
    assert (report.refused.limit, report.refused.value) == ("elasticsearch_blocked", f"{INDEX}-2")
    assert f"index {block} (api)" in report.refused.hint


@on_one_server
async def test_a_block_of_the_whole_cluster_is_named(chats: Chats) -> None:
    await chats.make()
    await chats.ask("PUT", "/_cluster/settings", {"transient": {"cluster.blocks.read_only": True}})
    try:
        report = await chats.purge()
        assert report.refused is not None
        assert report.refused.value == "the whole cluster"
    finally:
        await chats.ask("PUT", "/_cluster/settings", {"transient": {"cluster.blocks.read_only": None}})


async def test_a_closed_index_is_named_and_the_others_are_purged(chats: Chats) -> None:
    await chats.make(f"{INDEX}-1")
    await chats.make(f"{INDEX}-2")
    for number in (1, 2):
        await chats.alias(f"{INDEX}-{number}", f"{INDEX}-both")
    await chats.ask("POST", f"/{INDEX}-2/_close")
    for index in (f"{INDEX}-*", f"{INDEX}-1,{INDEX}-2", f"{INDEX}-both", f"{INDEX}-2"):
        await chats.add(first=CUTOFF - timedelta(hours=50), count=10, index=f"{INDEX}-1")
        async with chats.opened(index=index) as store:
            assert await store.check() == []
        dry = await chats.purge(Purge("acme", CUTOFF, dry_run=True), index=index)
        report = await chats.purge(index=index)
        rows = 0 if index == f"{INDEX}-2" else 10
        for told in (dry, report):
            assert (told.state, told.rows) == ("refused", rows)
            assert told.refused is not None
            assert (told.refused.limit, told.refused.value) == ("elasticsearch_closed", f"{INDEX}-2")
    assert (await chats.purge(index=f"{INDEX}-*,-{INDEX}-2")).state == "finished"
