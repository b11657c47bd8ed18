"""What is refused before anything is deleted: fields that are not what they are taken for, and what would not let it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.search_index import INDEX
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import Purge, Staying

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
async def test_a_misspelt_field_of_chats_is_told_before_any_chat_stays(chats: Chats) -> None:
    await chats.make()
    async with chats.opened(thread_field="thredid") as store:
        (problem,) = await store.check()
    assert "thredid" in problem


@on_one_server
async def test_chats_that_stay_refuse_an_index_that_does_not_tell_them(chats: Chats) -> None:
    await chats.make()
    report = await chats.purge(Purge("acme", CUTOFF, excluded=Staying([1])), thread_field=None)
    assert report.state == "refused"


@on_one_server
@pytest.mark.parametrize(
    "change",
    [
        {"index": "retentiond-tset"},
        {"account_field": "acount"},
        {"account_field": "text"},
        {"account_field": "account*"},
        {"date_field": "creatd"},
        {"date_field": "threadid"},
    ],
)
async def test_what_is_misspelt_or_of_another_type_is_refused_and_matches_nothing_and_not_everything(
    chats: Chats, change: dict[str, Any]
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    report = await chats.purge(**change)
    assert report.state == "refused"
    assert await chats.left() == 10


async def test_a_field_that_one_of_several_indices_lacks_is_refused(chats: Chats) -> None:
    await chats.make("retentiond-test-1")
    await chats.make("retentiond-test-2", account={"type": "text"})
    try:
        report = await chats.purge(index="retentiond-test-*")
        assert report.refused is not None
        assert "keyword, text" in str(report.refused.value)
    finally:
        for number in (1, 2):
            await chats.ask("DELETE", f"/retentiond-test-{number}")


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])
async def test_a_block_is_named_before_anything_is_tried(chats: Chats, block: str) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    await chats.ask("PUT", f"/{INDEX}/_settings", {"index": {"blocks": {block: True}}})
    try:
        report = await chats.purge()
        assert report.refused is not None
        assert f"`{block}`" in report.refused.hint
    finally:
        await chats.ask("PUT", f"/{INDEX}/_settings", {"index": {"blocks": {block: None}}})


async def test_a_closed_index_behind_a_pattern_is_named_and_not_passed_over(chats: Chats) -> None:
    await chats.make("retentiond-test-1")
    await chats.make("retentiond-test-2")
    try:
        await chats.ask("POST", "/retentiond-test-2/_close")
        report = await chats.purge(index="retentiond-test-*")
        assert report.refused is not None
        assert "retentiond-test-2" in str(report.refused.value)
    finally:
        for number in (1, 2):
            await chats.ask("DELETE", f"/retentiond-test-{number}")
