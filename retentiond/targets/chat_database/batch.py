"""One batch of chats: locked, looked at again, and gone as wholes in one transaction, or not at all."""

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
        # Whatever the server thinks of the tables' sizes, no batch reads one from end to end.
        "enable_seqscan = off",
        "enable_hashjoin = off",
        "enable_mergejoin = off",
        # Foreign keys are checked by a statement a row, which must not be planned each time.
        "plan_cache_mode = auto",
    )
)
"""How a batch's statements are planned: by the keys of its chats, and through indexes alone."""


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
    """The work of one transaction, which the caller opens and commits.

    Of two batches at once the one that `await_turn` lets wait goes on after the commit of the other: else each would see
    the chats of the other, and leave what they share.
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
        # A batch beside this one may find out meanwhile; what this one has not counted stays uncounted.
        self._counts = tree.counts_deletions
        self._removed = Removed()
        self._gone: dict[Reference, list[Any]] = {}
        self.at: str | None = None
        """The table that rows are deleted from, or were last."""

    async def remove(self, page: Page) -> Removed:
        """Take what is still due of the page; raise ChangedError where it must be looked at anew."""
        await self._connection.execute(BY_KEY)
        due, stripped = await self._look_again(page)
        await self._take_rows(stripped, seen={}, keep_files=True)
        counted = self._tree.counted
        seen = {name: sum(told[context] for told in due.values()) for context, name in enumerate(counted)}
        await self._take_rows(due, seen=seen, keep_files=False)
        await self._await_turn()
        for context, name in enumerate(self._tree.shared, len(counted)):
            await self._take_shared(name, sorted({told[context] for told in due.values()} - {None}))
        await self._look_for_triggers()
        if due:
            await self._look_for_newcomers()
        self._removed.chats = len(due)
        self._removed.ids = [key if isinstance(key, int) else str(key) for key in due]
        return self._removed

    async def _look_again(self, page: Page) -> tuple[dict[Any, tuple[Any, ...]], list[Any]]:
        """Return the chats that go, each with what the look told of it, and those that keep their files."""
        tree = self._tree
        locked = [row["key"] for row in await self._fetch(tree.statement("lock"), [key for key, _ in page])]
        now = {row["key"]: row for row in await self._fetch(tree.statement("judge"), locked)}
        still = [(key, verdict) for key, verdict in page if key in now and now[key]["verdict"] == verdict]
        self._removed.changed = len(page) - len(still)
        return (
            {key: tuple(now[key])[2:] for key, verdict in still if verdict == "due"},
            [key for key, verdict in still if verdict != "due"],
        )

    async def _take_rows(self, chats: Collection[Any], *, seen: Mapping[str, int], keep_files: bool) -> None:
        """Delete the rows of chats, and compare with what was seen: a trigger that holds rows back is a fault.

        What was not counted by the look is counted now, where something may hold rows back. Where nothing can, the
        deletion alone counts.
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
            taken = 0 if count == 0 else await self._delete(entity, keys, keep_files=keep_files)
            self._count(entity, taken if count is None else count, taken)

    async def _delete(self, entity: str, keys: list[Any], *, keep_files: bool) -> int:
        tree = self._tree
        self.at = tree.table(entity)
        awaited = [one for one in tree.unguarded if one.parent == entity]
        if not awaited:
            return await self._execute(tree.of_entity("delete", entity, keep_files=keep_files), keys)
        rows = await self._fetch(tree.of_entity("delete_returning", entity, keep_files=keep_files), keys)
        for one in awaited:
            self._gone.setdefault(one, []).extend(row["key"] for row in rows)
        return len(rows)

    def _count(self, entity: str, seen: int, taken: int) -> None:
        if taken != seen:
            raise MiscountError(
                f"of {entity} {taken} rows went where {seen} were seen, and the batch was rolled back; look for a "
                "trigger or a rule on that table that holds rows back, then run it again"
            )
        self._removed.rows[entity] += taken

    async def _take_shared(self, name: str, keys: list[Any]) -> None:
        """Delete the rows that no chat names any more."""
        tree = self._tree
        self.at = tree.table(name)
        found = await self._fetch(
            tree.of_shared("lock_shared" if self._counts else "delete_lonely", name), keys
        )
        lonely = [row["key"] for row in found]
        taken = len(lonely)
        if self._counts and lonely:
            taken = await self._execute(tree.of_shared("delete_shared", name), lonely)
        self._count(name, len(lonely), taken)
        for reference in self._tree.unguarded:
            if reference.parent == name:
                self._gone[reference] = lonely

    async def _look_for_triggers(self) -> None:
        """See that no trigger and no rule has come since the tables were read; the next try counts what it deletes.

        None can come after this: our locks on the tables that we deleted from keep it off until the commit.
        """
        tree = self._tree
        if not self._counts:
            if await deletes_run_code(self._connection, tree.catalogue.relations):
                tree.counts_deletions = True
            if tree.counts_deletions:
                raise ChangedError(
                    "a trigger or a rule has come to a table of the layout; run the purge again"
                )

    async def _look_for_newcomers(self) -> None:
        """See that nothing refers to what is gone, where no foreign key sees to it.

        A foreign key lets a writer wait for us. Without one, a row may come in unseen until the writer commits: so we
        wait for all of them, hold off others for this one look, and only then commit.
        """
        for reference in self._tree.unguarded:
            keys = self._gone.get(reference)
            if not keys:
                continue
            # While we wait, all others wait behind us.
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
