"""The statements of a purge in ClickHouse, and the conditions of rows; without I/O.

Names and values from outside are server-side parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from uuid import UUID

from retentiond.adapters.postgres import named_queries
from retentiond.targets.chat_database.clickhouse.connection import only_value
from retentiond.targets.chat_database.store import EARLIEST_DATE, NIL_UUID, NO_CHAT_TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.targets.chat_database.store import ChatId


IdType = Literal["Int64", "UInt64", "String", "UUID"]
"""The types in which IDs of chats are sent; the server compares them with columns of any width."""

DAY: Final = "Date32"
EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
LATEST: Final = datetime(2106, 1, 1, tzinfo=UTC)
"""The range of a DateTime; a boundary beyond it would match every row, or no row."""
NO_CHAT: Final[dict[IdType | None, list[ChatId]]] = {
    "Int64": [0],
    "UInt64": [0],
    "String": list(NO_CHAT_TEXTS),
    "UUID": [NIL_UUID],
}
"""The values that mean no chat in a column of chat IDs, besides NULL."""
# The server takes form fields of 128 KiB.
_FIELD_SIZE: Final = 100_000

_SQL: Final = named_queries(__package__, "statements.sql")
_SYSTEM: Final = {
    "mutations": "system.mutations",
    "merges": "system.merges",
    "parts": "system.parts",
    "detached": "system.detached_parts",
    "replicas": "system.replicas",
}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a condition, and the types in which the date and the chats are sent.

    The type of the date is that of the column, in UTC: with a coarser type the server would skip rows of the last second.
    """

    account: str
    date: str
    date_type: str
    thread: str | None = None
    thread_type: IdType | None = None
    visitor: str | None = None
    visitor_type: IdType | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition with its parameters; `undated` is the condition of the rows without a believable date."""

    text: str
    parameters: Mapping[str, Any]
    undated: str = ""

    def narrowed(self, *words: str, **parameters: Any) -> Condition:
        """Return the condition with more conditions."""
        return Condition(" AND ".join([self.text, *words]), {**self.parameters, **parameters})


def as_json(condition: Condition) -> dict[str, Any]:
    """Return the condition as JSON, to count the same rows after an interruption."""
    return {"text": condition.text, "parameters": {k: _plain(v) for k, v in condition.parameters.items()}}


def from_json(saved: Mapping[str, Any]) -> Condition:
    """Return the condition from its JSON."""
    return Condition(saved["text"], {k: _from_plain(v) for k, v in saved["parameters"].items()})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"moment": value.isoformat()}
    return {"day": value.isoformat()} if isinstance(value, date) else value


def _from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return datetime.fromisoformat(value["moment"]) if "moment" in value else date.fromisoformat(value["day"])


def dated(columns: Columns, account: str, cutoff: datetime) -> Condition:
    """Return the condition of the account's rows before the cutoff (aware); rows without a date do not match."""
    account_is = "{account_column:Identifier} = {account:String}"
    parameters = {
        "account_column": columns.account,
        "account": account,
        "date_column": columns.date,
        "before": _boundary(columns, cutoff),
        "earliest": _boundary(columns, EARLIEST_DATE),
    }
    kind = columns.date_type
    earliest, before = f"{{earliest:{kind}}}", f"{{before:{kind}}}"
    undated = f"({{date_column:Identifier}} IS NULL OR {{date_column:Identifier}} < {earliest})"
    words = [
        account_is,
        f"{{date_column:Identifier}} >= {earliest}",
        f"{{date_column:Identifier}} < {before}",
    ]
    return Condition(" AND ".join(words), parameters, f"{account_is} AND {undated}")


def within(condition: Condition, columns: Columns, start: datetime, end: datetime) -> Condition:
    """Narrow a condition to the dates from `start` up to, not including, `end` (both aware)."""
    return condition.narrowed(
        f"{{date_column:Identifier}} >= {{start:{columns.date_type}}}",
        f"{{date_column:Identifier}} < {{end:{columns.date_type}}}",
        start=_boundary(columns, start),
        end=_boundary(columns, end),
    )


def of_chats(condition: Condition, columns: Columns, chats: Sequence[ChatId]) -> Condition:
    """Narrow a condition to the rows of these chats."""
    fields = {f"chats{number}": batch for number, batch in enumerate(_fields(chats))}
    words = (f"{{thread_column:Identifier}} IN {{{name}:Array({columns.thread_type})}}" for name in fields)
    return condition.narrowed(f"({' OR '.join(words)})", thread_column=columns.thread, **fields)


def with_chat(condition: Condition, columns: Columns) -> Condition:
    """Narrow a condition to the rows that name a chat."""
    return condition.narrowed(f"NOT {_no_chat(columns)}", **_chat_parameters(columns))


def without_chat(condition: Condition, columns: Columns) -> Condition:
    """Narrow a condition to the rows that do not name a chat: all rows without a column of chats."""
    if columns.thread is None:
        return condition
    return condition.narrowed(_no_chat(columns), **_chat_parameters(columns))


def not_of(condition: Condition, columns: Columns, chats: Sequence[ChatId]) -> Condition:
    """Narrow a condition to the rows that do not name one of these chats."""
    column = "{thread_column:Identifier}"
    words = f"({column} IS NULL OR {column} NOT IN {{others:Array({columns.thread_type})}})"
    return condition.narrowed(words, thread_column=columns.thread, others=list(chats))


def of_visitor(condition: Condition, columns: Columns, visitor: str, cutoff: datetime) -> Condition | None:
    """Narrow a condition to the rows of a visitor before a date (aware); None if the column cannot hold the ID."""
    kind = columns.visitor_type
    value = None if kind is None else _as_id(visitor, kind)
    if value is None:
        return None
    earlier = f"{{date_column:Identifier}} < {{visitor_before:{columns.date_type}}}"
    return condition.narrowed(
        f"{{visitor_column:Identifier}} = {{visitor:{kind}}}",
        earlier,
        visitor_column=columns.visitor,
        visitor=value,
        visitor_before=_boundary(columns, cutoff),
    )


def _as_id(text: str, kind: IdType) -> ChatId | None:
    if kind == "String":
        return text
    try:
        value = str(UUID(text)) if kind == "UUID" else int(text)
    except ValueError:
        return None
    low, high = (0, 2**64) if kind == "UInt64" else (-(2**63), 2**63)
    return value if isinstance(value, str) or low <= value < high else None


def _no_chat(columns: Columns) -> str:
    column = "{thread_column:Identifier}"
    empty = f"{column} IS NULL OR {column} IN {{no_chat:Array({columns.thread_type})}}"
    # A text that is not UTF-8 cannot be compared.
    return f"({empty} OR NOT isValidUTF8({column}))" if columns.thread_type == "String" else f"({empty})"


def _chat_parameters(columns: Columns) -> Mapping[str, Any]:
    return {"thread_column": columns.thread, "no_chat": NO_CHAT[columns.thread_type]}


def _boundary(columns: Columns, moment: datetime) -> date | datetime:
    # A day has no zone: it is compared with the day of the boundary in the configured zone.
    return moment.date() if columns.date_type == DAY else moment.astimezone(UTC)


def _fields(ids: Iterable[ChatId]) -> Iterable[Sequence[ChatId]]:
    batch: list[ChatId] = []
    size = 0
    for chat in ids:
        # Quotes and a comma, and every character escaped, in UTF-8.
        length = 3 + 4 * len(str(chat)) if isinstance(chat, str) else 1 + len(str(chat))
        if size + length > _FIELD_SIZE:
            yield batch
            batch, size = [], 0
        batch.append(chat)
        size += length
    if batch:
        yield batch


class Asking(Protocol):
    """One or several servers that answer queries."""

    async def rows(
        self, statement: str, parameters: Mapping[str, Any], *, strict: bool = True
    ) -> list[dict[str, Any]]:
        """Return the rows of a query; without `strict` from the servers of a cluster that answer."""


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
        """Return a statement with its relations and its condition; values from outside are parameters in it."""
        rows = "{database:Identifier}.{table:Identifier}"
        copies, node = rows, "1"
        places = dict(_SYSTEM)
        if self._on_cluster:
            rows = "cluster({cluster:String}, {database:String}, {table:String})"
            # All replicas, not one of each shard: a replica may have rows that another lost or has not received yet.
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
            # The server allows no parameter there.
            "on_cluster": f"ON CLUSTER {_quoted(self._named['cluster'])}" if self._on_cluster else "",
            "in_partition": "IN PARTITION ID {partition:String}" if partition is not None else "",
        }
        statement = _SQL[name]
        for context, text in filled.items():
            statement = statement.replace("{" + context + "}", text)
        return statement

    def parameters(self, condition: Condition | None = None, **others: Any) -> Mapping[str, Any]:
        """Return the parameters of a statement."""
        named = {name: value for name, value in self._named.items() if value is not None}
        return named | (dict(condition.parameters) if condition else {}) | others

    async def rows(
        self,
        server: Asking,
        name: str,
        condition: Condition | None = None,
        *,
        strict: bool = True,
        **others: Any,
    ) -> list[dict[str, Any]]:
        """Return the rows of a query on the table; see `Server.rows`."""
        return await server.rows(
            self.statement(name, condition=condition), self.parameters(condition, **others), strict=strict
        )

    async def value(
        self, server: Asking, name: str, condition: Condition | None = None, **others: Any
    ) -> Any:
        """Return the one value of a query on the table."""
        return only_value(await self.rows(server, name, condition, **others))


def _quoted(name: str) -> str:
    """Return a quoted identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
