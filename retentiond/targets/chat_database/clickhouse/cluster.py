"""All servers of a cluster, queried through one of them; a server that is down is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.model.errors import Refusal, StoreLimit, UnreachableError
from retentiond.model.text import printable
from retentiond.targets.chat_database.clickhouse.connection import (
    PartUnreachableError,
    ServerError,
    only_value,
)
from retentiond.targets.chat_database.clickhouse.mutation import ShardTally
from retentiond.targets.chat_database.clickhouse.servers import expand, read_clusters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from retentiond.engine.target import Stop
    from retentiond.targets.chat_database.clickhouse.connection import Server
    from retentiond.targets.chat_database.clickhouse.servers import Node, Servers
    from retentiond.targets.chat_database.clickhouse.statements import Condition, Relations


_SILENT: Final = "it cannot be reached"
_READ_ONLY: Final = "it takes no writes: it has lost its Keeper"

_NO_SUCH_PART: Final = 232
_TOO_LARGE_TO_DROP: Final = 359
_BROKEN_OFF: Final = frozenset({159, 394})
"""The request was ended by the server or an administrator; the mutation may be recorded all the same."""


class Cluster:
    """Asks the servers of one cluster, and knows which of them answer.

    A query is asked of all first; where one does not answer, it is asked again of those that do, as long as each shard has
    one of them. What is missing then is in `tally.missed`.
    """

    def __init__(self, servers: Servers, relations: Relations, name: str) -> None:
        self._servers = servers
        self._relations = relations
        self._name = name
        self.tally = ShardTally((), {})

    @property
    def several(self) -> bool:
        """Whether there is another URL to go over to."""
        return self._servers.several

    def heed(self, stop: Stop) -> None:
        """End each query as soon as a stop is requested."""
        self._servers.heed(stop)

    async def learn(self) -> Refusal | None:
        """Learn the servers of the cluster, and which have copies of the same rows; return why it cannot be purged."""
        nodes = await self._nodes(self._servers)
        async for other in self._servers.others():
            if _named(await self._nodes(other)) != _named(nodes):
                # With two clusters of one name, a purge of one would be reported as a purge of both.
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
        hint = (
            "make the table on each server of the cluster, or set `cluster` to one whose servers all have it"
        )
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

    async def value(self, statement: str, parameters: Mapping[str, Any]) -> Any:
        """Return the one value of a query that always has one."""
        return only_value(await self.rows(statement, parameters))

    async def do(self, statement: str, parameters: Mapping[str, Any]) -> str:
        """Send a statement that is no query, once."""
        return await self._servers.do(statement, parameters)

    async def insist(self, statement: str, parameters: Mapping[str, Any]) -> str:
        """Send a statement that may arrive twice, until a server answers it."""
        return await self._servers.insist(statement, parameters)

    async def count(self, meant: Condition, *, tallied: bool = False) -> int:
        """Count rows, each once however many replicas have it; a shard that does not answer is an UnreachableError.

        Where it is `tallied`, rows that are missing since the last such count are gone.
        """
        rows = await self._relations.rows(self, "count_copies", meant)
        self._require_each_shard()
        left = {int(row["_shard_num"]): int(row["count()"]) for row in rows}
        return self.tally.counted(left) if tallied else self.tally.count(left)

    def error(self, *, planned: bool = False) -> str | None:
        """Report the servers that were away since the round began; None if all answered."""
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
        return (
            f"the purge is done on the other servers, and not on {away}; start what is down, and run it again"
        )

    def _require_each_shard(self) -> None:
        dead = self.tally.dead_shards()
        if dead:
            named = ", ".join(f"shard {shard} ({', '.join(self._servers_of(shard))})" for shard in dead)
            raise UnreachableError(
                f"ClickHouse's cluster {self._name} cannot be reached as a whole: no server of {printable(named, 500)} "
                "answers and takes writes; start one, and run it again"
            )

    def _servers_of(self, shard: str) -> Iterable[str]:
        return (node.name for node in self.tally.nodes if self.tally.shard_of[node.number] == shard)

    async def _nodes(self, server: Server | Servers) -> tuple[Node, ...]:
        macros = await self._relations.rows(server, "macros")
        name = expand(self._name, {row["macro"]: row["substitution"] for row in macros})
        clusters = read_clusters(await self._relations.rows(server, "clusters"))
        return clusters.get(name, ())

    async def _admit(self, server: Server) -> None:
        """Refuse a server to which the cluster is another one: the numbers of its servers would be others."""
        if _named(await self._nodes(server)) != _named(self.tally.nodes):
            raise UnreachableError(self._other_cluster())

    def _other_cluster(self) -> str:
        return (
            f"a server of `url` knows other servers as the cluster {self._name}; give all of them the same "
            "`remote_servers`, or name one URL"
        )


def _named(nodes: Sequence[Node]) -> list[tuple[int, str]]:
    return [(node.shard, node.name) for node in nodes]


def _shards(nodes: Sequence[Node], replicas: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Return the shard of each server. Replicas of one path are one shard, even in a cluster that lists them as several."""
    shards = {node.number: str(node.shard) for node in nodes}
    by_path: dict[str, list[Mapping[str, Any]]] = {}
    for row in replicas:
        by_path.setdefault(row["zookeeper_path"], []).append(row)
    for rows in by_path.values():
        numbers = sorted(int(row["node"]) for row in rows)
        # More than there are replicas: shards with a Keeper each may use one path.
        if len(numbers) <= max(int(row["total_replicas"]) for row in rows):
            shards |= dict.fromkeys(numbers, shards[numbers[0]])
    return shards


class MeantRows:
    """The rows of one table that fit a condition, on one server or on those of a cluster."""

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

    async def count(self, meant: Condition, *, tallied: bool = False) -> int:
        """Count them; a count that is `tallied` shows how far each shard of a cluster is."""
        if self.cluster is not None:
            return await self.cluster.count(meant, tallied=tallied)
        return int(await self.value("count", meant))

    async def partitions(self, meant: Condition) -> dict[str | None, int]:
        """Return the partitions that hold some, and how many; None for a table without any, whose parts are all one."""
        rows = await self.ask("partitions", meant)
        return {
            None if row["_partition_id"] == "all" else row["_partition_id"]: int(row["_matching"])
            for row in rows
        }

    async def delete(self, meant: Condition, partition: str | None, mark: str) -> None:
        """Send the mutation that deletes these rows of a partition; the list of mutations shows whether it was recorded."""
        statement = self.relations.statement("delete", condition=meant, partition=partition)
        parameters = self.relations.parameters(meant, mark=mark, partition=partition or "")
        try:
            await self.server.do(statement, parameters)
        except ServerError as error:
            if error.code not in _BROKEN_OFF:
                raise

    async def drop_whole_parts(
        self, meant: Condition, begin_drop: Callable[[str, int], Awaitable[None]]
    ) -> AsyncIterator[int]:
        """Drop the parts of which every row is meant: without rewriting, since they hold no other rows; yield the number of rows of each.

        `begin_drop` is called with a part and its rows before that part is dropped.

        A part never changes under its name. A partition does: rows may come into it between the count and the drop.
        """
        if self.cluster is not None or await self.value("patched"):
            return
        for row in await self.ask("parts", meant):
            await begin_drop(row["part"], int(row["rows"]))
            yield int(row["rows"]) if await self._drop(row["part"]) else 0

    async def has_part(self, part: str) -> bool:
        """Tell whether a part is there under this name; one that was merged has another."""
        return bool(await self.value("has_part", part=part))

    async def _drop(self, part: str) -> bool:
        try:
            await self.server.do(self.relations.statement("drop_part"), self.relations.parameters(part=part))
        except ServerError as error:
            # It was merged meanwhile, or is too large to be dropped: then its rows are deleted.
            if error.code not in {_NO_SUCH_PART, _TOO_LARGE_TO_DROP}:
                raise
            return False
        except UnreachableError:
            if not self.server.several:
                raise
            return not await self.has_part(part)
        return True
