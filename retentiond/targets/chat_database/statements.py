"""The statements of a purge for one account's tables: templates, filled with quoted names, with parameters by name.

A layout may hold any name of a schema, a table or a column; each is quoted, so that it remains a name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.errors import UsageError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.layout import Entity


_PLAIN: Final = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_LONGEST: Final = 63  # bytes; PostgreSQL truncates a longer name, which may be another table

_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
_PARAMETER: Final = re.compile(r"\$([a-z_]+)")


def quoted(name: str) -> str:
    """Return the name as a quoted identifier that consists of letters, digits and escapes only.

    So a name that looks like a place of a template, or like a parameter, is never filled as one. Raise UsageError for a
    name that PostgreSQL would truncate.
    """
    if not name or "\0" in name or len(name.encode(errors="surrogatepass")) > _LONGEST:
        raise UsageError(
            f"`{printable(name)}` is not a name that PostgreSQL accepts unchanged; use 1 to {_LONGEST} bytes"
        )
    if _PLAIN.fullmatch(name):
        return f'"{name}"'
    return 'U&"' + "".join(char if _PLAIN.fullmatch(char) else _escape(char) for char in name) + '"'


def literal(text: str) -> str:
    """Return a text as a constant that consists of letters, digits and escapes only, as in `quoted`."""
    if "\0" in text:
        raise UsageError(
            f"`{printable(text)}` has a zero character, which PostgreSQL cannot store; correct it"
        )
    return "U&'" + "".join(char if _PLAIN.fullmatch(char) else _escape(char) for char in text) + "'"


def relation(schema: str, table: str) -> str:
    """Return a table qualified with its schema, so that search_path has no effect."""
    return f"{quoted(schema)}.{quoted(table)}"


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\{code:04X}" if code <= 0xFFFF else f"\\+{code:06X}"  # noqa: PLR2004 - the largest of four digits


def fill(template: str, places: Mapping[str, str]) -> str:
    """Fill the places in braces, also those in the inserted texts."""
    text = template
    while _PLACE.search(text):
        text = _PLACE.sub(lambda match: places[match[1]], text)
    return text


def bind(statement: str, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return the statement with its named parameters numbered, and their values in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return _PARAMETER.sub(number, statement), [values[name] for name in names]


async def fetch(connection: Conn, statement: str, values: Mapping[str, Any]) -> list[Any]:
    """Run a statement with named parameters, and return its rows."""
    text, arguments = bind(statement, values)
    return await connection.fetch(text, *arguments)


async def fetchval(connection: Conn, statement: str, values: Mapping[str, Any]) -> Any:
    """Run a statement with named parameters, and return its first value."""
    text, arguments = bind(statement, values)
    return await connection.fetchval(text, *arguments)


async def execute(connection: Conn, statement: str, values: Mapping[str, Any]) -> int:
    """Run a statement with named parameters, and return how many rows it changed."""
    text, arguments = bind(statement, values)
    tag = await connection.execute(text, *arguments)
    count = tag.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


def column(alias: str, name: str) -> str:
    """Return a column of an alias."""
    return f"{alias}.{quoted(name)}"


def of_entity(alias: str, entity: Entity) -> str | None:
    """Return the condition for the rows of an entity in a table that several entities share; None for a table of its own."""
    if entity.rows is None:
        return None
    values = ", ".join(map(literal, entity.rows.values))
    return f"{column(alias, entity.rows.column)}::text IN ({values})"
