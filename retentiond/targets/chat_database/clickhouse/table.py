"""Whether a purge is possible in a table of ClickHouse: its engine, its columns, and the rights of this user. `judge` is pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from retentiond.model.errors import MissingRightError, Refusal, StoreLimit
from retentiond.targets.chat_database.clickhouse.connection import only_value
from retentiond.targets.chat_database.clickhouse.statements import DAY, Columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.targets.chat_database.clickhouse.servers import Servers
    from retentiond.targets.chat_database.clickhouse.statements import IdType


_FAMILY: Final = re.compile(r"(?:Replicated|Shared)?(?P<variant>\w*)MergeTree")
_WRAPPED: Final = re.compile(r"(?:LowCardinality|Nullable)\((?P<inner>.*)\)")
_MOMENT: Final = re.compile(r"DateTime(?:64\((?P<digits>\d)(?:, *'[^']*')?\)|\('[^']*'\))?")
_NAME: Final = re.compile(r"`(?P<quoted>[^`]+)`|(?P<plain>[A-Za-z_]\w*)")

SYSTEM_TABLES: Final = ("mutations", "merges", "parts", "detached_parts", "replicas", "clusters", "macros")
"""The system tables of a purge that need a grant; each user may read the others."""
_VIRTUAL: Final = ("_part", "_partition_id", "_row_exists")
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TableFacts:
    """The server's description of a table; `columns` are the types of the configured ones."""

    engine: str
    engine_full: str
    partition_key: str
    sorting_key: str
    columns: Mapping[str, str]


def judge(facts: TableFacts | None, config: ClickHouseStore) -> Columns | Refusal:
    """Return the columns for the conditions of a purge, or the reason to refuse it."""
    if facts is None:
        return _refusal(
            "table", "not there", f"check `table: {config.table}`, and that this user may read it"
        )
    family = _FAMILY.fullmatch(facts.engine)
    if family is None:
        return _refusal("engine", facts.engine, _other_engine(facts))
    account, date = facts.columns.get(config.account_column), facts.columns.get(config.date_column)
    if account is None or date is None:
        absent = config.account_column if account is None else config.date_column
        return _refusal(
            "column", f"no {absent}", "set account_column and date_column to columns of the table"
        )
    if _plain(account) != "String":
        return _refusal("account_column", account, "accounts must be a String; name another account_column")
    date_type = _date_type(date)
    if date_type is None:
        return _refusal(
            "date_column",
            date,
            "only Date, Date32, DateTime and DateTime64 are dates; name another date_column",
        )
    if family["variant"]:
        # The engine keeps the newest version of a row: if only that one were deleted, an older one would come back.
        missing = [name for name in (config.account_column, config.date_column) if name not in _key(facts)]
        if missing:
            return _refusal(
                "engine",
                facts.engine,
                f"its versions of a row may differ in {missing[0]}, which is not in the sorting key: deleting the "
                "newest would bring an older one back; purge it by hand, after OPTIMIZE TABLE … FINAL",
            )
    return _with_thread(facts, config, date_type)


def _with_thread(facts: TableFacts, config: ClickHouseStore, date_type: str) -> Columns | Refusal:
    columns = Columns(config.account_column, config.date_column, date_type)
    if config.visitor_column is not None:
        visitor = facts.columns.get(config.visitor_column)
        if visitor is None:
            return _refusal(
                "column", f"no {config.visitor_column}", "set visitor_column to a column of the table"
            )
        columns = replace(columns, visitor=config.visitor_column, visitor_type=_id_type(visitor))
        if columns.visitor_type is None:
            return _refusal(
                "visitor_column", visitor, "only integers, String and UUID are ids; name another one"
            )
    if config.thread_column is None:
        return columns
    declared = facts.columns.get(config.thread_column)
    if declared is None:
        return _refusal("column", f"no {config.thread_column}", "set thread_column to a column of the table")
    thread_type = _id_type(declared)
    if thread_type is None:
        return _refusal("thread_column", declared, "only integers, String and UUID are ids; name another one")
    return replace(columns, thread=config.thread_column, thread_type=thread_type)


def _refusal(limit: str, value: str | int, hint: str) -> Refusal:
    return Refusal(StoreLimit(f"clickhouse_{limit}"), value, None, hint)


def _other_engine(facts: TableFacts) -> str:
    if facts.engine == "Distributed":
        named = re.findall(r"'([^']*)'", facts.engine_full)
        local = f"{named[1]}.{named[2]}" if len(named) > 2 else "the local table"  # noqa: PLR2004 - cluster, database, table
        cluster = named[0] if named else "its cluster"
        return f"rows are deleted from the local table: set `table: {local}` and `cluster: {cluster}`"
    return "rows can be deleted from tables of the MergeTree family only; name the table that holds them"


def _plain(declared: str) -> str:
    """Return a type without its wrappers."""
    while wrapped := _WRAPPED.fullmatch(declared):
        declared = wrapped["inner"]
    return declared


def _date_type(declared: str) -> str | None:
    """Return the type in which a boundary is sent, so that it is compared unchanged."""
    plain = _plain(declared)
    if plain in {"Date", "Date32"}:
        return DAY
    found = _MOMENT.fullmatch(plain)
    if found is None:
        return None
    return f"DateTime64({found['digits']}, 'UTC')" if found["digits"] else "DateTime('UTC')"


def _id_type(declared: str) -> IdType | None:
    plain = _plain(declared)
    if re.fullmatch(r"U?Int(8|16|32|64)", plain):
        return "UInt64" if plain.startswith("U") else "Int64"
    return plain if plain in {"String", "UUID"} else None  # type: ignore[return-value]  # one of the two, just seen


def _key(facts: TableFacts) -> set[str]:
    """Return the plain columns of the sorting key; a function of a column does not determine its value."""
    depth = 0
    bare = ""
    for character in facts.sorting_key:
        depth += (character == "(") - (character == ")")
        bare += character if depth == 0 else " "
    names = set()
    for expression in bare.split(","):
        found = _NAME.fullmatch(expression.strip())
        if found:
            names.add(found["quoted"] or found["plain"])
    return names


def privileges(config: ClickHouseStore) -> Iterator[str]:
    """Yield the privileges that the user needs, as GRANT has them."""
    database, dot, table = config.table.rpartition(".")
    name = f"{_named(database if dot else 'default')}.{_named(table)}"
    columns = [config.account_column, config.date_column, *filter(None, [config.thread_column]), *_VIRTUAL]
    yield f"SELECT({', '.join(map(_named, columns))}) ON {name}"
    yield f"ALTER DELETE ON {name}"
    yield from (f"SELECT ON system.{table}" for table in SYSTEM_TABLES)
    # For EXPLAIN inside a query, which finds row policies.
    yield "CREATE TEMPORARY TABLE ON *.*"
    if config.cluster is not None:
        # The functions cluster() and clusterAllReplicas(), and ON CLUSTER.
        yield "REMOTE ON *.*"
        yield "CLUSTER ON *.*"


async def ensure_rights(server: Servers, config: ClickHouseStore) -> None:
    """Raise MissingRightError with a GRANT for each right that the user lacks."""
    user = _named(only_value(await server.rows("SELECT currentUser() AS user", {})))
    statements = [
        f"GRANT {privilege} TO {user};"
        for privilege in privileges(config)
        if await server.insist(f"CHECK GRANT {privilege}", {}) != "1"
    ]
    if statements:
        raise MissingRightError(
            f"the user {user} of ClickHouse lacks rights that a purge needs; as an administrator of it run:",
            statements,
        )


def _named(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
