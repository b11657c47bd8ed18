"""Tables that a purge refuses before anything is deleted: those of an unsupported kind, and those without rights on them.

A batch is one transaction on this server: it locks its chats, deletes their rows and compares the counts. So ordinary
tables, inheritance children and declarative partitions at any level are supported. Rows on other servers, or in a storage
that rewrites or cannot delete them, are not. The role does not read texts of messages: it needs only the columns that the
layout names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import MissingRightError, Refusal, RefusedError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.layout import Layout


_SQL: Final = {**named_queries(__package__, "rights.sql"), **named_queries(__package__, "unsupported.sql")}
_VIEWS: Final = {"v": "a view", "m": "a materialized view"}
_NO_DELETE: Final = frozenset({"columnar", "hypercore"})
"""Access methods of Citus and TimescaleDB that cannot lock or delete single rows as a table can."""
_MOST_NAMED: Final = 10


async def refuse_unsupported(connection: Conn, schema: str, tables: Sequence[str]) -> None:
    """Raise RefusedError that names each of these tables, or partitions of them, that a purge does not support."""
    members = await connection.fetch(_SQL["members"], schema, tables)
    extensions = await connection.fetchrow(_SQL["extensions"])
    assert extensions is not None  # noqa: S101 - a SELECT without FROM has one row
    relations = [row["relation"] for row in members]
    found = [problem for row in members for problem in _problems(row)]
    if extensions["citus"]:
        distributed = {row["relation"] for row in await connection.fetch(_SQL["distributed"], relations)}
        found += [_distributed(row) for row in members if row["relation"] in distributed]
    if extensions["timescaledb"]:
        hypertables = {row["relation"] for row in await connection.fetch(_SQL["hypertables"], relations)}
        found += [_hypertable(row) for row in members if row["relation"] in hypertables]
    if found:
        more = [f"{len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
        problems = [problem for problem, _ in found[:_MOST_NAMED]]
        steps = list(dict.fromkeys(step for _, step in found[:_MOST_NAMED]))
        raise RefusedError(
            Refusal(
                "layout",
                "; ".join(problems + more),
                "tables of this server, with children or partitions at any level",
                "; ".join(steps),
            )
        )


def _problems(row: Record) -> Iterator[tuple[str, str]]:
    name = _named(row)
    if row["kind"] in _VIEWS:
        yield (
            f"{name} is {_VIEWS[row['kind']]}",
            "name the table behind the view as `table` of that entity in the layout",
        )
    if row["kind"] == "f":
        yield (
            f"{name} is a foreign table, and its rows are on another server",
            (
                "configure a target for the server that has the rows, with a layout of the tables there; detach a foreign "
                "partition first"
            ),
        )
    if row["access_method"] in _NO_DELETE:
        yield (
            f"{name} is stored by the access method {row['access_method']}, which cannot delete single rows",
            "move the table to the access method heap before chats are purged from it",
        )
    if row["pending"]:
        yield (
            f"{name} is being detached, and queries on its parent do not return its rows",
            f"finish that: ALTER TABLE {printable(row['parent'])} DETACH PARTITION {printable(row['name'])} FINALIZE",
        )


def _distributed(row: Record) -> tuple[str, str]:
    return (
        f"{_named(row)} is distributed by Citus, and its rows are on several servers",
        (
            "Citus is not supported: purge these chats with the tools of the product, or make plain tables of them "
            "(undistribute_table)"
        ),
    )


def _hypertable(row: Record) -> tuple[str, str]:
    return (
        f"{_named(row)} is a hypertable of TimescaleDB, whose chunks may be compressed",
        "hypertables are not supported: keep chats in plain tables or in declarative partitions",
    )


def _named(row: Record) -> str:
    name = printable(row["name"])
    return name if row["parent"] is None else f"{name} (part of {printable(row['parent'])})"


async def ensure_rights(
    connection: Conn,
    layout: Layout,
    schema: str,
    relations: Mapping[str, int],
    columns: Mapping[str, Sequence[str]],
) -> None:
    """Raise MissingRightError with a GRANT for each right that this role lacks.

    `relations` and `columns` are the tables of the entities, and the columns that a purge reads of each.
    """
    role: str = await connection.fetchval(_SQL["role"])
    statements = [
        f"GRANT {row['rights']} TO {role};" for row in await connection.fetch(_SQL["surroundings"], schema)
    ]
    pairs = [(relations[entity], column) for entity in relations for column in columns[entity]]
    unread = await connection.fetch(
        _SQL["unread_columns"], [number for number, _ in pairs], [column for _, column in pairs]
    )
    tables = {
        row["relation"]: row for row in await connection.fetch(_SQL["table_rights"], list(relations.values()))
    }
    for entity, number in relations.items():
        # Rows of top entities are locked before they are judged a second time.
        entity_key = layout.entities[entity].key if layout.entities[entity].parent is None else None
        key = await connection.fetchval(_SQL["quote"], entity_key)
        names = [row["name"] for row in unread if row["relation"] == number]
        rights = _missing(tables[number], names, key)
        if rights:
            statements.append(f"GRANT {', '.join(rights)} ON {tables[number]['name']} TO {role};")
    if statements:
        raise MissingRightError(
            f"the role {role} lacks rights that a purge needs; as the owner of the tables, or as a superuser, run:",
            statements,
        )


async def may_count_rows(connection: Conn, schema: str, table: str, columns: Sequence[str]) -> bool | None:
    """Return whether this role may read these columns; None if the table does not exist."""
    readable: bool | None = await connection.fetchval(_SQL["may_count_rows"], schema, table, columns)
    return readable


def system_columns(layout: Layout, name: str) -> list[str]:
    """Return the system columns of an entity by which a purge of orphans finds its rows."""
    return ["ctid", "tableoid"] if layout.top(name) == layout.chat != name else []


def _missing(table: Record, unread: Sequence[str], key: str | None) -> list[str]:
    """Return the missing rights on one table; `key` is the column by which its rows are locked, if they are."""
    rights = [f"SELECT ({', '.join(unread)})"] if unread else []
    if key is not None and not table["may_lock"]:
        rights.append(f"UPDATE ({key})")
    return rights if table["may_delete"] else [*rights, "DELETE"]
