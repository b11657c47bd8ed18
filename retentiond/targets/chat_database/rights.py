"""The rights that a purge needs in the database of the chats, and the statements that grant those which are missing.

The role reads no text of a message: it needs the columns that the layout names, and no others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import MissingRightError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.layout import Layout

_SQL: Final = named_queries(__package__, "rights.sql")


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
        # Rows of these are locked before they are judged a second time.
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


def system_columns(layout: Layout, name: str) -> list[str]:
    """Return the system columns of an entity that a purge of orphans reads: where their rows are."""
    return ["ctid", "tableoid"] if layout.top(name) == layout.chat != name else []


def _missing(table: Record, unread: Sequence[str], key: str | None) -> list[str]:
    """Return the missing rights on one table; `key` is the column by which its rows are locked, if they are."""
    rights = [f"SELECT ({', '.join(unread)})"] if unread else []
    if key is not None and not table["may_lock"]:
        rights.append(f"UPDATE ({key})")
    return rights if table["may_delete"] else [*rights, "DELETE"]
