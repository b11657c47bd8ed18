"""Tables that a purge does not support: each is refused by its name before anything is deleted.

A batch is one transaction on this server: it locks its chats, deletes their rows and compares the counts. So ordinary
tables, heirs of them and declarative partitions at any level work. Rows on other servers, or in a storage that rewrites
or cannot delete them, do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn

SQL: Final = named_queries(__package__, "unsupported.sql")
_VIEWS: Final = {"v": "a view", "m": "a materialized view"}
_NO_DELETE: Final = frozenset({"columnar", "hypercore"})
"""Access methods of Citus and TimescaleDB that cannot lock or delete single rows as a table can."""
_MOST_NAMED: Final = 10


async def refuse_unsupported(connection: Conn, schema: str, tables: Sequence[str]) -> None:
    """Raise RefusedError that names each of these tables, or partitions of them, that a purge does not support."""
    members = await connection.fetch(SQL["members"], schema, tables)
    extensions = await connection.fetchrow(SQL["extensions"])
    assert extensions is not None  # noqa: S101 - a SELECT without FROM has one row
    relations = [row["relation"] for row in members]
    found = [problem for row in members for problem in _problems(row)]
    if extensions["citus"]:
        distributed = {row["relation"] for row in await connection.fetch(SQL["distributed"], relations)}
        found += [_distributed(row) for row in members if row["relation"] in distributed]
    if extensions["timescaledb"]:
        hypertables = {row["relation"] for row in await connection.fetch(SQL["hypertables"], relations)}
        found += [_hypertable(row) for row in members if row["relation"] in hypertables]
    if found:
        more = [f"{len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
        told = [problem for problem, _ in found[:_MOST_NAMED]]
        steps = list(dict.fromkeys(step for _, step in found[:_MOST_NAMED]))
        raise RefusedError(
            Refusal(
                "layout",
                "; ".join(told + more),
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
            f"{name} is stored by the access method {row['access_method']}, which deletes no single rows",
            "move the table to the access method heap before chats are purged from it",
        )
    if row["pending"]:
        yield (
            f"{name} is being detached, and its rows are in no query on its parent",
            f"finish that: ALTER TABLE {printable(row['parent'])} DETACH PARTITION {printable(row['name'])} FINALIZE",
        )


def _distributed(row: Record) -> tuple[str, str]:
    return (
        f"{_named(row)} is distributed by Citus, and its rows are on several servers",
        (
            "Citus is not supported: purge such chats by the means of the product, or make plain tables of them "
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
