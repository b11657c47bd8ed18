"""Values of columns: the result of a cast, and the kinds of messages that have files.

A cast shortens or rewrites some values without an error. If the layout names kinds that the column never holds, no file
is recognized, and all messages would be deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.layout import Layout


NUMBERS: Final = frozenset({"smallint", "integer", "bigint", "numeric", "real", "double precision"})
_LONGEST_NUMBER: Final = 19  # digits, from which a bigint may be too small


class Kinds(NamedTuple):
    """Kinds of messages that have files, and the column that holds the kind."""

    column: str
    values: tuple[str, ...]


def files_of(layout: Layout) -> tuple[str, Kinds] | None:
    """Return the entity whose rows have files by their kind, and the kinds; None if files do not depend on a kind."""
    name = layout.with_files
    files = layout.entities[name].files if name else None
    if name is None or files is None or files.column is None or files.values is None:
        return None
    return name, Kinds(files.column, files.values)


def compared_as_numbers(layout: Layout, types: Mapping[str, Mapping[str, str]]) -> bool:
    """Return whether the kinds of messages are numbers, in the layout and in the table."""
    found = files_of(layout)
    return found is not None and types[found[0]].get(found[1].column) in NUMBERS and say_numbers(found[1])


def say_numbers(files: Kinds) -> bool:
    """Return whether all kinds in the layout are numbers."""
    return all(kind.isascii() and kind.isdigit() and len(kind) < _LONGEST_NUMBER for kind in files.values)


async def kind_problems(
    connection: Conn, layout: Layout, types: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return a problem for each kind that the column cannot hold as the layout writes it."""
    found = files_of(layout)
    if found is None or compared_as_numbers(layout, types):
        return []
    name, files = found
    kind = types[name].get(files.column)
    # A missing column is reported elsewhere, by name.
    held = {} if kind is None else {value: await held_as(connection, value, kind) for value in files.values}
    return [
        f"{printable(layout.table(name))}.{printable(files.column)} is {kind}, and cannot hold `{printable(value)}`"
        for value, text in held.items()
        if text != value
    ]


async def held_as(connection: Conn, value: str, kind: str) -> str | None:
    """Return a value cast to a type and back to text; None if the type cannot hold it."""
    try:
        held: str | None = await connection.fetchval(f"SELECT $1::text::{kind}::text", value)
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
        return None
    return held
