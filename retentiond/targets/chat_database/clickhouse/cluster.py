"""All servers of a cluster, queried through one of them; a server that is down is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.model.errors import Refusal, StoreLimit, UnreachableError
from retentiond.model.text import printable
from retentiond.targets.chat_database.clickhouse.connection import PartUnreachableError, ServerError
from retentiond.targets.chat_database.clickhouse.mutation import ShardTally
from retentiond.targets.chat_database.clickhouse.servers import expand, read_clusters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from retentiond.engine.target import Stop
    from retentiond.targets.chat_database.clickhouse.connection import Server
    from retentiond.targets.chat_database.clickhouse.servers import Node, Servers
    from retentiond.targets.chat_database.clickhouse.statements import Condition, Relations


_SILENT: Final = "it cannot be reached"
_READ_ONLY: Final = "it accepts no writes: it has lost its Keeper"

_NO_SUCH_PART: Final = 232
_TOO_LARGE_TO_DROP: Final = 359
_BROKEN_OFF: Final = frozenset({159, 394})
"""Error codes of a request that the server or an administrator ended; its mutation may be recorded all the same."""


class Cluster:
    """Queries the servers of one cluster, and keeps track of those that answer.

    A query goes to all servers first. If one does not answer, the query is repeated on those that do, as long as each shard
    has one of them; `tally.missed` has the others.
    """

    def __init__(self, servers: Servers, relations: Relations, name: str) -> None:
        self._servers = servers
        self._relations = relations
        self._name = name
        self.tally = ShardTally((), {})

    @property
    def several(self) -> bool:
        """Whether there is another URL to switch to."""
        return self._servers.several

    def heed(self, stop: Stop) -> None:
        """End each query as soon as a stop is requested."""
        self._servers.heed(stop)

    async def learn(self) -> Refusal | None:
        """Read the servers of the cluster, and which have copies of the same rows; return a reason to refuse the purge."""
        nodes = await self._nodes(self._servers)
        async for other in self._servers.others():
            if _named(await self._nodes(other)) != _named(nodes):
                # If two clusters had one name, a purge of one would be reported as a purge of both.
                return Refusal(
                    StoreLimit("clickhouse_cluster"),
                    "`url` lists servers of several clusters",
                    None,
                    self._other_cluster(),
                )
        self.tally = ShardTally(nodes, {node.number: str(node.shard) for node in nodes})
        self._servers.admit = self._admit
        await self.look_around()
        replicas = await self._relations.rows(self._servers, "replicas_of_cluster", strict=False)
        self.tally.shard_of = _shards(nodes, replicas)
        self._require_each_shard()
        return await self._without_table(nodes)

    async def _without_table(self, nodes: Sequence[Node]) -> Refusal | None:
        rows = await self._relations.rows(self._servers, "holders", asked=self._name, strict=False)
        lacking = {int(row["node"]) for row in rows if not row["holds"]}
        names = [node.name for node in nodes if node.number in lacking]
        if not names:
            return None
        hint = "create the table on each server of the cluster, or set `cluster` to one whose servers all have it"
        value = printable(f"no such table on {', '.join(names)}", 300)
        return Refusal(StoreLimit("clickhouse_cluster"), value, None, hint)

    async def look_around(self) -> None:
        """Determine which servers answer and accept writes."""
        answering = await self._relations.rows(self._servers, "answering", strict=False)
        replicas = await self._relations.rows(self._servers, "replicas_of_cluster", strict=False)
        there = {int(row["node"]) for row in answering}
        away = {node.number: _SILENT for node in self.tally.nodes if node.number not in there}
        away |= {int(row["node"]): _READ_ONLY for row in replicas if row["is_readonly"]}
        self.tally.note_away(away)

    async def rows(
        self, statement: str, parameters: Mapping[str, Any], *, strict: bool = True
    ) -> list[dict[str, Any]]:
        """Return the rows of a query, from all servers of the cluster or from those that answer."""
        del strict
        try:
            rows = await self._servers.rows(statement, parameters)
        except PartUnreachableError:
            await self.look_around()
            self._require_each_shard()
            return await self._servers.rows(statement, parameters, strict=False)
        if self.tally.away:
            # All of them answered.
            await self.look_around()
        return rows

    async def do(self, statement: str, parameters: Mapping[str, Any]) -> str:
        """Send a statement other than a query, once."""
        return await self._servers.do(statement, parameters)

    async def insist(self, statement: str, parameters: Mapping[str, Any]) -> str:
        """Send a statement that may arrive twice, until a server answers it."""
        return await self._servers.insist(statement, parameters)

    async def count(self, condition: Condition, *, tallied: bool = False) -> int:
        """Count rows, each once for all replicas; raise UnreachableError for a shard that does not answer.

        With `tallied`, rows that are missing since the last tallied count are deleted.
        """
        rows = await self._relations.rows(self, "count_copies", condition)
        self._require_each_shard()
        left = {int(row["_shard_num"]): int(row["count()"]) for row in rows}
        return self.tally.counted(left) if tallied else self.tally.count(left)

    def error(self, *, planned: bool = False) -> str | None:
        """Describe the servers that were away since the round began; None if all answered."""
        if not self.tally.missed:
            return None
        named = [
            f"{node.name} of shard {self.tally.shard_of[node.number]} ({self.tally.missed[node.number]})"
            for node in self.tally.nodes
            if node.number in self.tally.missed
        ]
        away = ", ".join(map(printable, named))
        if planned:
            return f"not all servers answer: {away}; a purge is not finished before they do"
        return f"the purge is done on all servers except {away}; start them, and run it again"

    def _require_each_shard(self) -> None:
        dead = self.tally.dead_shards()
        if dead:
            named = ", ".join(f"shard {shard} ({', '.join(self._servers_of(shard))})" for shard in dead)
            raise UnreachableError(
                f"ClickHouse's cluster {self._name} cannot be reached as a whole: no server of "
                f"{printable(named, 500)} answers and accepts writes; start one, and run it again"
            )

    def _servers_of(self, shard: str) -> Iterable[str]:
        return (node.name for node in self.tally.nodes if self.tally.shard_of[node.number] == shard)

    async def _nodes(self, server: Server | Servers) -> tuple[Node, ...]:
        macros = await self._relations.rows(server, "macros")
        name = expand(self._name, {row["macro"]: row["substitution"] for row in macros})
        clusters = read_clusters(await self._relations.rows(server, "clusters"))
        return clusters.get(name, ())

    async def _admit(self, server: Server) -> None:
        """Refuse a server that defines the cluster differently: it would number the servers differently."""
        if _named(await self._nodes(server)) != _named(self.tally.nodes):
            raise UnreachableError(self._other_cluster())

    def _other_cluster(self) -> str:
        return (
            f"the servers of `url` define the cluster {self._name} differently; give all of them the same "
            "`remote_servers`, or use one URL"
        )


def _named(nodes: Sequence[Node]) -> list[tuple[int, str]]:
    return [(node.shard, node.name) for node in nodes]


def _shards(nodes: Sequence[Node], replicas: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Return the shard of each server. Replicas of one path are one shard, even if the cluster lists them as several."""
    shards = {node.number: str(node.shard) for node in nodes}
    by_path: dict[str, list[Mapping[str, Any]]] = {}
    for row in replicas:
        by_path.setdefault(row["zookeeper_path"], []).append(row)
    for rows in by_path.values():
        numbers = sorted(int(row["node"]) for row in rows)
        # With more servers than replicas, the path is in use on several shards, each with its own Keeper.
        if len(numbers) <= max(int(row["total_replicas"]) for row in rows):
            shards |= dict.fromkeys(numbers, shards[numbers[0]])
    return shards


class TableRows:
    """The rows of one table, on one server or on the servers of a cluster."""

    def __init__(self, server: Servers | Cluster, relations: Relations) -> None:
        self.server = server
        self.relations = relations
        self.cluster = server if isinstance(server, Cluster) else None

    async def ask(
        self, name: str, condition: Condition | None = None, **parameters: Any
    ) -> list[dict[str, Any]]:
        """Return the rows of a query on the table."""
        return await self.relations.rows(self.server, name, condition, **parameters)

    async def value(self, name: str, condition: Condition | None = None, **parameters: Any) -> Any:
        """Return the one value of a query on the table."""
        return await self.relations.value(self.server, name, condition, **parameters)

    async def count(self, condition: Condition, *, tallied: bool = False) -> int:
        """Count rows; with `tallied`, the count is the progress of each shard of a cluster."""
        if self.cluster is not None:
            return await self.cluster.count(condition, tallied=tallied)
        return int(await self.value("count", condition))

    async def partitions(self, condition: Condition) -> dict[str | None, int]:
        """Return the number of rows by partition; the partition is None in a table without partitions."""
        rows = await self.ask("partitions", condition)
        return {
            None if row["_partition_id"] == "all" else row["_partition_id"]: int(row["_matching"])
            for row in rows
        }

    async def delete(self, condition: Condition, partition: str | None, mark: str) -> None:
        """Send the mutation that deletes these rows of a partition; the list of mutations shows whether it was recorded."""
        statement = self.relations.statement("delete", condition=condition, partition=partition)
        parameters = self.relations.parameters(condition, mark=mark, partition=partition or "")
        try:
            await self.server.do(statement, parameters)
        except ServerError as error:
            if error.code not in _BROKEN_OFF:
                raise

    async def drop_whole_parts(
        self, condition: Condition, begin_drop: Callable[[str, int], Awaitable[None]]
    ) -> AsyncIterator[int]:
        """Drop the parts in which every row fits the condition, which needs no rewriting; yield the rows of each.

        `begin_drop` is called with a part and its rows before that part is dropped. A part never changes under its name; a
        partition may get rows between the count and the drop.
        """
        if self.cluster is not None or await self.value("patched"):
            return
        for row in await self.ask("parts", condition):
            await begin_drop(row["part"], int(row["rows"]))
            yield int(row["rows"]) if await self._drop(row["part"]) else 0

    async def has_part(self, part: str) -> bool:
        """Return whether a part of this name exists; a merged part has another name."""
        return bool(await self.value("has_part", part=part))

    async def _drop(self, part: str) -> bool:
        try:
            await self.server.do(self.relations.statement("drop_part"), self.relations.parameters(part=part))
        except ServerError as error:
            # If it was merged meanwhile, or is too large to be dropped, its rows are deleted instead.
            if error.code not in {_NO_SUCH_PART, _TOO_LARGE_TO_DROP}:
                raise
            return False
        except UnreachableError:
            if not self.server.several:
                raise
            return not await self.has_part(part)
        return True
