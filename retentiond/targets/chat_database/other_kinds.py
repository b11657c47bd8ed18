"""Kinds of messages that a table has in place of the layout's: by numbers no file is known where they are words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.text import printable
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.kinds import compared_as_numbers, files_of, say_numbers
from retentiond.targets.chat_database.names import quoted
from retentiond.targets.chat_database.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.tables import Tree


async def check_kinds(connection: Conn, tree: Tree, values: Mapping[str, Any]) -> None:
    """Raise RefusedError where files are to stay, and the layout has numbers for what the table has other words for."""
    found = files_of(tree.layout)
    if (
        found is None
        or not tree.is_chat
        or not values["files_stay"]
        or not say_numbers(found[1])
        or compared_as_numbers(tree.layout, tree.catalogue.types)
    ):
        return
    name, files = found
    statement = tree.fill(SQL["other_kind"], table=tree.table(name), kind=quoted(files.column))
    other = await statements.fetchval(connection, statement, values)
    if other is not None:
        told = f"{printable(tree.layout.table(name))}.{printable(files.column)} has `{printable(other)}`"
        hint = (
            f"{told}, and no row has {' or '.join(files.values)}, by which the layout tells messages with files: correct "
            "the `values` of its `files`, or say --delete-file-messages"
        )
        raise RefusedError(Refusal("layout", told, "the kinds that the layout names", hint))
