"""A purge of an index: one task in the background for each round, until a count of zero that every shard answered.

If a dead node or a lost shard ends a round, another one follows once all shards answer again. Indices that are added or
change their state meanwhile are checked before they are purged.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final

from retentiond.engine.target import StoppedError
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.targets.chat_database.search.client import Heeding, NotSentError, ServerError
from retentiond.targets.chat_database.search.follow import Follower, failed, is_of_state
from retentiond.targets.chat_database.search.index import Index
from retentiond.targets.chat_database.search.indices import Inventory
from retentiond.targets.chat_database.search.obstacles import BLOCKED, Obstacles
from retentiond.targets.chat_database.search.portions import IndexPortions, Query, both, within
from retentiond.targets.chat_database.search.shards import ShardWatch
from retentiond.targets.chat_database.store_access import DeletionError, StoreError
from retentiond.targets.chat_database.store_purge import Engine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.engine.target import Progress
    from retentiond.model.errors import Refusal
    from retentiond.model.purge import ShardReport
    from retentiond.targets.chat_database.search.client import Search
    from retentiond.targets.chat_database.store import StoreName, StorePurge
    from retentiond.targets.chat_database.store_access import PollPolicy
    from retentiond.targets.chat_database.store_portions import Portions
    from retentiond.targets.chat_database.store_purge import Tally

_LOST_ROUNDS: Final = 5
"""The most rounds in a row that may be lost with a node or a shard without a deletion."""
_SERVER_ERROR: Final = 500


class IndexPurge(Engine[Query]):
    """One purge of an index, at most `rate` documents a second."""

    name: ClassVar[StoreName] = "elasticsearch"
    noun = "documents"
    rounds = 5
    reports_deleted = True

    def __init__(
        self,
        search: Search,
        config: ElasticsearchStore,
        purge: StorePurge,
        patience: PollPolicy,
        progress: Progress,
        rate: int,
    ) -> None:
        self.purge = purge
        self._rate = rate
        heeding = Heeding(search, purge.stop)
        at_once = Index(heeding, config)
        # The purge does not wait for a cluster that is unusable at the start.
        self._obstacles = Obstacles(at_once)
        self._shards = ShardWatch(at_once, purge, patience)
        self._index = at_once if purge.dry_run else Index(heeding, config, (patience, purge.stop))
        self._follower = Follower(self._index, purge.stop, patience, progress)
        self._inventory = Inventory()
        self._query: Query = {}
        self._kept_back: Counter[str] = Counter()
        self._lost_with: int | None = None
        """The number of documents before the last round, if it was lost."""
        self._lost_rounds = 0
        self._complete = purge.dry_run
        """Whether a pass reached its end in all indices, so that kept documents can be counted."""

    async def look(self) -> None:
        """Check the index, or all indices behind its name."""
        self._inventory = await self._obstacles.look(self.purge.account)

    def portions(self) -> IndexPortions:
        """Return the portions in the readable indices."""
        return IndexPortions(self._index, self._inventory, self.purge)

    async def begin_pass(self) -> None:
        """Make all written documents visible."""
        self._kept_back = Counter()
        if self._inventory.searched:
            await self._index.refresh()

    async def open(self, portion: Query) -> Query:
        """Return the documents in writable indices; count those in other indices."""
        if self._inventory.readable:
            self._kept_back += await self._index.by_index(both(portion, within([*self._inventory.readable])))
            portion = both(portion, within(self._inventory.writable))
        if self._lost_with is not None:
            # The last round of the previous portion was lost, and nothing was left.
            self._lost_rounds, self._lost_with = 0, None
        self._query = portion
        return portion

    async def count(self, portion: Query) -> int:
        """Count documents."""
        return await self._index.count(portion)

    async def recount(self, portion: Query, tally: Tally) -> None:
        """Count the remaining documents. Deleted ones are not the difference: a document may have become newer."""
        await self._index.refresh()
        tally.left = await self._index.count(portion)
        if self._follower.conflicts > tally.left:
            # A shard that lost its node gets the same deletions again, which are conflicts, too.
            tally.at_least = True
            await tally.note()

    async def delete(self, portion: Query, tally: Tally) -> bool:
        """Run one task; after a lost round wait for a moment."""
        if self._lost_with is not None:
            self._note_lost(progress=tally.left < self._lost_with)
            await self._follower.pause()
            if self.purge.stop.asked:
                raise StoppedError
        there = tally.left
        over = await self._run(portion, tally)
        self._lost_with = None if over else there
        return over

    def _note_lost(self, *, progress: bool) -> None:
        """Count a lost round; raise after too many without a deletion."""
        self._lost_rounds = 0 if progress else self._lost_rounds + 1
        if self._lost_rounds < _LOST_ROUNDS:
            return
        if self._follower.reason:
            raise failed(self._follower.reason)
        raise UnreachableError(
            f"{_LOST_ROUNDS} rounds were lost one after the other; look at the cluster's health, then run it again"
        )

    async def _run(self, query: Query, tally: Tally) -> bool:
        mark = f"retentiond:{secrets.token_hex(12)}"
        await tally.begin(mark=mark)
        try:
            task = await self._follower.start(query, mark, self._rate)
        except NotSentError:
            await tally.note()
            return False
        except UnreachableError:
            # It may have begun: then it is running, or it died with its node.
            found = await self._follower.find(mark)
            if found is None:
                tally.at_least = True
                await tally.note()
                return False
            task = found
        except ServerError as error:
            if error.status < _SERVER_ERROR:
                # It was refused before it began.
                await tally.note()
            else:
                tally.at_least = True
            raise
        await tally.note(mark=mark, task=task)
        return await self._follow(task, mark, tally)

    async def resume(self, notes: Mapping[str, Any], tally: Tally) -> None:
        """Follow the task of these notes to its end, and count its deleted documents."""
        mark = str(notes["mark"])
        running = await self._follower.find(mark)
        task = running or notes.get("task")
        if task is None:
            # It is over and its number is lost, or it never began.
            tally.at_least = True
            await tally.note()
            return
        try:
            await self._follow(str(task), mark, tally, counted=int(notes.get("told", 0)))
        except DeletionError:
            # A task that had ended before this purge may have failed.
            if running is not None:
                raise

    async def _follow(self, task: str, mark: str, tally: Tally, counted: int = 0) -> bool:
        """Follow the task to its end, and count its deleted documents, less those counted before."""
        try:
            over = await self._follower.to_the_end(task, mark, self._publish_progress)
        except DeletionError as failure:
            await self._add_deleted(task, mark, tally, counted, ended=not failure.alive)
            raise
        except (ServerError, UnreachableError, StoppedError):
            await self._add_deleted(task, mark, tally, counted, ended=False)
            raise
        await self._add_deleted(task, mark, tally, counted, ended=True)
        return over

    async def _publish_progress(self) -> None:
        """Publish the progress of the round by shard."""
        await self._shards.report(self._inventory, self._query)

    async def _add_deleted(self, task: str, mark: str, tally: Tally, counted: int, *, ended: bool) -> None:
        """Add the deleted documents of the task, and record the sum."""
        deleted = max(self._follower.deleted, counted)
        tally.deleted += deleted - counted
        if ended:
            tally.at_least |= not self._follower.exact
            await tally.note()
        else:
            await tally.note(mark=mark, task=task, told=deleted)

    async def again(self, error: DeletionError | StoreError | None) -> bool:
        """Return whether the indices have changed meanwhile; closed and read-only ones are left out."""
        try:
            found = await self._index.again(lambda: self._obstacles.look(self.purge.account))
        except RefusedError as refused:
            blocked = refused.refusal.limit == BLOCKED
            raise (error if error and not blocked else refused) from refused
        if found == self._inventory:
            if error is None:
                self._complete = True
                return False
            if not is_of_state(str(error)):
                raise error
            # A policy made an index read-only for a moment, and it is unchanged again.
            await self._follower.pause()
        self._inventory = found
        return True

    async def remarks(self, portions: Portions[Query], *, planned: bool) -> list[str]:
        """Describe deleted documents that are still on the disk, and kept documents."""
        waiting = [] if planned else await self._index.waiting()
        if not self._inventory.searched or not self._complete:
            return waiting
        return [*waiting, *await portions.leftovers(self._index.count), *portions.remarks()]

    def refusal(self) -> Refusal | None:
        """Return the refusal that names the indices with kept documents."""
        return self._inventory.refusal(self._kept_back)

    async def shards(self, *, done: bool) -> tuple[ShardReport, ...]:
        """Return the last state by shard."""
        if not self._inventory.searched:
            return ()
        return await self._shards.at_the_end(self._inventory, None if done else self._query, self._kept_back)
