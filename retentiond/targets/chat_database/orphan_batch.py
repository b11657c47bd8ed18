"""One batch of orphans: judged again and deleted in one transaction, which is rolled back if its chat was added."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.batch import ChangedError, MiscountError
from retentiond.targets.chat_database.statements import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.targets.chat_database.orphans import OrphanSearch

MOST_ROWS: Final = 10_000
"""The most rows of one table that one transaction deletes, if a single missing chat has more."""
_CAME_IN: Final = "a chat was added whose rows were about to be deleted as orphans"
_AT: Final = "r.tableoid = $relation::bigint::oid AND r.ctid = ANY($places::tid[])"


@dataclass(slots=True)
class RemovedOrphans:
    """The rows and missing chats that one transaction removed; `more`: a chat has rows left for the next one."""

    rows: Counter[str] = field(default_factory=Counter)
    chats: list[Any] = field(default_factory=list)
    more: bool = False


class OrphanBatch:
    """The work of one transaction, which the caller opens and commits."""

    def __init__(self, search: OrphanSearch) -> None:
        self._search = search
        self._rows = search.rows
        self._connection = search.connection
        self.at: str | None = None
        """The table that rows are deleted from, or were last."""

    async def of_missing(self, page: Sequence[tuple[Any, int]]) -> RemovedOrphans:
        """Delete the rows of missing chats that are still missing and due."""
        removed = RemovedOrphans()
        judged = await self._search.fetch(
            self._rows.judged(self._rows.direct, by_key=True), keys=[key for key, _ in page]
        )
        keys = [row["key"] for row in judged if row["verdict"] == "due"]
        if not keys:
            return removed
        whole = sum(row["items"] for row in judged) <= MOST_ROWS
        keep_files = self._search.files_stay
        for entity in self._rows.below:
            tree = self._rows.tree
            self.at = tree.table(entity)
            rows = tree.rows(entity, self._rows.among, keep_files=keep_files)
            if whole:
                removed.rows[entity] = await self._execute("delete", entity, rows, keys=keys)
                await self._check_deleted(entity, rows, keys=keys)
                continue
            removed.rows[entity] = await self._delete_some(entity, rows, keys=keys)
            if removed.rows[entity]:
                # Rows that refer to the next table must be deleted before its own.
                removed.more = True
                break
        removed.chats = [key if isinstance(key, int) else str(key) for key in keys]
        await self._wait_for_writers()
        if (await self._search.fetch(self._rows.statement("arrived"), keys=keys))[0][0]:
            raise ChangedError(_CAME_IN)
        return removed

    async def _delete_some(self, entity: str, rows: str, **values: Any) -> int:
        """Delete as many rows of an entity as one transaction may."""
        found = await self._search.fetch(
            self._rows.of_rows("places", entity, rows=rows), size=MOST_ROWS, **values
        )
        removed = sum([
            await self._execute("delete_places", entity, rows, relation=relation, places=places, **values)
            for relation, places in _by_relation(found).items()
        ])  # fmt: skip
        if found and not removed:
            raise MiscountError(_held_back(entity))
        return removed

    async def unlinked(self, page: Sequence[Any]) -> RemovedOrphans:
        """Delete rows that name no chat, with the rows that refer to them."""
        removed = RemovedOrphans()
        before = await self._without_id()
        by_entity: defaultdict[str, list[Any]] = defaultdict(list)
        for row in page:
            by_entity[row["entity"]].append(row)
        for entity, rows in by_entity.items():
            condition = self._rows.unlinked(entity, files_stay=self._search.files_stay)
            for relation, places in _by_relation(rows).items():
                at = {"relation": relation, "places": places}
                removed.rows[entity] += await self._delete_unlinked(entity, condition, at, removed)
        await self._wait_for_writers()
        # Zero names a chat if the database has one with that ID.
        if await self._without_id() - before:
            raise ChangedError(_CAME_IN)
        return removed

    async def _delete_unlinked(
        self, entity: str, condition: str, at: dict[str, Any], removed: RemovedOrphans
    ) -> int:
        """Delete rows of one table that name no chat, after those that refer to them; count the latter in `removed`."""
        descendants = self._rows.descendants(entity)
        keys = set(await self._fetch_keys("unlinked_keys", entity, condition, at)) if descendants else set()
        for below in descendants:
            self.at = self._rows.tree.table(below)
            rows = self._rows.below_keys(below, entity)
            removed.rows[below] += await self._execute("delete", below, rows, above=list(keys))
        self.at = self._rows.tree.table(entity)
        if not descendants:
            count = await self._execute("delete_places", entity, condition, **at)
            await self._check_deleted(entity, f"{_AT} AND {condition}", **at)
            return count
        deleted = await self._fetch_keys("delete_unlinked", entity, condition, at)
        await self._check_deleted(entity, f"{_AT} AND {condition}", **at)
        # Locking the rows first would need the right to update them.
        if set(deleted) != keys:
            raise ChangedError(f"rows of {entity} that named no chat were changed meanwhile")
        return len(deleted)

    async def _fetch_keys(self, name: str, entity: str, condition: str, at: dict[str, Any]) -> list[Any]:
        key = self._rows.tree.layout.entities[entity].key or ""
        statement = self._rows.of_rows(name, entity, rows=condition, key=quoted(key))
        return [row["key"] for row in await self._search.fetch(statement, **at)]

    async def _without_id(self) -> set[str]:
        """Return the chats with an ID that usually means no chat."""
        return {row["chat"] for row in await self._search.fetch(self._rows.chats_without_id())}

    async def _check_deleted(self, entity: str, rows: str, **values: Any) -> None:
        """Raise MiscountError if rows were kept, as a trigger may do without an error."""
        left = self._rows.of_rows("places", entity, rows=rows)
        if await self._search.fetch(left, size=1, **values):
            raise MiscountError(_held_back(entity))

    async def _wait_for_writers(self) -> None:
        """Wait for the transactions that write chats, and keep others from the table for one check."""
        tree = self._rows.tree
        await self._connection.execute("SET LOCAL lock_timeout = '2s'")
        await self._connection.execute(tree.statement("lock_table", table=tree.table(tree.top)))

    async def _execute(self, name: str, entity: str, rows: str, **values: Any) -> int:
        tree = self._rows.tree
        if name == "delete":
            statement = tree.statement("delete", table=tree.table(entity), rows=rows)
        else:
            statement = self._rows.of_rows(name, entity, rows=rows)
        return await statements.execute(self._connection, statement, self._search.values | values)


def _by_relation(rows: Sequence[Any]) -> dict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["relation"]].append(row["place"])
    return found


def _held_back(entity: str) -> str:
    return (
        f"rows of {entity} still exist after their deletion, and the batch was rolled back; look for a trigger or a "
        "rule on that table that keeps rows, then run it again"
    )
