"""The check whether other servers have rows of the table, too: they would not be purged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.model.errors import Refusal, StoreLimit, UnreachableError
from retentiond.model.text import printable
from retentiond.targets.chat_database.clickhouse.connection import ServerError
from retentiond.targets.chat_database.clickhouse.servers import (
    Answer,
    Clusters,
    Identity,
    Node,
    Spread,
    best_cluster,
    expand,
    lacking,
    read_clusters,
    read_spread,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.targets.chat_database.clickhouse.connection import Server
    from retentiond.targets.chat_database.clickhouse.servers import Servers
    from retentiond.targets.chat_database.clickhouse.statements import Relations

_MOST_CLUSTERS: Final = 64
_MOST_NAMED: Final = 5
_UNKNOWN_FUNCTION: Final = 46


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
        spreads = await self._spreads()
        replicas = await self._rows("replica")
        total = max((int(row["total_replicas"]) for row in replicas), default=1)
        if self._config.cluster is not None:
            return self._too_small(expand(self._config.cluster, self._macros), spreads, total)
        alone = all(len(nodes) == 1 and nodes[0].local for nodes in self._clusters.values())
        if not alone or self._servers.several:
            self._me = await self._identity(self._servers)
        for spread in spreads:
            if spread.cluster not in self._clusters:
                return _undefined(spread)
            if await self._reaches_others(spread.cluster):
                value = f"the Distributed table {spread.name} has rows of it on other servers"
                return _refusal(value, _line(spread.cluster))
        if total > 1:
            return self._replicated(total)
        return await self._held_elsewhere() or await self._other_urls()

    async def admit(self, server: Server) -> None:
        """Refuse to switch to another server than the first: without a cluster it has other rows."""
        if self._me is None or await self._identity(server) != self._me:
            raise UnreachableError(
                "the URL that answers is another server than the first one; start the first one, or set `cluster`"
            )

    def _too_small(self, cluster: str, spreads: Sequence[Spread], total: int) -> Refusal | None:
        """Return the refusal if the configured cluster lacks a server of the table."""
        if cluster not in self._clusters:
            known = ", ".join(map(printable, sorted(self._clusters)[:_MOST_NAMED])) or "none"
            return _refusal(
                f"no cluster {cluster}", f"set `cluster` to one of system.clusters; there are: {known}"
            )
        for spread in spreads:
            if spread.cluster not in self._clusters:
                return _undefined(spread)
            missing = lacking(self._clusters, cluster, spread.cluster)
            if missing:
                value = f"the Distributed table {spread.name} has rows of it on {_named(missing)}, too"
                return _refusal(value, _line(spread.cluster))
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

    async def _spreads(self) -> list[Spread]:
        named = self._relations.parameters()
        found = (
            read_spread(row["name"], row["engine_full"], self._macros)
            for row in await self._rows("distributed")
        )
        return [
            spread
            for spread in found
            if spread is not None and (spread.database, spread.table) == (named["database"], named["table"])
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


def _undefined(spread: Spread) -> Refusal:
    value = (
        f"the Distributed table {spread.name} reads it on the cluster {spread.cluster}, which is not defined"
    )
    return _refusal(value, "define that cluster again (`remote_servers`), or drop that table")


def _line(cluster: str) -> str:
    return f"set `cluster: {printable(cluster)}`, so that all of them are purged"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    listed = ", ".join(map(printable, names[:_MOST_NAMED]))
    return f"{listed} and {more} more" if more > 0 else listed
