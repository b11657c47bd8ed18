"""The survey of one account: every chat that began before the date, judged before anything is changed.

The verdicts are in a temporary table, so that memory does not grow with the database.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.text import printable
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.catalogue import naming_keys
from retentiond.targets.chat_database.kinds import compared_as_numbers, files_of, say_numbers
from retentiond.targets.chat_database.statements import quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.model.purge import PurgeReport
    from retentiond.targets.chat_database.tables import Terms, Tree


DUE = "IN (SELECT key FROM {survey} WHERE verdict = 'due')"
STRIPPED = "IN (SELECT key FROM {survey} WHERE verdict = 'has_file_messages')"


class Survey:
    """The verdicts on one tree, and the counts that follow from them."""

    def __init__(self, connection: Conn, tree: Tree, terms: Terms) -> None:
        self._connection = connection
        self.tree = tree
        self.values = tree.values(terms)
        self.verdicts: Counter[str] = Counter()

    async def judge(self) -> None:
        """Judge all top rows into a temporary table; change nothing else. Raises RefusedError."""
        await check_keys(self._connection, self.tree)
        await check_kinds(self._connection, self.tree, self.values)
        await self._execute("make_survey")
        await self._execute("survey")
        await self._execute("analyze_survey")
        self.verdicts = Counter({row["verdict"]: row["items"] for row in await self._fetch("verdicts")})

    @property
    def due(self) -> int:
        """The number of rows to delete as a whole, with all that belongs to them."""
        return self.verdicts["due"]

    @property
    def affected(self) -> int:
        """The number of top rows that lose rows, wholly or in part."""
        return self.due + self.verdicts["has_file_messages"]

    async def count_all(self) -> int:
        """Count all top rows of the account."""
        return int((await self._fetch("count_all"))[0][0])

    async def due_keys(self) -> frozenset[str]:
        """Return the keys of the due chats as text; for one visitor, whose chats are few."""
        return frozenset([row["key"] for row in await self._fetch("due_chats")])

    async def overview(self) -> tuple[int, datetime | None]:
        """Return the number of top rows of the account, and the date of the oldest."""
        row = (await self._fetch("overview"))[0]
        return int(row["items"]), row["oldest"]

    async def oldest_due(self) -> datetime | None:
        """Return the end of the due chat that ended first."""
        oldest: datetime | None = (await self._fetch("oldest_due"))[0][0]
        return oldest

    async def count_rows(self, report: PurgeReport) -> None:
        """Add the number of rows to delete, by entity, to the report."""
        tree = self.tree
        for entity in tree.entities:
            report.entities[entity] += await self._count(tree.of_entity("count", entity, DUE))
            if entity != tree.top:
                stripped = tree.of_entity("count", entity, STRIPPED, keep_files=True)
                report.entities[entity] += await self._count(stripped)
        for shared in tree.shared:
            report.entities[shared] += await self._count(tree.of_shared("count_shared", shared))

    async def pages(
        self, size: Callable[[], int], *, backward: bool = False, end: Any = None
    ) -> AsyncIterator[list[tuple[Any, str]]]:
        """Stream the keys and verdicts of rows to purge, by key; `size` is called for each page.

        Backward the stream ends before `end`.
        """
        name, after = "page_backward" if backward else "page", None
        bounds = {"end": end} if backward else {}
        while page := await self._fetch(name, after=after, size=size(), **bounds):
            yield [(row["key"], row["verdict"]) for row in page]
            after = page[-1]["key"]

    async def _fetch(self, name: str, **values: Any) -> list[Any]:
        return await statements.fetch(self._connection, self.tree.statement(name), self.values | values)

    async def _execute(self, name: str) -> None:
        await statements.execute(self._connection, self.tree.statement(name), self.values)

    async def _count(self, statement: str) -> int:
        return int(await statements.fetchval(self._connection, statement, self.values))


async def check_kinds(connection: Conn, tree: Tree, values: Mapping[str, Any]) -> None:
    """Raise RefusedError if files are kept, and the layout names numbers as kinds where the table has other values."""
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
    statement = tree.statement("other_kind", table=tree.table(name), kind=quoted(files.column))
    other = await statements.fetchval(connection, statement, values)
    if other is not None:
        finding = f"{printable(tree.layout.table(name))}.{printable(files.column)} has `{printable(other)}`"
        hint = (
            f"{finding}, and no row has {' or '.join(files.values)}, the kinds of messages with files in the layout: "
            "correct the `values` of its `files`"
        )
        raise RefusedError(Refusal("layout", finding, "the kinds in the layout", hint))


async def check_keys(connection: Conn, tree: Tree) -> None:
    """Raise RefusedError if a key without a unique index has duplicates."""
    for name, key in naming_keys(tree.layout):
        if name not in tree.catalogue.unproven or name not in (*tree.entities, *tree.shared):
            continue
        statement = tree.statement("twice", table=tree.table(name), key=quoted(key))
        twice = await connection.fetchval(statement)
        if twice is not None:
            finding = f"{printable(tree.layout.table(name))}.{printable(key)} is {printable(twice)} in more than one row"
            hint = f"{finding}, and the wrong one could be deleted: name a unique column as `key`"
            raise RefusedError(Refusal("layout", finding, "a key that identifies one row", hint))
