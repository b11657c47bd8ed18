"""Where a table's rows, parts and mutations are read: on the server that answers, or on all of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.targets.chat_database.clickhouse.condition import Condition

SQL: Final = named_queries(__package__, "statements.sql")
_SYSTEM: Final = {
    "mutations": "system.mutations",
    "merges": "system.merges",
    "parts": "system.parts",
    "detached": "system.detached_parts",
    "replicas": "system.replicas",
}


class Relations:
    """The statements for one table, with the parameters that name it."""

    def __init__(self, config: ClickHouseStore) -> None:
        database, dot, table = config.table.rpartition(".")
        self._named: dict[str, Any] = {
            "database": database if dot else "default",
            "table": table,
            "cluster": config.cluster,
        }
        self._on_cluster = config.cluster is not None

    def statement(
        self, name: str, *, condition: Condition | None = None, partition: str | None = None
    ) -> str:
        """Return a statement with its relations and its condition; what comes from outside is a parameter in it."""
        rows = "{database:Identifier}.{table:Identifier}"
        copies, node = rows, "1"
        places = dict(_SYSTEM)
        if self._on_cluster:
            rows = "cluster({cluster:String}, {database:String}, {table:String})"
            # Of each replica, not of one of each shard: a replica may have rows that another has lost or not got yet.
            copies, node = (
                "clusterAllReplicas({cluster:String}, {database:String}, {table:String})",
                "_shard_num",
            )
            places = {
                context: f"clusterAllReplicas({{cluster:String}}, {relation})"
                for context, relation in _SYSTEM.items()
            }
        filled = places | {
            "rows": rows,
            "copies": copies,
            "node": node,
            "quoted": ".".join(_quoted(self._named[part]) for part in ("database", "table")),
            "condition": condition.text if condition else "",
            # The server takes no parameter there.
            "on_cluster": f"ON CLUSTER {_quoted(self._named['cluster'])}" if self._on_cluster else "",
            "in_partition": "IN PARTITION ID {partition:String}" if partition is not None else "",
        }
        statement = SQL[name]
        for context, text in filled.items():
            statement = statement.replace("{" + context + "}", text)
        return statement

    def parameters(self, condition: Condition | None = None, **others: Any) -> Mapping[str, Any]:
        """Return the parameters of a statement."""
        named = {name: value for name, value in self._named.items() if value is not None}
        return named | (dict(condition.parameters) if condition else {}) | others


def _quoted(name: str) -> str:
    """Return an identifier as the server's SQL has it."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
