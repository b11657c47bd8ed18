"""The indexes that a purge needs: without them each batch would read a child's table from end to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.model.errors import Refusal, RefusedError
from retentiond.targets.chat_database.catalogue import SQL, references
from retentiond.targets.chat_database.keys import naming_keys
from retentiond.targets.chat_database.names import quoted, relation

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.catalogue import Catalogue
    from retentiond.targets.chat_database.layout import Layout

LARGE: Final = 8 * 2**20
"""Bytes from which a table is too large to be read for each batch."""
_TIMEOUT: Final = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class MissingIndex:
    """An index that a large table lacks."""

    table: int
    relation: str
    column: str

    @property
    def name(self) -> str:
        """What we call it, to know it again."""
        return f"retentiond_{self.table}_{self.column}".encode()[:60].decode(errors="ignore")

    @property
    def statement(self) -> str:
        """The statement that makes it, beside those who write."""
        return f"CREATE INDEX CONCURRENTLY {quoted(self.name)} ON {self.relation} ({quoted(self.column)})"


async def missing_indexes(connection: Conn, layout: Layout, catalogue: Catalogue) -> list[MissingIndex]:
    """Return the indexes that are missing on large tables of an account."""
    wanted = {(one.child, one.column) for one in references(layout)}
    # By the key of what hangs on others, and on which nothing hangs, nobody looks.
    wanted |= set(naming_keys(layout))
    missing: list[MissingIndex] = []
    for entity, column in sorted(wanted):
        apart = layout.entities[entity].rows
        rows = await connection.fetch(
            SQL["unindexed"], catalogue.relations[entity], column, apart.column if apart else None
        )
        missing += [
            MissingIndex(row["relation"], relation(row["schema"], row["name"]), column)
            for row in rows
            if row["bytes"] > LARGE
        ]
    return missing


async def make_indexes(connection: Conn, missing: list[MissingIndex]) -> None:
    """Make them, one after another; never in a transaction. A remnant of ours is dropped first."""
    log = get_logger()
    for index in missing:
        schema = index.relation.partition(".")[0]
        log.info("index_making", index=index.name, table=index.relation)
        await connection.execute(f"DROP INDEX IF EXISTS {schema}.{quoted(index.name)}", timeout=_TIMEOUT)
        await connection.execute(index.statement, timeout=_TIMEOUT)
        log.info("index_made", index=index.name, table=index.relation)


def refuse(missing: list[MissingIndex]) -> RefusedError:
    """Say which are missing, and how to make them."""
    return RefusedError(
        Refusal(
            "missing_index",
            ", ".join(f"{index.relation} ({index.column})" for index in missing),
            "an index on each column that joins large tables",
            "each batch would read the whole table: set `create_index: true`, or run: "
            + "; ".join(index.statement for index in missing),
        )
    )
