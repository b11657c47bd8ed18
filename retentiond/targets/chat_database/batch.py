"""One batch of chats: locked, looked at again, and gone as wholes in one transaction, or not at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from retentiond.targets.chat_database import statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.catalogue import Reference
    from retentiond.targets.chat_database.tables import Tree


Page: TypeAlias = "Sequence[tuple[Any, str]]"
"""The keys of a batch, each with the survey's verdict."""


class ChangedError(Exception):
    """Something came in or went while the batch was under way; it is rolled back, and tried again."""


class MiscountError(ChangedError):
    """Not as many rows went as were seen. Where that stays so, something holds rows back."""


@dataclass(slots=True)
class Removed:
    """What one batch took: rows by entity, chats that went whole, and those that somebody had changed.

    `ids` are the chats that went, and `partition` is the one that went with them in their place.
    """

    rows: Counter[str] = field(default_factory=Counter)
    chats: int = 0
    changed: int = 0
    ids: list[int | str] = field(default_factory=list)
    partition: str | None = None


class Batch:
    """The work of one transaction, which the caller opens and commits."""

    def __init__(self, connection: Conn, tree: Tree, values: Mapping[str, Any]) -> None:
        self._connection = connection
        self._tree = tree
        self._values = values
        self._removed = Removed()
        self._gone: dict[Reference, list[Any]] = {}

    async def remove(self, page: Page) -> Removed:
        """Take what is still due of the page; raise ChangedError where it must be looked at anew."""
        # A small table would be read as a whole; one that has grown since it was analyzed must not be.
        await self._connection.execute("SET LOCAL enable_seqscan = off")
        due, stripped = await self._look_again(page)
        shared = {name: await self._shared_of(name, due) for name in self._tree.shared}
        for entity in self._tree.entities:
            await self._take(entity, due, keep_files=False)
            if entity != self._tree.top:
                await self._take(entity, stripped, keep_files=True)
        for name, keys in shared.items():
            await self._take_shared(name, keys)
        await self._look_for_newcomers(due)
        self._removed.chats = len(due)
        self._removed.ids = [key if isinstance(key, int) else str(key) for key in due]
        return self._removed

    async def _look_again(self, page: Page) -> tuple[list[Any], list[Any]]:
        tree = self._tree
        locked = [row["key"] for row in await self._fetch(tree.statement("lock"), [key for key, _ in page])]
        now = {row["key"]: row["verdict"] for row in await self._fetch(tree.statement("judge"), locked)}
        still = [(key, verdict) for key, verdict in page if now.get(key) == verdict]
        self._removed.changed = len(page) - len(still)
        return (
            [key for key, verdict in still if verdict == "due"],
            [key for key, verdict in still if verdict != "due"],
        )

    async def _take(self, entity: str, keys: list[Any], *, keep_files: bool) -> None:
        """Delete an entity's rows, and compare with what was seen: what a trigger or a rule holds back is a fault."""
        if not keys:
            return
        tree = self._tree
        seen = len(keys)
        if entity != tree.top:
            seen = await self._fetchval(tree.of_entity("count", entity, keep_files=keep_files), keys)
        awaited = [one for one in tree.unguarded if one.parent == entity]
        if awaited and seen:
            rows = await self._fetch(tree.of_entity("delete_returning", entity, keep_files=keep_files), keys)
            for one in awaited:
                self._gone.setdefault(one, []).extend(row["key"] for row in rows)
            taken = len(rows)
        else:
            taken = await self._execute(tree.of_entity("delete", entity, keep_files=keep_files), keys)
        self._count(entity, seen, taken)

    def _count(self, entity: str, seen: int, taken: int) -> None:
        if taken != seen:
            raise MiscountError(
                f"of {entity} {taken} rows went where {seen} were seen, and the batch was rolled back; look for a "
                "trigger or a rule on that table that holds rows back, then run it again"
            )
        self._removed.rows[entity] += taken

    async def _shared_of(self, name: str, keys: list[Any]) -> list[Any]:
        rows = await self._fetch(self._tree.of_shared("shared_of", name), keys)
        return [row["key"] for row in rows]

    async def _take_shared(self, name: str, keys: list[Any]) -> None:
        """Delete the rows that no chat names any more."""
        lonely = [row["key"] for row in await self._fetch(self._tree.of_shared("lock_shared", name), keys)]
        taken = await self._execute(self._tree.of_shared("delete_shared", name), lonely) if lonely else 0
        self._count(name, len(lonely), taken)
        for reference in self._tree.unguarded:
            if reference.parent == name:
                self._gone[reference] = lonely

    async def _look_for_newcomers(self, due: list[Any]) -> None:
        """See that nothing refers to what is gone, where no foreign key sees to it.

        A foreign key lets a writer wait for us. Without one, a row may come in unseen until the writer commits: so we
        wait for all of them, hold off others for this one look, and only then commit.
        """
        if not due:
            return
        for reference in self._tree.unguarded:
            keys = self._gone.get(reference)
            if not keys:
                continue
            # While we wait, all others wait behind us.
            await self._connection.execute("SET LOCAL lock_timeout = '2s'")
            await self._execute(self._tree.of_reference("lock_table", reference), [])
            if await self._fetchval(self._tree.of_reference("left", reference), keys):
                raise ChangedError(f"{reference.child} has a new row of a chat that was to go")

    async def _fetch(self, statement: str, keys: list[Any]) -> list[Any]:
        return await statements.fetch(self._connection, statement, {**self._values, "keys": keys})

    async def _fetchval(self, statement: str, keys: list[Any]) -> Any:
        return await statements.fetchval(self._connection, statement, {**self._values, "keys": keys})

    async def _execute(self, statement: str, keys: list[Any]) -> int:
        return await statements.execute(self._connection, statement, {**self._values, "keys": keys})
