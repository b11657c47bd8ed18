"""The servers of ClickHouse's clusters, and which `cluster:` a configuration needs. Nothing in here does I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_ARGUMENT: Final = re.compile(r"'((?:[^'\\]|\\.)*)'|([A-Za-z_][A-Za-z0-9_.-]*)")
_ESCAPED: Final = re.compile(r"\\(.)")
_MACRO: Final = re.compile(r"\{(\w+)\}")
_CLUSTER_TABLE: Final = 3
"""The arguments of a Distributed table that name a cluster, a database and a table."""


@dataclass(frozen=True, slots=True)
class Node:
    """A server of a cluster; `number` is its place among all of them, as `_shard_num` of `clusterAllReplicas` has it."""

    number: int
    shard: int
    host: str
    port: int
    loopback: bool
    local: bool

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Clusters = dict[str, tuple[Node, ...]]


@dataclass(frozen=True, slots=True)
class Identity:
    """How a server is told from another: a host may have several addresses, and a fresh server lists some of its own."""

    host: str
    port: int
    server: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server of a cluster says: what it is, and whether it has the table."""

    identity: Identity
    holds: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """A Distributed table: its own name, and the cluster and the table that it reads from."""

    name: str
    cluster: str
    database: str
    table: str


def read_clusters(rows: Iterable[Mapping[str, Any]]) -> Clusters:
    """Read rows of `system.clusters`, in order. A server that is listed twice in a cluster counts once, as it does there."""
    found: dict[str, dict[tuple[str, int], Node]] = {}
    for row in rows:
        nodes = found.setdefault(row["cluster"], {})
        where = (row["host_name"], int(row["port"]))
        if where not in nodes:
            loopback = _is_loopback(row["host_name"], row["host_address"])
            shard = int(row["shard_num"])
            nodes[where] = Node(len(nodes) + 1, shard, *where, loopback, bool(row["is_local"]))
    return {name: tuple(nodes.values()) for name, nodes in found.items()}


def _is_loopback(host: str, address: str) -> bool:
    try:
        return ip_address(address or host).is_loopback
    except ValueError:
        return host == "localhost"


def expand(name: str, macros: Mapping[str, str]) -> str:
    """Replace macros of the server's, such as `{cluster}`, by their values; an unknown one stays as it is."""
    return _MACRO.sub(lambda found: macros.get(found[1], found[0]), name)


def read_spread(name: str, engine: str, macros: Mapping[str, str]) -> Spread | None:
    """Read the engine of a Distributed table: `Distributed('main', 'db', 'table', rand())`; None for one of another form."""
    _, _, arguments = engine.partition("(")
    found = [quoted or plain for quoted, plain in _ARGUMENT.findall(arguments)[:_CLUSTER_TABLE]]
    if len(found) < _CLUSTER_TABLE:
        return None
    cluster, database, table = (_ESCAPED.sub(r"\1", argument) for argument in found)
    return Spread(name, expand(cluster, macros), database or name.partition(".")[0], table)


def shards_of(nodes: Sequence[Node]) -> int:
    """Return the number of shards."""
    return len({node.shard for node in nodes})


def best_cluster(clusters: Clusters, macros: Mapping[str, str], least: int) -> str | None:
    """Return the cluster to configure for a table with replicas on `least` servers; None where none has so many.

    The server's own macro `cluster` wins; then the one with the most servers, and of those the one with the fewest shards,
    since in some each replica is a shard of its own.
    """
    fitting = {name: nodes for name, nodes in clusters.items() if len(nodes) >= least}
    if macros.get("cluster") in fitting:
        return macros["cluster"]
    return min(fitting, key=lambda name: (-len(fitting[name]), shards_of(fitting[name]), name), default=None)


def lacking(clusters: Clusters, cluster: str, other: str) -> list[str]:
    """Return the servers of another cluster that a cluster does not have."""
    there = {(node.host, node.port) for node in clusters.get(cluster, ())}
    return [node.name for node in clusters.get(other, ()) if (node.host, node.port) not in there]
