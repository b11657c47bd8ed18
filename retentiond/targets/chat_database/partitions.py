"""Partitions by date that are wholly before the date: emptied at once with their chats, and dropped.

A partition is emptied only if each of its rows belongs to a due chat, in the transaction that deletes the rest of those
chats. If that fails, its rows are deleted in batches, like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.batch import ChangedError, MiscountError, Removed
from retentiond.targets.chat_database.statements import column, of_entity, quoted, relation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.catalogue import Reference
    from retentiond.targets.chat_database.tables import Tree

_SQL: Final = named_queries(__package__, "partitions.sql")
MOST_CHATS: Final = 100_000
"""The most chats that are deleted with one partition: they are one transaction."""
_MEMBERS: Final = "IN (SELECT key FROM pg_temp.retentiond_members)"


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition wholly below the date, of an entity's table."""

    entity: str
    name: str
    relation: int
    table: str


async def partitions_below(connection: Conn, tree: Tree, values: Mapping[str, Any]) -> list[Partition]:
    """Return the partitions of the tree's dated tables that lie wholly below the date, in the order of deletion."""
    found: list[Partition] = []
    # A partition never has rows of one visitor only, and an erasure may reach into the current one.
    for entity in () if tree.of_visitor else tree.entities:
        dates = tree.layout.entities[entity].dates
        if not dates:
            continue
        statement = tree.fill(_SQL["below"], date_type=tree.catalogue.types[entity][dates[0]])
        given = {**values, "relation": tree.catalogue.relations[entity], "dates": list(dates)}
        found += [
            Partition(entity, row["name"], row["relation"], relation(row["schema"], row["name"]))
            for row in await statements.fetch(connection, statement, given)
        ]
    return found


def can_be_emptied(tree: Tree, partition: Partition) -> bool:
    """Return whether a partition can be emptied at once: its rows refer to chats, and no rows refer to them."""
    hangs = tree.layout.entities[partition.entity].parent == tree.top
    deep = any(one.parent not in (tree.top, *tree.shared) for one in tree.unguarded)
    alone = tree.layout.entities[partition.entity].rows is None
    return hangs and not deep and alone and not tree.layout.children(partition.entity)


class Emptying:
    """Deletes a partition's rows and their chats, in one transaction that the caller opens and commits."""

    def __init__(self, connection: Conn, tree: Tree, values: Mapping[str, Any], partition: Partition) -> None:
        self._connection = connection
        self._tree = tree
        self._values = values
        self._partition = partition
        self._removed = Removed()

    async def empty(self) -> Removed | None:
        """Empty the partition; None, with nothing changed, if its rows must be deleted in batches. Raises as a batch does."""
        # Readers of the table wait while this transaction waits for its lock. Foreign keys are checked by a statement
        # for each row, which must not be planned each time.
        await self._connection.execute("SET LOCAL lock_timeout = '2s'; SET LOCAL plan_cache_mode = auto")
        if await self._value("holds_others") or await self._value("deletes_are_observed"):
            return None
        members = await self._choose()
        if not members:
            return None
        tree, top = self._tree, self._tree.top
        for shared in tree.shared:
            await self._execute("make_shared", shared)
        for entity in tree.entities:
            if entity == top:
                await self._truncate()
            await self._delete(entity, members)
        for shared in tree.shared:
            await self._delete_shared(shared)
        await self._check_new_rows()
        await statements.execute(self._connection, tree.statement("forget"), self._values)
        self._removed.chats = members
        self._removed.partition = self._partition.name
        return self._removed

    async def _choose(self) -> int:
        """List the chats that have rows here, lock them, and check that all are still due; 0 if not."""
        for name in ("make_members", "index_members", "analyze_members"):
            await self._execute(name)
        members = int(await self._value("count_members"))
        if members > MOST_CHATS:
            return 0
        if await self._value("lock_members") != members or await self._value("judge_members") != members:
            return 0
        return members

    async def _delete(self, entity: str, members: int) -> None:
        tree, partition = self._tree, self._partition
        seen, among = members, _MEMBERS
        if entity == partition.entity:
            # Rows of these chats in other partitions.
            among += f" AND r.tableoid <> {partition.relation}::oid"
        if entity != tree.top:
            seen = await statements.fetchval(
                self._connection, tree.of_entity("count", entity, among), self._values
            )
        deleted = await statements.execute(
            self._connection, tree.of_entity("delete", entity, among), self._values
        )
        self._count(entity, seen, deleted)

    async def _truncate(self) -> None:
        """Delete the partition's rows; its readers wait from here on, so this comes as late as possible."""
        await self._execute("lock_partition")
        if await self._value("other_rows"):
            raise ChangedError(f"{self._partition.name} has a row of another chat")
        self._removed.rows[self._partition.entity] += await self._value("count_partition")
        await self._execute("truncate")

    async def _delete_shared(self, shared: str) -> None:
        await self._execute("keep_unused", shared)
        unused = await self._value("count_shared_rows", shared)
        statement = self._fill("delete_shared_rows", shared)
        self._count(shared, unused, await statements.execute(self._connection, statement, self._values))

    async def _check_new_rows(self) -> None:
        for reference in self._tree.unguarded:
            await self._connection.execute(self._tree.of_reference("lock_table", reference))
            if await statements.fetchval(self._connection, self._left(reference), self._values):
                raise ChangedError(f"{reference.child} has a new row of a chat that is being deleted")

    def _left(self, reference: Reference) -> str:
        deleted_keys = (
            _MEMBERS
            if reference.parent == self._tree.top
            else f"IN (SELECT key FROM {_shared_keys(reference.parent)})"
        )
        table, name = self._tree.table(reference.child), column("r", reference.column)
        own = of_entity("r", self._tree.layout.entities[reference.child])
        words = " AND ".join(filter(None, (f"{name} {deleted_keys}", own)))
        return f"SELECT EXISTS (SELECT FROM {table} r WHERE {words})"

    def _count(self, entity: str, seen: int, deleted: int) -> None:
        if seen != deleted:
            raise MiscountError(f"{deleted} rows of {entity} were deleted instead of {seen}")
        self._removed.rows[entity] += deleted

    def _fill(self, name: str, shared: str | None = None) -> str:
        places = {
            "partition": self._partition.table,
            "relation": str(self._partition.relation),
            "column": quoted(self._tree.layout.entities[self._partition.entity].column or ""),
        }
        if shared is not None:
            places |= {"shared_keys": _shared_keys(shared), **self._tree.places_of_shared(shared)}
        return self._tree.fill(_SQL[name], **places)

    async def _execute(self, name: str, shared: str | None = None) -> None:
        await statements.execute(self._connection, self._fill(name, shared), self._values)

    async def _value(self, name: str, shared: str | None = None) -> Any:
        return await statements.fetchval(self._connection, self._fill(name, shared), self._values)


async def drop_if_empty(connection: Conn, tree: Tree, partition: Partition) -> bool:
    """Drop a partition that has no row left, in the transaction that the caller opens; False if it has rows."""
    places = {"table": tree.table(partition.entity), "partition": partition.table}
    if not await connection.fetchval(tree.fill(_SQL["is_empty"], **places)):
        return False
    await connection.execute("SET LOCAL lock_timeout = '2s'")
    await connection.execute(tree.fill(_SQL["lock_parent"], **places))
    if not await connection.fetchval(tree.fill(_SQL["is_empty"], **places)):
        return False
    # A partition that foreign keys refer to cannot be dropped, but can be detached.
    await connection.execute(tree.fill(_SQL["detach"], **places))
    await connection.execute(tree.fill(_SQL["drop"], **places))
    return True


def _shared_keys(shared: str) -> str:
    return f"pg_temp.{quoted(f'retentiond_{shared}'[:60])}"
