"""The accounts of a database of chats: the schemas that have the tables of a layout, or the values of its account column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, read_only_connection, translate_errors
from retentiond.config.chats import SHIPPED_LAYOUTS
from retentiond.model.errors import MissingRightError, UsageError
from retentiond.model.text import printable
from retentiond.targets.chat_database.layout import read_layout
from retentiond.targets.chat_database.statements import fill, quoted, relation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.layout import Layout

_SQL: Final = named_queries(__package__, "discovery.sql")
_MOST: Final = 5000
"""The most accounts that a configuration is written for."""
_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts found, and the layout of their tables; each account has its keys of the configuration."""

    layout: str
    accounts: Mapping[str, Mapping[str, str]]


async def find_accounts(dsn: str, layout: str | None = None) -> Accounts:
    """Look for the tables of a layout, or of those that come with retentiond; nothing is changed.

    Raise UsageError if no schema has them, or if the database has the tables of several layouts; UnreachableError, and
    MissingRightError if this role may not read the column that names the accounts.
    """
    named = [layout] if layout else list(SHIPPED_LAYOUTS)
    layouts = {name: read_layout(name) for name in named}
    async with read_only_connection(dsn) as connection:
        with translate_errors("the database"):
            found = {name: await _schemas(connection, one) for name, one in layouts.items()}
            fitting = {name: schemas for name, schemas in found.items() if schemas}
            if not fitting:
                tables = "; ".join(f"{name}: {_tables(one)}" for name, one in layouts.items())
                raise UsageError(
                    f"no schema of this database has the tables of a known layout ({tables}); name the database of the chats, or a layout "
                    "of yours with --layout FILE"
                )
            if len(fitting) > 1:
                raise UsageError(
                    f"this database has the tables of several layouts: {', '.join(fitting)}; choose one with --layout NAME"
                )
            ((name, schemas),) = fitting.items()
            accounts = await _accounts(connection, layouts[name], schemas)
    if len(accounts) > _MOST:
        raise UsageError(
            f"this database has more than {_MOST:,} accounts; write those that you need by hand: `retentiond example-config --kind "
            "chat_database` prints an example"
        )
    return Accounts(name, accounts)


def _columns(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield the tables and columns that identify a layout: of chats and messages, which each version of the product has."""
    root = layout.root
    chat = [root.key, *root.dates, root.state.column if root.state else None, root.account_column]
    yield from ((layout.table(layout.chat), column) for column in chat if column)
    if layout.with_files:
        messages = layout.entities[layout.with_files]
        of_message = [messages.key, messages.column, *messages.dates]
        yield from ((layout.table(layout.with_files), column) for column in of_message if column)


def _tables(layout: Layout) -> str:
    return printable(", ".join(dict.fromkeys(table for table, _ in _columns(layout))))


async def _schemas(connection: Conn, layout: Layout) -> list[str]:
    wanted = list(_columns(layout))
    tables, columns = [table for table, _ in wanted], [column for _, column in wanted]
    rows = await connection.fetch(_SQL["schemas"], tables, columns, _MOST + 1, timeout=_SECONDS)
    return [row["schema"] for row in rows]


async def _accounts(connection: Conn, layout: Layout, schemas: list[str]) -> dict[str, dict[str, str]]:
    column = layout.root.account_column
    if column is None:
        return {schema: {"schema": schema} for schema in schemas}
    accounts: dict[str, dict[str, str]] = {}
    for schema in schemas:
        for value in await _values(connection, schema, layout.table(layout.chat), column):
            name = f"{schema}-{value}" if value in accounts else value
            accounts[name] = {"schema": schema, "value": value}
    if not accounts:
        raise UsageError(
            f"{printable(', '.join(schemas))}: there are no chats yet, so no accounts are known; write them by hand: "
            "`retentiond example-config --kind chat_database` prints an example"
        )
    return accounts


async def _values(connection: Conn, schema: str, table: str, column: str) -> list[str]:
    missing = await connection.fetchrow(_SQL["missing_rights"], schema, table, column)
    if missing is not None and missing["rights"]:
        raise MissingRightError(
            f"the role {missing['role']} may not read the column of accounts; as the owner of the tables, or as a "
            "superuser, run:",
            [f"GRANT {right} TO {missing['role']};" for right in missing["rights"]],
        )
    statement = fill(_SQL["accounts"], {"column": quoted(column), "table": relation(schema, table)})
    rows = await connection.fetch(statement, _MOST + 1, timeout=_SECONDS)
    return [row["value"] for row in rows]
