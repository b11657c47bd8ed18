"""The survey of one account: every chat that began before the date, judged before anything is touched.

Its verdicts lie in a table of the session's own, so that memory does not follow the database.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.text import printable
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.catalogue import naming_keys
from retentiond.targets.chat_database.kinds import compared_as_numbers, files_of, say_numbers
from retentiond.targets.chat_database.statements import SQL, quoted

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
        """Judge all; nothing but a table of the session's own is written. Raises RefusedError."""
        await check_keys(self._connection, self.tree)
        await check_kinds(self._connection, self.tree, self.values)
        await self._execute("make_survey")
        await self._execute("survey")
        await self._execute("analyze_survey")
        self.verdicts = Counter({row["verdict"]: row["items"] for row in await self._fetch("verdicts")})

    @property
    def due(self) -> int:
        """How many go as a whole."""
        return self.verdicts["due"]

    @property
    def going(self) -> int:
        """How many lose rows."""
        return self.due + self.verdicts["has_file_messages"]

    async def count_all(self) -> int:
        """Count all that the account has."""
        return int((await self._fetch("count_all"))[0][0])

    async def due_keys(self) -> frozenset[str]:
        """Return the chats that go, as text; for the chats of one visitor, which are few."""
        return frozenset([row["key"] for row in await self._fetch("due_chats")])

    async def overview(self) -> tuple[int, datetime | None]:
        """Return how many the account has, and when the oldest began."""
        row = (await self._fetch("overview"))[0]
        return int(row["items"]), row["oldest"]

    async def oldest_due(self) -> datetime | None:
        """Return when the due chat that has been over the longest ended."""
        oldest: datetime | None = (await self._fetch("oldest_due"))[0][0]
        return oldest

    async def count_rows(self, report: PurgeReport) -> None:
        """Add the rows to delete, by entity."""
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
        """Stream the keys and verdicts of what loses rows, by key; `size` is asked for each page.

        Backward they come down to `end`, not including it.
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
