"""Several URLs of a real ClickHouse: one that dies in the middle of a purge is not the purge's end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.clickhouse import servers
from tests.support.clickhouse_coordinator import coordinating
from tests.support.clickhouse_server import ClickHouseServer
from tests.support.stats_table import CUTOFF, Stats
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    from pathlib import Path


def over(stats: Stats, *urls: str) -> Stats:
    """Return the same table, asked for at these URLs."""
    seen = Stats(stats.config.url[0])
    seen.config = stats.config.model_copy(update={"url": urls})
    return seen


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_BETWEEN_ROUNDS", 0.01)


async def test_the_first_url_of_two_that_does_not_answer_is_passed_over(
    stats: Stats, closed_port: int
) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    report = await over(stats, f"http://127.0.0.1:{closed_port}", stats.config.url[0]).purge()
    assert (report.state, report.rows) == ("finished", 50)


async def test_a_mutation_whose_answer_is_lost_with_its_server_is_found_at_the_next_url_and_not_sent_again(
    stats: Stats,
) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    async with coordinating(stats.config.url[0]) as first:
        first.dies_at = b"DELETE"
        report = await over(stats, first.url, stats.config.url[0]).purge()
        assert (first.dead, len(first.sent)) == (True, 1)
    assert (report.state, report.rows, report.at_least, report.error) == ("finished", 50, False, None)
    assert await stats.marks() == 1
    assert await stats.left() == 50


@pytest.mark.parametrize("word", [b"DISTINCT", b"DROP PART", b"system.mutations", b"is_frozen"])
async def test_a_server_that_dies_at_any_step_of_a_purge_is_followed_by_the_next_url_with_exact_counts(
    stats: Stats, word: bytes
) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(days=150), count=30, every=timedelta(days=1))
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    async with coordinating(stats.config.url[0]) as first:
        first.dies_at = word
        report = await over(stats, first.url, stats.config.url[0]).purge()
        assert first.dead
    assert (report.state, report.rows, report.error) == ("finished", 80, None)
    assert await stats.left() == 50


async def test_where_no_url_answers_any_more_the_purge_is_interrupted_and_the_next_one_goes_on(
    stats: Stats, closed_port: int
) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    purge = Purge("acme", CUTOFF)
    async with coordinating(stats.config.url[0]) as first:
        first.dies_at = b"DELETE"
        report = await over(stats, first.url, f"http://127.0.0.1:{closed_port}").purge(purge)
    assert (report.state, report.rows, report.at_least) == ("interrupted", 0, True)
    report = await stats.purge(Purge("acme", CUTOFF, purge_id=2, notes=purge.notes))
    assert (report.state, report.rows) == ("finished", 50)
    assert await stats.marks() == 1


async def test_urls_of_two_servers_without_a_cluster_are_refused_and_a_count_never_mixes_the_two(
    stats: Stats, tmp_path: Path
) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    other = ClickHouseServer(tmp_path)
    other.start()
    try:
        await Stats(other.url).make(partition=None)
        both = over(stats, stats.config.url[0], other.url)
        report = await both.purge()
        assert report.refused is not None
        assert report.refused.limit == "clickhouse_cluster"
        assert "set `cluster:`" in report.refused.hint
        # The second is down at the start, and the only one later.
        other.stop()
        async with both.opened() as store:
            assert await store.check() == []
            await store._servers._leave(UnreachableError("lost"))
            other.start()
            with pytest.raises(UnreachableError, match="another server"):
                await store._servers._open()
    finally:
        other.stop()
