"""Which servers of ClickHouse have the rows of a table, from what one of them says of its clusters."""

from __future__ import annotations

from typing import Any

import pytest

from retentiond.targets.chat_database.clickhouse.cluster import _shards
from retentiond.targets.chat_database.clickhouse.mutation import Mutation, ShardTally
from retentiond.targets.chat_database.clickhouse.placement import (
    DistributedTable,
    best_cluster,
    lacking,
    read_distributed,
)
from retentiond.targets.chat_database.clickhouse.servers import Node, read_clusters


def row(cluster: str, shard: int, host: str, port: int = 9000) -> dict[str, Any]:
    told = {"cluster": cluster, "shard_num": shard, "host_name": host, "host_address": "10.0.0.1"}
    return told | {"port": port, "is_local": 0}


def node(number: int, shard: int) -> Node:
    return Node(number, shard, f"n{number}", 9000, loopback=False, local=number == 1)


FOUR = [node(1, 1), node(2, 1), node(3, 2), node(4, 2)]
PAIRS = {1: "1", 2: "1", 3: "2", 4: "2"}


def test_a_server_that_a_cluster_lists_twice_counts_once_as_the_server_numbers_them() -> None:
    found = read_clusters([row("main", 1, "a"), row("main", 2, "a"), row("main", 2, "b")])
    assert [(one.number, one.shard, one.name) for one in found["main"]] == [
        (1, 1, "a:9000"),
        (2, 2, "b:9000"),
    ]


def test_the_line_to_write_names_the_macros_cluster_or_the_largest_with_the_fewest_shards() -> None:
    clusters = read_clusters(
        [
            *(row("each", number, host) for number, host in enumerate("abcd", 1)),
            *(row("main", 1 + number // 2, host) for number, host in enumerate("abcd")),
            *(row("half", 1, host) for host in "ab"),
        ]
    )
    assert best_cluster(clusters, {}, 2) == "main"
    assert best_cluster(clusters, {"cluster": "half"}, 2) == "half"
    assert best_cluster(clusters, {"cluster": "half"}, 3) == "main"
    assert best_cluster(clusters, {}, 5) is None
    assert lacking(clusters, "half", "main") == ["c:9000", "d:9000"]


@pytest.mark.parametrize(
    ("engine", "table"),
    [
        (r"Distributed('main', 'stats', 'thread', rand())", ("main", "stats", "thread")),
        (r"Distributed(main, stats, thread) SETTINGS x = 1", ("main", "stats", "thread")),
        (r"Distributed('{cluster}', 'stats', 'it\'s')", ("real", "stats", "it's")),
        (r"Distributed('{other}', '', 'thread')", ("{other}", "own", "thread")),
    ],
)
def test_the_engine_of_a_distributed_table_is_read_in_each_spelling(
    engine: str, table: tuple[str, str, str]
) -> None:
    assert read_distributed("own.every", engine, {"cluster": "real"}) == DistributedTable("own.every", *table)


def replica(number: int, path: str, total: int) -> dict[str, Any]:
    return {"node": number, "zookeeper_path": path, "total_replicas": total, "is_readonly": 0}


def test_replicas_that_a_cluster_lists_as_shards_are_counted_once_and_shards_of_one_path_apart() -> None:
    apart = [node(1, 1), node(2, 2)]
    assert _shards(apart, [replica(1, "/a", 2), replica(2, "/a", 2)]) == {1: "1", 2: "1"}
    # Each has a Keeper of its own.
    assert _shards(apart, [replica(1, "/a", 1), replica(2, "/a", 1)]) == {1: "1", 2: "2"}


def test_rows_are_counted_once_a_shard_and_what_is_gone_is_counted_where_it_was() -> None:
    tally = ShardTally(FOUR, PAIRS)
    assert tally.counted({1: 50, 2: 48, 3: 20, 4: 20}) == 70
    tally.looked([Mutation("1", True, False, 1, "", "", "", 2), Mutation("1", True, True, 0, "", "", "", 1)])
    first = tally.reports()[0]
    assert (first.state, [one.state for one in first.replicas]) == ("running", ["running", "running"])
    assert tally.counted({2: 10}) == 10
    assert [(one.rows, one.left) for one in tally.reports()] == [(40, 10), (20, 0)]


def test_a_server_that_is_away_has_no_count_and_a_shard_without_any_other_is_dead() -> None:
    tally = ShardTally(FOUR, PAIRS)
    tally.begin()
    tally.note_away({2: "down"})
    assert tally.counted({1: 50, 2: 99}) == 50
    assert (tally.dead_shards(), tally.reports()[0].state) == ([], "unreachable")
    tally.note_away({1: "down", 2: "down"})
    assert tally.dead_shards() == ["1"]
    # Back, but what it has was not looked at in this round.
    tally.note_away({})
    assert tally.missed.keys() == {1, 2}
    tally.begin()
    assert not tally.missed


def test_a_mutation_that_fails_on_one_server_is_named_there() -> None:
    tally = ShardTally(FOUR, PAIRS)
    tally.counted({1: 50, 2: 50})
    tally.looked([Mutation("1", True, False, 1, "no disk", "", "", 2)])
    failed = tally.reports()[0].replicas[1]
    assert (failed.state, failed.error) == ("failed", "no disk")
