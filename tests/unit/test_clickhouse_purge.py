"""What a purge makes of answers that no server of one's own can be made to give."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from retentiond.config.chat_stores import ClickHouseStore
from retentiond.engine.target import NullProgress
from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.clickhouse.connection import Server, ServerError, only_value
from retentiond.targets.chat_database.clickhouse.store import ClickHouse
from retentiond.targets.chat_database.store_access import PollPolicy
from tests.support.store_purge import HELD, Notes, Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from retentiond.engine.target import Stop
    from retentiond.targets.chat_database.clickhouse.servers import Servers

    Rows = list[dict[str, Any]]

CUTOFF = datetime(2023, 8, 21, tzinfo=UTC)
TABLE = {"engine": "MergeTree", "engine_full": "", "partition_key": "", "sorting_key": ""}
COLUMNS = [{"name": "account", "type": "String"}, {"name": "created", "type": "DateTime"}]
FAILING = {
    "mutation_id": "0000000001",
    "ours": 1,
    "done": 0,
    "parts_to_do": 2,
    "reason": "a broken part",
    "postponed": "{}",
    "created": "2026-01-01",
}

DONE = FAILING | {"done": 1, "reason": ""}


class Told:
    """A server that answers by what it is asked of: by the first of these words that are in the statement."""

    def __init__(self, answers: Mapping[str, Callable[[], Rows]]) -> None:
        self._answers: dict[str, Callable[[], Rows]] = {
            "engine_full, partition_key": lambda: [TABLE],
            "system.columns": lambda: COLUMNS,
            **answers,
        }
        self.sent: list[str] = []

    several = False

    def heed(self, stop: Stop) -> None:
        pass

    async def others(self) -> AsyncIterator[Server]:
        """Have no other URL."""
        nothing: tuple[Server, ...] = ()
        for server in nothing:
            yield server

    async def insist(self, statement: str, parameters: Mapping[str, Any]) -> None:
        await self.do(statement, parameters)

    async def rows(self, statement: str, _parameters: Mapping[str, Any], *, strict: bool = True) -> Rows:
        del strict
        found = (answer() for words, answer in self._answers.items() if words in statement)
        counts = " ".join(line for line in statement.splitlines() if not line.startswith("--")).startswith(
            ("SELECT count", "SELECT max(", "SELECT toString(sum(")
        )
        return next(found, []) or ([{"none": 0}] if counts else [])

    async def do(self, statement: str, _parameters: Mapping[str, Any]) -> None:
        self.sent.append(statement.split(maxsplit=1)[0])


def store(told: Told, cluster: str | None = None) -> ClickHouse:
    config = ClickHouseStore(url="http://localhost:8123", cluster=cluster, without_chat="purge")
    return ClickHouse(cast("Servers", told), config, PollPolicy(between=0.001))


async def test_replicas_that_no_cluster_names_are_refused_with_what_to_define() -> None:
    told = Told({"SELECT total_replicas": lambda: [{"total_replicas": 3, "is_readonly": 0}]})
    report = await store(told).purge(Purge("acme", CUTOFF), NullProgress())
    assert report.refused is not None
    assert (report.refused.limit, report.refused.value) == (
        "clickhouse_cluster",
        "3 replicas, and no `cluster`",
    )
    assert "remote_servers" in report.refused.hint
    assert told.sent == []


async def test_a_replica_that_takes_no_writes_is_unreachable_and_nothing_is_sent() -> None:
    told = Told({"max(is_readonly)": lambda: [{"readonly": 1}]})
    with pytest.raises(UnreachableError, match="accepts no writes"):
        await store(told).purge(Purge("acme", CUTOFF), NullProgress())
    assert told.sent == []


@pytest.mark.parametrize("held", [False, True])
async def test_parts_at_work_when_a_mutation_was_killed_are_waited_for_before_the_last_count(
    *, held: bool
) -> None:
    at_work = [2, 1, 0]

    def rows() -> Rows:
        """Count what the parts that are at work have not taken yet."""
        return [{"rows": 40 + 30 * sum(at_work)}]

    told = Told(
        {
            "count() AS parts": lambda: [{"parts": at_work.pop(0)}],
            "IS NULL": list,
            "_row_exists": list,
            "SELECT count() FROM": rows,
            "_partition_id": lambda: [{"_partition_id": "all", "_matching": 130}],
            # For a hold somebody else kills it.
            "system.mutations": lambda: [] if held else [FAILING],
        }
    )
    step = {"mark": "retentiond:1", "rows": 130, "left": 130, "meant": {"text": "true", "parameters": {}}}
    purge = Purge("acme", CUTOFF, notes=Notes([step]), held_after=0 if held else None)
    report = await store(told).purge(purge, NullProgress())
    assert told.sent == ([] if held else ["KILL"])
    assert report.rows == 90
    assert report.refused == (HELD if held else None)
    assert held or "a broken part" in (report.error or "")


async def test_a_request_that_was_broken_off_is_not_sent_again_since_its_mutation_may_be_written_down() -> (
    None
):
    class BrokenOff(Told):
        async def do(self, statement: str, parameters: Mapping[str, Any]) -> None:
            await super().do(statement, parameters)
            raise ServerError("the query is at it for too long", 159)

    told = BrokenOff(
        {
            "IS NULL": list,
            "_row_exists": list,
            "SELECT count() FROM": lambda: [{"rows": 0 if told.sent else 50}],
            "_partition_id": lambda: [{"_partition_id": "all", "_matching": 50}],
            "system.mutations": lambda: [DONE],
        }
    )
    report = await store(told).purge(Purge("acme", CUTOFF), NullProgress())
    assert (report.state, report.rows, told.sent) == ("finished", 50, ["ALTER"])


NODES = [
    {
        "cluster": "two",
        "shard_num": number,
        "replica_num": 1,
        "host_name": f"n{number}",
        "host_address": f"10.0.0.{number}",
        "port": 9000,
        "is_local": int(number == 1),
    }
    for number in (1, 2)
]


async def test_rows_of_a_server_that_has_not_heard_of_a_mutation_yet_are_not_counted_as_gone_before_they_are() -> (
    None
):
    counts = [[30, 20], [30, 0], [30, 0], [0, 0], [0, 0]]

    def counted() -> Rows:
        return [{"_shard_num": number, "count()": rows} for number, rows in enumerate(counts.pop(0), 1)]

    told = Told(
        {
            "FROM system.clusters": lambda: NODES,
            "system.one": lambda: [{"node": 1}, {"node": 2}],
            "SELECT _shard_num, count()": counted,
            "_partition_id": lambda: [{"_partition_id": "all", "_matching": 50}],
            # The first server never hears of it.
            "system.mutations": lambda: [DONE | {"node": 2}],
        }
    )
    report = await store(told, cluster="two").purge(Purge("acme", CUTOFF), NullProgress())
    assert report.error is None
    assert (report.state, report.rows, told.sent) == ("finished", 50, ["ALTER", "ALTER"])
    assert [(shard.name, shard.rows, shard.left) for shard in report.shards] == [("1", 30, 0), ("2", 20, 0)]


async def test_an_answer_of_nothing_to_a_question_that_always_has_one_is_an_error_and_not_zero() -> None:
    class Silent:
        async def query(self, *_statement: object, **_values: object) -> Silent:
            return self

        def named_results(self) -> Rows:
            return []

    with pytest.raises(ServerError, match="it sent an empty answer"):
        only_value(await Server(Silent(), "http://localhost:8123").rows("SELECT count() FROM thread", {}))
