"""Whether a key names one row: rows go by their keys alone, and by one that is there twice another's would go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.text import printable
from retentiond.targets.chat_database.names import quoted
from retentiond.targets.chat_database.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.layout import Layout
    from retentiond.targets.chat_database.tables import Tree

_DATES: Final = frozenset({"date", "timestamp with time zone", "timestamp without time zone"})


def naming_keys(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield the entities whose rows are found by their key, each with that key's column."""
    for name, entity in layout.entities.items():
        if entity.key is not None and (entity.parent is None or layout.children(name)):
            yield name, entity.key


def beside_key(
    key: str, dates: Sequence[str], types: Mapping[str, str], unique: Sequence[frozenset[str]]
) -> frozenset[str] | None:
    """Return what else it takes to name a row, by the table's unique indexes; nothing else, or None where none tells.

    A date does not count: where a table is partitioned by one, no index is unique without it.
    """
    others = sorted((columns - {key} for columns in unique if key in columns), key=len)
    if frozenset() in others:
        return frozenset()
    dated = {name for name in types if types[name] in _DATES} | set(dates)
    return next((left for other in others if (left := other - dated)), None)


async def check_keys(connection: Conn, tree: Tree) -> None:
    """Raise RefusedError where a key that no index makes unique is there twice."""
    for name, key in naming_keys(tree.layout):
        if name not in tree.catalogue.unproven or name not in (*tree.entities, *tree.shared):
            continue
        statement = tree.fill(SQL["twice"], table=tree.table(name), key=quoted(key))
        twice = await connection.fetchval(statement)
        if twice is not None:
            told = f"{printable(tree.layout.table(name))}.{printable(key)} is {printable(twice)} in more than one row"
            hint = f"{told}, and each would go for the other: name a column as `key` that tells rows apart"
            raise RefusedError(Refusal("layout", told, "a key that names one row", hint))
