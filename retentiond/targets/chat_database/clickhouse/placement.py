"""The check whether other servers have rows of the table, too: they would not be purged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.errors import Refusal, StoreLimit, UnreachableError
from retentiond.model.text import printable
from retentiond.targets.chat_database.clickhouse.connection import ServerError
from retentiond.targets.chat_database.clickhouse.servers import Clusters, Node, expand, read_clusters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.targets.chat_database.clickhouse.connection import Server
    from retentiond.targets.chat_database.clickhouse.servers import Servers
    from retentiond.targets.chat_database.clickhouse.statements import Relations

_MOST_CLUSTERS: Final = 64
_MOST_NAMED: Final = 5
_UNKNOWN_FUNCTION: Final = 46
_ARGUMENT: Final = re.compile(r"'((?:[^'\\]|\\.)*)'|([A-Za-z_][A-Za-z0-9_.-]*)")
_ESCAPED: Final = re.compile(r"\\(.)")
_CLUSTER_TABLE: Final = 3
"""The number of arguments of a Distributed table that name a cluster, a database and a table."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a server: a host may have several addresses, and a fresh server lists some of its own."""

    host: str
    port: int
    server: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a server of a cluster: its identity, and whether it has the table."""

    identity: Identity
    holds: bool


@dataclass(frozen=True, slots=True)
class DistributedTable:
    """A Distributed table: its own name, and the cluster and the table that it reads from."""

    name: str
    cluster: str
    database: str
    table: str


class Placement:
    """Searches for other servers with the table, by clusters, Distributed tables, replicas and macros."""

    def __init__(self, servers: Servers, relations: Relations, config: ClickHouseStore) -> None:
        self._servers = servers
        self._relations = relations
        self._config = config
        self._clusters: Clusters = {}
        self._macros: dict[str, str] = {}
        self._me: Identity | None = None

    async def refusal(self) -> Refusal | None:
        """Return the refusal if servers with rows are not configured; None if all are.

        Raises UnreachableError if a server that may have rows does not answer, and ServerError.
        """
        self._clusters = read_clusters(await self._rows("clusters"))
        self._macros = {row["macro"]: row["substitution"] for row in await self._rows("macros")}
        tables = await self._distributed_tables()
        replicas = await self._rows("replica")
        total = max((int(row["total_replicas"]) for row in replicas), default=1)
        if self._config.cluster is not None:
            return self._too_small(expand(self._config.cluster, self._macros), tables, total)
        alone = all(len(nodes) == 1 and nodes[0].local for nodes in self._clusters.values())
        if not alone or self._servers.several:
            self._me = await self._identity(self._servers)
        for table in tables:
            if table.cluster not in self._clusters:
                return _undefined(table)
            if await self._reaches_others(table.cluster):
                value = f"the Distributed table {table.name} has rows of the table on other servers"
                return _refusal(value, _line(table.cluster))
        if total > 1:
            return self._replicated(total)
        return await self._held_elsewhere() or await self._other_urls()

    async def admit(self, server: Server) -> None:
        """Refuse to switch to another server than the first: without a cluster it has other rows."""
        if self._me is None or await self._identity(server) != self._me:
            raise UnreachableError(
                "the URL that answers is another server than the first one; start the first one, or set `cluster`"
            )

    def _too_small(self, cluster: str, tables: Sequence[DistributedTable], total: int) -> Refusal | None:
        """Return the refusal if the configured cluster lacks a server of the table."""
        if cluster not in self._clusters:
            known = ", ".join(map(printable, sorted(self._clusters)[:_MOST_NAMED])) or "none"
            return _refusal(
                f"no cluster {cluster}", f"set `cluster` to one of system.clusters; there are: {known}"
            )
        for table in tables:
            if table.cluster not in self._clusters:
                return _undefined(table)
            missing = lacking(self._clusters, cluster, table.cluster)
            if missing:
                value = f"the Distributed table {table.name} has rows of the table on {_named(missing)}, too"
                return _refusal(value, _line(table.cluster))
        size = len(self._clusters[cluster])
        if total > size:
            return self._replicated(total, f"{total} replicas, and the cluster {cluster} has {size} of them")
        return None

    def _replicated(self, total: int, value: str | None = None) -> Refusal:
        around = {name: nodes for name, nodes in self._clusters.items() if any(node.local for node in nodes)}
        best = best_cluster(around, self._macros, total)
        best = best or best_cluster(self._clusters, self._macros, total)
        hint = (
            _line(best)
            if best is not None
            else "list all its replicas in a cluster (`remote_servers` of the server's configuration), and set "
            "`cluster:` to that name"
        )
        return _refusal(value or f"{total} replicas, and no `cluster`", hint)

    async def _distributed_tables(self) -> list[DistributedTable]:
        named = self._relations.parameters()
        found = (
            read_distributed(row["name"], row["engine_full"], self._macros)
            for row in await self._rows("distributed")
        )
        return [
            table
            for table in found
            if table is not None and (table.database, table.table) == (named["database"], named["table"])
        ]

    async def _reaches_others(self, cluster: str) -> bool:
        """Return whether a cluster has, or may have, another server than this one."""
        nodes = self._clusters[cluster]
        if len(nodes) == 1 and nodes[0].local:
            return False
        answers = await self._ask(cluster)
        return not isinstance(answers, dict) or any(
            node.number not in answers or answers[node.number].identity != self._me for node in nodes
        )

    async def _held_elsewhere(self) -> Refusal | None:
        """Return the refusal if another server of the clusters of this server has the table."""
        several = {name: nodes for name, nodes in self._clusters.items() if len(nodes) > 1}
        if len(several) > _MOST_CLUSTERS:
            return _refusal(f"{len(several)} clusters", "set `cluster:` to the one that has the table")
        silent: dict[str, list[Node]] = {}
        for name, nodes in sorted(several.items(), key=lambda item: (-len(item[1]), item[0])):
            answers = await self._ask(name)
            if isinstance(answers, ServerError):
                if self._is_suspect(name, nodes):
                    value = f"the cluster {name} has other servers, which cannot be asked whether they have the table"
                    return _refusal(value, f"{_line(name)} if they do; {answers}")
                continue
            others = {number: one for number, one in answers.items() if one.identity != self._me}
            if not (len(others) < len(answers) or any(node.local for node in nodes)):
                # This server does not belong to that cluster.
                continue
            if any(one.holds for one in others.values()):
                named = [node.name for node in nodes if node.number in others and others[node.number].holds]
                having = {
                    one: there for one, there in several.items() if set(named) <= {n.name for n in there}
                }
                best = best_cluster(having, self._macros, 2) or name
                return _refusal(f"the table is on {_named(named)}, too", _line(best))
            silent[name] = [node for node in nodes if node.number not in answers]
        for name, nodes_away in silent.items():
            if nodes_away and self._is_suspect(name, nodes_away):
                away = _named([node.name for node in nodes_away])
                raise UnreachableError(
                    f"ClickHouse's cluster {name} has {away}, which cannot be reached, and may have the table, too; start "
                    f"it, or set `cluster: {name}`, and run it again"
                )
        return None

    def _is_suspect(self, cluster: str, nodes: Sequence[Node]) -> bool:
        """Return whether servers that do not answer may have the table.

        A fresh ClickHouse lists example clusters of unused loopback addresses. The macro `cluster` is set by an
        administrator, in the configuration of a server that belongs to a cluster.
        """
        return self._macros.get("cluster") == cluster or not all(node.loopback for node in nodes)

    async def _other_urls(self) -> Refusal | None:
        """Return the refusal if the URLs are several servers, which without a cluster have different rows."""
        async for server in self._servers.others():
            if await self._identity(server) != self._me or self._me is None:
                return _refusal(
                    "`url` lists several servers",
                    "set `cluster:` to the cluster that has them, or keep one URL",
                )
        return None

    async def _ask(self, cluster: str) -> dict[int, Answer] | ServerError:
        """Return the answers of a cluster's servers; servers that do not answer are left out."""
        try:
            rows = await self._relations.rows(self._servers, "holders", asked=cluster, strict=False)
        except ServerError as error:
            return error
        if self._me is None:
            return ServerError("its servers cannot be distinguished", _UNKNOWN_FUNCTION)
        return {int(row["node"]): Answer(_identity(row), bool(row["holds"])) for row in rows}

    async def _identity(self, server: Server | Servers) -> Identity | None:
        try:
            (row,) = await self._relations.rows(server, "identity")
        except ServerError as error:
            if error.code != _UNKNOWN_FUNCTION:
                raise
            return None
        return _identity(row)

    async def _rows(self, name: str) -> list[dict[str, Any]]:
        return await self._relations.rows(self._servers, name)


def _identity(row: Mapping[str, Any]) -> Identity:
    return Identity(row["host"], int(row["port"]), row["server"])


def _refusal(value: str, hint: str) -> Refusal:
    return Refusal(StoreLimit("clickhouse_cluster"), printable(value, 300), None, hint)


def _undefined(table: DistributedTable) -> Refusal:
    value = f"the Distributed table {table.name} reads the table on the cluster {table.cluster}, which is not defined"
    return _refusal(value, "define that cluster again (`remote_servers`), or drop that table")


def _line(cluster: str) -> str:
    return f"set `cluster: {printable(cluster)}`, so that all of them are purged"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    listed = ", ".join(map(printable, names[:_MOST_NAMED]))
    return f"{listed} and {more} more" if more > 0 else listed


def read_distributed(name: str, engine: str, macros: Mapping[str, str]) -> DistributedTable | None:
    """Read the engine of a Distributed table: `Distributed('main', 'db', 'table', rand())`; None if it has another form."""
    _, _, arguments = engine.partition("(")
    found = [quoted or plain for quoted, plain in _ARGUMENT.findall(arguments)[:_CLUSTER_TABLE]]
    if len(found) < _CLUSTER_TABLE:
        return None
    cluster, database, table = (_ESCAPED.sub(r"\1", argument) for argument in found)
    return DistributedTable(name, expand(cluster, macros), database or name.partition(".")[0], table)


def best_cluster(clusters: Clusters, macros: Mapping[str, str], least: int) -> str | None:
    """Return the cluster to configure for a table with replicas on `least` servers; None if all are smaller.

    The macro `cluster` of the server comes first, then the cluster with the most servers, then that with the fewest shards:
    in some clusters each replica is a shard of its own.
    """
    fitting = {name: nodes for name, nodes in clusters.items() if len(nodes) >= least}
    if macros.get("cluster") in fitting:
        return macros["cluster"]

    def rank(name: str) -> tuple[int, int, str]:
        return -len(fitting[name]), len({node.shard for node in fitting[name]}), name

    return min(fitting, key=rank, default=None)


def lacking(clusters: Clusters, cluster: str, other: str) -> list[str]:
    """Return the servers of another cluster that a cluster does not have."""
    there = {(node.host, node.port) for node in clusters.get(cluster, ())}
    return [node.name for node in clusters.get(other, ()) if (node.host, node.port) not in there]
