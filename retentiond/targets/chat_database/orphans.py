"""Orphans of one account: found and counted, changing nothing.

A missing chat is one that rows name and the database does not have, as where no foreign key guards the rows and partitions
of chats were dropped. Its rows are judged together, by the dates of those that have one. A row that names no chat (NULL, or
zero) is judged by its own date. Where accounts share tables, only the table of a row can name its account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retentiond.model.orphans import Orphans
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.catalogue import Reference
from retentiond.targets.chat_database.orphan_rows import OrphanRows, validated_tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.account import AccountPurge


class OrphanSearch:
    """The orphans of one account, in temporary tables, so that memory does not grow with their number."""

    def __init__(self, connection: Conn, purge: AccountPurge, rows: OrphanRows) -> None:
        self.connection = connection
        self.purge = purge
        self.rows = rows
        self.values = purge.chats.values

    @property
    def files_stay(self) -> bool:
        """Whether messages with files are kept."""
        return bool(self.values["files_stay"])

    async def find(self) -> Orphans:
        """Find the orphans, and count them by verdict."""
        found = Orphans()
        await self._find_missing()
        found.chats = int(await self._value(self.rows.statement("count_missing")))
        if await self._value(self.rows.statement("any_missing")):
            for entity in self.rows.below:
                self._note(found, entity, await self.fetch(self.rows.count_rows(entity)))
        for entity in self.rows.with_unlinked:
            self._note(found, entity, await self.fetch(self.rows.count_unlinked(entity)))
            for below in self.rows.descendants(entity):
                self._note(found, below, await self.fetch(self.rows.count_unlinked(entity, below)))
        for entity in self._deeper():
            items = int(await self._value(self.rows.count_below(entity)))
            if items:
                found.rows[entity] += items
                one_account = self.purge.context.layout.root.account_column is None
                found.kept["undated" if one_account else "no_account"] += items
        return found

    async def database_has_chats(self) -> bool:
        """Return whether the table of chats has any row, of whichever account."""
        return bool(await self._value(self.rows.statement("chats_there")))

    async def list_unlinked(self) -> None:
        """List the places of due rows that name no chat."""
        await self._execute(self.rows.statement("drop_unlinked"))
        await self._execute(self.rows.statement("make_unlinked"))
        # Rows without dates of their own cannot be judged.
        for entity in filter(self.rows.dated, self.rows.with_unlinked):
            condition = self.rows.unlinked(entity, files_stay=self.files_stay)
            statement = self.rows.of_rows("find_unlinked", entity, unlinked=condition)
            await self._execute(statement, entity=entity)

    async def pages(
        self, size: int, *, backward: bool = False, end: Any = None
    ) -> AsyncIterator[list[tuple[Any, int]]]:
        """Stream the missing chats that are due, by key, each with how many rows name it; backward down to `end`."""
        after = None
        statement = self.rows.statement("page_backward" if backward else "page")
        while page := await self.fetch(statement, after=after, end=end, size=size):
            yield [(row["key"], row["items"]) for row in page]
            after = page[-1]["key"]

    async def unlinked_pages(self, size: int) -> AsyncIterator[list[Any]]:
        """Stream the places of rows that name no chat."""
        after = 0
        while page := await self.fetch(self.rows.statement("unlinked_page"), after=after, size=size):
            yield page
            after = page[-1]["number"]

    async def fetch(self, statement: str, **values: Any) -> list[Any]:
        """Run a statement with this purge's parameters, and others."""
        return await statements.fetch(self.connection, statement, self.values | values)

    async def _find_missing(self) -> None:
        await self._execute(self.rows.statement("drop_missing"))
        await self._execute(self.rows.statement("make_missing"))
        if self.rows.unguarded:
            judged = self.rows.judged(self.rows.unguarded, by_key=False)
            await self._execute(self.rows.statement("find_missing", judged=judged))
        await self._execute(self.rows.statement("analyze_missing"))

    def _deeper(self) -> Iterable[str]:
        """Return the entities whose parent is not a chat, and that no foreign key guards."""
        layout, guarded = self.purge.context.layout, self.purge.catalogue.guarded
        for entity in self.rows.below:
            this = layout.entities[entity]
            reference = Reference(entity, this.column or "", this.parent or "")
            if entity not in self.rows.direct and reference not in guarded:
                yield entity

    def _note(self, found: Orphans, entity: str, rows: Iterable[Any]) -> None:
        for row in rows:
            found.rows[entity] += row["items"]
            verdict = row["verdict"]
            if verdict == "due" and row["file"] and self.files_stay:
                verdict = "has_file_messages"
            if verdict == "due":
                found.due[entity] += row["items"]
            else:
                found.kept[verdict] += row["items"]

    async def _value(self, statement: str) -> Any:
        return await statements.fetchval(self.connection, statement, self.values)

    async def _execute(self, statement: str, **values: Any) -> None:
        await statements.execute(self.connection, statement, self.values | values)


async def search_orphans(connection: Conn, purge: AccountPurge) -> OrphanSearch:
    """Return the search for one account's orphans, not yet run."""
    tree, catalogue = purge.chats.tree, purge.catalogue
    layout, relations = tree.layout, catalogue.relations
    direct = layout.children(tree.top)
    numbers = [relations[entity] for entity in direct]
    validated = await validated_tables(connection, relations[tree.top], numbers)
    guarded = frozenset(
        entity
        for entity in direct
        if relations[entity] in validated
        and Reference(entity, layout.entities[entity].column or "", tree.top) in catalogue.guarded
    )
    holds = await purge.context.ledger.exists(connection)
    return OrphanSearch(connection, purge, OrphanRows(tree, guarded, holds=holds))
