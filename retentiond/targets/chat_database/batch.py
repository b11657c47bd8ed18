"""One batch of chats: locked, judged again, and deleted as wholes in one transaction, or not at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.catalogue import deletes_run_code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.catalogue import Reference
    from retentiond.targets.chat_database.tables import Tree


Page: TypeAlias = "Sequence[tuple[Any, str]]"
"""The keys of a batch, each with the survey's verdict."""


BY_KEY: Final = "; ".join(
    f"SET LOCAL {setting}"
    for setting in (
        # Whatever sizes of tables the planner assumes, no batch reads a whole table.
        "enable_seqscan = off",
        "enable_hashjoin = off",
        "enable_mergejoin = off",
        # Foreign keys are checked by a statement for each row, which must not be planned each time.
        "plan_cache_mode = auto",
    )
)
"""How a batch's statements are planned: by the keys of its chats, and through indexes alone."""


class ChangedError(Exception):
    """Rows were added or deleted while the batch was running; it is rolled back, and tried again."""


class MiscountError(ChangedError):
    """The number of deleted rows differs from the count. If it stays so, a trigger or a rule keeps rows."""


@dataclass(slots=True)
class Removed:
    """The rows that one batch removed by entity, the number of whole chats, and of chats that had changed.

    `ids` are the removed chats; for an emptied partition, `partition` is its name instead.
    """

    rows: Counter[str] = field(default_factory=Counter)
    chats: int = 0
    changed: int = 0
    ids: list[int | str] = field(default_factory=list)
    partition: str | None = None


class Batch:
    """The work of one transaction, which the caller opens and commits.

    Of two concurrent batches, the second waits in `await_turn` for the commit of the first: otherwise each would see the
    chats of the other, and keep the rows that they share.
    """

    def __init__(
        self,
        connection: Conn,
        tree: Tree,
        values: Mapping[str, Any],
        await_turn: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._tree = tree
        self._values = values
        self._await_turn = await_turn
        # A concurrent batch may change it; this batch keeps to one of the two ways.
        self._counts = tree.counts_deletions
        self._removed = Removed()
        self._deleted_keys: dict[Reference, list[Any]] = {}
        self.at: str | None = None
        """The table that rows are deleted from, or were last."""

    async def remove(self, page: Page) -> Removed:
        """Delete the chats of the page that are still due; raise ChangedError if it must be judged again."""
        await self._connection.execute(BY_KEY)
        due, stripped = await self._judge_again(page)
        await self._delete_rows(stripped, seen={}, keep_files=True)
        counted = self._tree.counted
        seen = {name: sum(counts[context] for counts in due.values()) for context, name in enumerate(counted)}
        await self._delete_rows(due, seen=seen, keep_files=False)
        await self._await_turn()
        for context, name in enumerate(self._tree.shared, len(counted)):
            await self._delete_shared(name, sorted({counts[context] for counts in due.values()} - {None}))
        await self._check_triggers()
        if due:
            await self._check_new_rows()
        self._removed.chats = len(due)
        self._removed.ids = [key if isinstance(key, int) else str(key) for key in due]
        return self._removed

    async def _judge_again(self, page: Page) -> tuple[dict[Any, tuple[Any, ...]], list[Any]]:
        """Return the due chats, each with its counts of rows, and the chats that keep their files."""
        tree = self._tree
        locked = [row["key"] for row in await self._fetch(tree.statement("lock"), [key for key, _ in page])]
        now = {row["key"]: row for row in await self._fetch(tree.statement("judge"), locked)}
        still = [(key, verdict) for key, verdict in page if key in now and now[key]["verdict"] == verdict]
        self._removed.changed = len(page) - len(still)
        return (
            {key: tuple(now[key])[2:] for key, verdict in still if verdict == "due"},
            [key for key, verdict in still if verdict != "due"],
        )

    async def _delete_rows(
        self, chats: Collection[Any], *, seen: Mapping[str, int], keep_files: bool
    ) -> None:
        """Delete the rows of chats, and compare with the counts: a trigger that keeps rows is an error.

        Rows that were not counted before are counted now, if a trigger or a rule may keep rows; otherwise the deletion
        alone counts.
        """
        if not chats:
            return
        keys, tree = list(chats), self._tree
        uncounted = [entity for entity in tree.entities if entity != tree.top and entity not in seen]
        if uncounted and self._counts:
            (counts,) = await self._fetch(tree.count_each(uncounted, keep_files=keep_files), keys)
            seen = {**seen, **dict(zip(uncounted, counts, strict=True))}
        for entity in tree.entities:
            if entity == tree.top and keep_files:
                continue
            count = len(keys) if entity == tree.top else seen.get(entity)
            deleted = 0 if count == 0 else await self._delete(entity, keys, keep_files=keep_files)
            self._count(entity, deleted if count is None else count, deleted)

    async def _delete(self, entity: str, keys: list[Any], *, keep_files: bool) -> int:
        tree = self._tree
        self.at = tree.table(entity)
        awaited = [one for one in tree.unguarded if one.parent == entity]
        if not awaited:
            return await self._execute(tree.of_entity("delete", entity, keep_files=keep_files), keys)
        rows = await self._fetch(tree.of_entity("delete_returning", entity, keep_files=keep_files), keys)
        for one in awaited:
            self._deleted_keys.setdefault(one, []).extend(row["key"] for row in rows)
        return len(rows)

    def _count(self, entity: str, seen: int, deleted: int) -> None:
        if deleted != seen:
            raise MiscountError(
                f"{deleted} rows of {entity} were deleted instead of {seen}, and the batch was rolled back; look for "
                "a trigger or a rule on that table that keeps rows, then run it again"
            )
        self._removed.rows[entity] += deleted

    async def _delete_shared(self, name: str, keys: list[Any]) -> None:
        """Delete the shared rows that no chat refers to any more."""
        tree = self._tree
        self.at = tree.table(name)
        found = await self._fetch(
            tree.of_shared("lock_shared" if self._counts else "delete_unused", name), keys
        )
        unused = [row["key"] for row in found]
        deleted = len(unused)
        if self._counts and unused:
            deleted = await self._execute(tree.of_shared("delete_shared", name), unused)
        self._count(name, len(unused), deleted)
        for reference in self._tree.unguarded:
            if reference.parent == name:
                self._deleted_keys[reference] = unused

    async def _check_triggers(self) -> None:
        """Raise ChangedError if a trigger or a rule was added since the tables were read; the next try counts its rows.

        None can be added after this: the locks on the tables prevent it until the commit.
        """
        tree = self._tree
        if not self._counts:
            if await deletes_run_code(self._connection, tree.catalogue.relations):
                tree.counts_deletions = True
            if tree.counts_deletions:
                raise ChangedError(
                    "a trigger or a rule was added to a table of the layout; run the purge again"
                )

    async def _check_new_rows(self) -> None:
        """Raise ChangedError if rows without a foreign key refer to deleted rows.

        With a foreign key, writers wait for this transaction. Without one, a row is invisible until its writer commits:
        so wait for all writers, keep others from the table for this one check, and commit after it.
        """
        for reference in self._tree.unguarded:
            keys = self._deleted_keys.get(reference)
            if not keys:
                continue
            # All others wait behind this lock.
            await self._connection.execute("SET LOCAL lock_timeout = '2s'")
            await self._execute(self._tree.of_reference("lock_table", reference), [])
            if await self._fetchval(self._tree.of_reference("left", reference), keys):
                raise ChangedError(f"{reference.child} has a new row of a chat that is being deleted")

    async def _fetch(self, statement: str, keys: list[Any]) -> list[Any]:
        return await statements.fetch(self._connection, statement, {**self._values, "keys": keys})

    async def _fetchval(self, statement: str, keys: list[Any]) -> Any:
        return await statements.fetchval(self._connection, statement, {**self._values, "keys": keys})

    async def _execute(self, statement: str, keys: list[Any]) -> int:
        return await statements.execute(self._connection, statement, {**self._values, "keys": keys})
