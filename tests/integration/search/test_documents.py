"""Which documents go and which stay, in a real OpenSearch and a real Elasticsearch."""

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


async def test_an_accounts_documents_before_the_date_go_and_all_others_stay(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await chats.add("other", first=CUTOFF - timedelta(hours=50), count=100)
    report = await chats.purge()
    assert (report.state, report.rows, report.error) == ("finished", 50, None)
    assert await chats.left() == 50
    assert await chats.left("other") == 100
    assert any("are in segments on the disk" in text for text in report.waiting)


async def test_a_dry_run_counts_and_changes_nothing(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=100)
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=None, dry_run=True))
    assert (report.state, report.rows) == ("planned", 50)
    assert await chats.left() == 100


@pytest.mark.parametrize("mapping", [{"type": "date"}, {"type": "date_nanos"}])
async def test_the_boundary_is_exact_to_the_millisecond(chats: Chats, mapping: dict[str, Any]) -> None:
    await chats.make(created=mapping)
    await chats.add(first=CUTOFF - timedelta(milliseconds=2), count=5, every=timedelta(milliseconds=1))
    assert (await chats.purge()).rows == 2
    assert await chats.left() == 3


async def test_a_field_with_a_format_of_its_own_has_the_same_boundary(chats: Chats) -> None:
    await chats.make(created={"type": "date", "format": "epoch_second"})
    seconds = [int((CUTOFF + timedelta(seconds=offset)).timestamp()) for offset in (-1, 0)]
    for second in seconds:
        await chats.add(first=CUTOFF, count=1, created=second)
    assert (await chats.purge()).rows == 1


async def test_a_document_of_two_dates_goes_only_when_both_are_old_and_one_without_a_date_never(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF, count=1, created=["2023-01-01T00:00:00Z", "2024-01-01T00:00:00Z"])
    await chats.add(first=CUTOFF, count=1, created=["2023-01-01T00:00:00Z", "2023-02-01T00:00:00Z"])
    await chats.add(first=CUTOFF, count=1, created=None)
    assert (await chats.purge()).rows == 1
    assert await chats.left() == 2


async def test_chats_that_stay_are_left_out_and_documents_that_say_of_none_stay_too(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=100), count=200)
    await chats.add(first=CUTOFF - timedelta(days=100), count=3, threadid=None)
    staying = [*range(0, 200, 2), *range(10_000, 35_000)]
    report = await chats.purge(Purge("acme", CUTOFF, excluded=Staying(staying)))
    assert (report.state, report.rows) == ("finished", 100)
    assert await chats.left() == 103
    assert any("3 documents say of no chat" in text for text in report.waiting)


async def test_a_document_of_two_accounts_or_of_a_date_before_all_chats_stays(chats: Chats) -> None:
    await chats.make()
    old = CUTOFF - timedelta(days=9)
    await chats.add(["acme", "other"], first=old, count=1)
    await chats.add(first=old, count=1, created=0)
    await chats.add(["acme", "acme"], first=old, count=1)
    assert (await chats.purge()).rows == 1
    assert await chats.left() == 2


@on_one_server
async def test_a_hostile_account_matches_nothing_but_itself(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    for account in ("*", "acme*", 'a" OR "', "", "ACME"):
        assert (await chats.purge(Purge(account, CUTOFF))).rows == 0
    assert await chats.left() == 10


@on_one_server
async def test_what_is_not_visible_yet_is_counted_and_goes(chats: Chats) -> None:
    await chats.make()
    await chats.ask("PUT", f"/{INDEX}/_settings", {"index": {"refresh_interval": "-1"}})
    body: list[dict[str, Any]] = [
        {"index": {}},
        {"account": "acme", "created": "2023-01-01T00:00:00Z", "threadid": 1},
    ]
    await chats.bulk(body)
    assert (await chats.purge()).rows == 1
