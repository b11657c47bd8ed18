"""Keys that are there twice: rows go by their keys alone, and by such a one another's would go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.text import printable
from retentiond.targets.chat_database.keys import naming_keys
from retentiond.targets.chat_database.names import quoted
from retentiond.targets.chat_database.statements import SQL

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.tables import Tree


async def check_keys(connection: Conn, tree: Tree) -> None:
    """Raise RefusedError where a key that no index makes unique is there twice."""
    for name, key in naming_keys(tree.layout):
        if name not in tree.catalogue.unproven or name not in (*tree.entities, *tree.shared):
            continue
        statement = tree.fill(SQL["twice"], table=tree.table(name), key=quoted(key))
        twice = await connection.fetchval(statement)
        if twice is not None:
            told = f"{printable(tree.layout.table(name))}.{printable(key)} is {printable(twice)} in more than one row"
            hint = f"{told}, and one could be deleted for the other: name a unique column as `key`"
            raise RefusedError(Refusal("layout", told, "a key that names one row", hint))
