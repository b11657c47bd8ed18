"""What a purge tells of rows in a real ClickHouse that it cannot see, reach or trust a count of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retentiond.model.errors import UnreachableError
from tests.support.stats_table import CUTOFF, Stats
from tests.support.store_purge import Chats, Purge


@pytest.mark.parametrize(
    ("mode", "erase"),
    [
        ("alter_update", "ALTER TABLE t APPLY DELETED MASK"),
        ("lightweight_update_force", "OPTIMIZE TABLE t FINAL"),
    ],
)
async def test_rows_that_only_a_lightweight_delete_hides_are_told_with_what_erases_them(
    stats: Stats, mode: str, erase: str
) -> None:
    await stats.make(partition=None)
    await stats.do(
        "ALTER TABLE t MODIFY SETTING enable_block_number_column = 1, enable_block_offset_column = 1"
    )
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.do(
        "DELETE FROM retentiond_test.thread WHERE created < '2023-08-21 00:00:00' "
        f"SETTINGS lightweight_delete_mode = '{mode}'"
    )
    report = await stats.purge()
    assert (report.state, report.rows) == ("finished", 0)
    told = f"50 rows are only hidden, by a lightweight DELETE of another user: {erase} erases them"
    assert told.replace("TABLE t", "TABLE …") in report.waiting
    await stats.do(f"{erase} SETTINGS mutations_sync = 1")
    assert not any("hidden" in text for text in (await stats.purge()).waiting)


async def test_what_lies_elsewhere_is_told_old_parts_detached_and_frozen_parts_views_and_buffers(
    stats: Stats,
) -> None:
    await stats.make()
    columns = "account String, created DateTime('UTC')"
    await stats.do(f"CREATE TABLE retentiond_test.texts ({columns}) ENGINE = MergeTree ORDER BY account")
    read = "AS SELECT account, created FROM retentiond_test.thread"
    await stats.do(f"CREATE MATERIALIZED VIEW retentiond_test.sent TO retentiond_test.texts {read}")
    await stats.do(
        f"CREATE MATERIALIZED VIEW retentiond_test.copy ENGINE = MergeTree ORDER BY account {read}"
    )
    await stats.do(
        "CREATE TABLE retentiond_test.buffer AS retentiond_test.thread "
        "ENGINE = Buffer(retentiond_test, thread, 1, 600, 600, 1000000, 1000000, 1000000000, 1000000000)"
    )
    for account in ("acme", "other"):
        await stats.add(account, first=datetime(2023, 6, 1, tzinfo=UTC), count=10, every=timedelta(days=10))
    await stats.do("OPTIMIZE TABLE t FINAL")
    await stats.do("ALTER TABLE t DETACH PARTITION 202306")
    await stats.do("ALTER TABLE t FREEZE WITH NAME 'retentiond_test'")
    await stats.do(
        "INSERT INTO retentiond_test.buffer (account, created, threadid) VALUES ('acme', '2023-01-01 00:00:00', 1)"
    )
    told = "\n".join((await stats.purge()).waiting)
    assert "detached parts were not reached" in told
    assert "old parts still hold the deleted rows" in told
    assert "parts are frozen in a backup" in told
    assert "retentiond_test.copy has rows of its own" in told
    assert "retentiond_test.sent has rows of its own" in told
    assert "retentiond_test.buffer may hold rows" in told
    await stats.do("OPTIMIZE TABLE retentiond_test.buffer")
    assert (await stats.purge()).rows == 1
    await stats.do("ALTER TABLE t UNFREEZE WITH NAME 'retentiond_test'")


async def test_a_projection_is_left_without_the_rows_that_are_gone(stats: Stats) -> None:
    await stats.make(partition=None)
    await stats.do("ALTER TABLE t ADD PROJECTION each (SELECT account, count() GROUP BY account)")
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    assert (await stats.purge()).rows == 50
    question = "SELECT count() FROM t GROUP BY account SETTINGS force_optimize_projection = 1"
    assert await stats.value(question) == 50


@pytest.mark.parametrize(
    ("make", "word"),
    [
        ("other AS t ENGINE = Distributed('alone', 'retentiond_test', 'thread')", "cluster: alone"),
        ("VIEW other AS SELECT * FROM retentiond_test.thread", "MergeTree family"),
    ],
)
async def test_what_only_shows_the_rows_of_another_table_is_refused(
    stats: Stats, make: str, word: str
) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=10)
    kind, _, rest = make.rpartition("other")
    await stats.do(
        f"CREATE {kind or 'TABLE '}retentiond_test.other{rest.replace(' t ', ' retentiond_test.thread ')}"
    )
    stats.config = stats.config.model_copy(update={"table": "retentiond_test.other"})
    report = await stats.purge()
    assert report.refused is not None
    assert word in report.refused.hint
    assert await stats.left() == 10


async def test_what_a_users_profile_says_of_reading_changes_neither_a_count_nor_the_boundary(
    stats: Stats,
) -> None:
    await stats.make(date="DateTime", engine="ReplacingMergeTree")
    for _ in range(2):
        await stats.add(first=CUTOFF - timedelta(hours=2000), count=2100)
    await stats.do("SYSTEM STOP MERGES retentiond_test.thread")
    await stats.do("ALTER TABLE t DELETE WHERE threadid < 100 SETTINGS mutations_sync = 0")
    odd = stats.as_user("odd")
    assert (await odd.purge(Purge("acme", CUTOFF, dry_run=True))).rows == 4000
    await stats.do("SYSTEM START MERGES retentiond_test.thread")
    await stats.do("DELETE FROM retentiond_test.thread WHERE threadid < 200")
    report = await odd.purge()
    assert (report.state, report.rows) == ("finished", 4000 - 2 * 199)
    assert await stats.left() == 200


@pytest.mark.parametrize(("day", "partition"), [(21, None), (1, "toYYYYMM(created)")])
async def test_the_last_moment_before_the_date_goes_and_the_first_of_it_stays(
    stats: Stats, day: int, partition: str | None
) -> None:
    cutoff = datetime(2023, 8, day, tzinfo=UTC)
    await stats.make(date="DateTime64(3, 'UTC')", partition=partition)
    for milliseconds in (-1, 0, 1):
        await stats.do(
            "INSERT INTO TABLE t (account, created, threadid) "
            f"SELECT 'acme', toDateTime64({cutoff.timestamp()}, 3, 'UTC') + INTERVAL {milliseconds} MILLISECOND, 1"
        )
    assert (await stats.purge(Purge("acme", cutoff))).rows == 1
    assert await stats.left() == 2


async def test_columns_that_bear_the_names_of_our_own_words_are_columns_all_the_same(stats: Stats) -> None:
    await stats.make(
        others=", name String ALIAS account, partition DateTime('UTC') ALIAS created, rows Nullable(Int64) ALIAS threadid"
    )
    await stats.add(first=datetime(2023, 3, 1, tzinfo=UTC), count=10)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    stats.config = stats.config.model_copy(
        update={"account_column": "name", "date_column": "partition", "thread_column": "rows"}
    )
    report = await stats.purge(Purge("acme", CUTOFF, chats=Chats([1])))
    assert (report.state, report.rows, report.error) == ("finished", 58, None)
    assert await stats.left() == 52


async def test_on_a_cluster_all_is_read_and_a_delete_that_it_refuses_is_told_but_none_was_carried_out(
    stats: Stats,
) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    stats.config = stats.config.model_copy(update={"cluster": "alone"})
    async with stats.opened() as store:
        assert await store.check() == []
    assert (await stats.purge(Purge("acme", CUTOFF, dry_run=True))).rows == 50
    report = await stats.purge()
    assert (report.state, report.rows) == ("finished_with_failures", 0)
    assert "Replicated DDL queries are disabled" in (report.error or "")
    assert await stats.left() == 100


async def test_a_dead_shard_of_a_cluster_is_unreachable_and_neither_refused_nor_a_count_that_is_too_small(
    stats: Stats,
) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    odd = stats.as_user("odd")
    odd.config = odd.config.model_copy(update={"cluster": "halved"})
    async with odd.opened() as store:
        with pytest.raises(UnreachableError, match="no server of shard 2"):
            await store.check()
    for dry_run in (True, False):
        report = await odd.purge(Purge("acme", CUTOFF, dry_run=dry_run))
        assert (report.state, report.rows, report.refused) == ("interrupted", 0, None)
        assert "no server of shard 2 (127.0.0.1:1) answers" in (report.error or "")
        assert [(shard.name, shard.state) for shard in report.shards] == [
            ("1", "pending"),
            ("2", "unreachable"),
        ]
    assert await stats.left() == 100


async def test_a_distributed_table_over_the_table_needs_the_cluster_that_it_names(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.do(
        "CREATE TABLE retentiond_test.every AS retentiond_test.thread "
        "ENGINE = Distributed('alone', 'retentiond_test', 'thread')"
    )
    # All of it is on this server.
    assert (await stats.purge(Purge("acme", CUTOFF, dry_run=True))).rows == 50
    await stats.do(
        "CREATE TABLE retentiond_test.all AS retentiond_test.thread "
        "ENGINE = Distributed('halved', 'retentiond_test', 'thread', rand())"
    )
    for cluster in (None, "alone"):
        stats.config = stats.config.model_copy(update={"cluster": cluster})
        report = await stats.purge()
        assert report.refused is not None
        assert report.refused.limit == "clickhouse_cluster"
        assert report.refused.hint == "set `cluster: halved`, so that all of them are purged"
    assert await stats.left() == 100


async def test_a_cluster_that_the_server_does_not_know_is_refused_with_those_that_it_knows(
    stats: Stats,
) -> None:
    await stats.make()
    stats.config = stats.config.model_copy(update={"cluster": "allone"})
    async with stats.opened() as store:
        assert await store.check() == [
            "clickhouse: no cluster allone; set `cluster` to one of system.clusters; there are: alone, halved, twice"
        ]
