"""One deletion in the search: round after round, until a count of nothing that every shard has answered.

A round that a dead node or a lost shard ended is followed by another one once all shards answer again. Indices that come
in, or change their state, on the way are looked at before they are purged.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING, Final

from retentiond.engine.target import StoppedError
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.search.client import NotSentError, ServerError
from retentiond.targets.chat_database.search.follow import PurgeError, is_of_state
from retentiond.targets.chat_database.search.indices import Inventory
from retentiond.targets.chat_database.search.obstacles import BLOCKED
from retentiond.targets.chat_database.search.portions import portions_of
from retentiond.targets.chat_database.search.query import both, within
from retentiond.targets.chat_database.store import Gone, StayingRows

if TYPE_CHECKING:
    from retentiond.targets.chat_database.search.follow import Ending, Follower
    from retentiond.targets.chat_database.search.index import Index
    from retentiond.targets.chat_database.search.obstacles import Obstacles
    from retentiond.targets.chat_database.search.query import Query
    from retentiond.targets.chat_database.search.shards import ShardWatch
    from retentiond.targets.chat_database.store import StorePurge

_ROUNDS: Final = 5
"""How often it is deleted and counted anew: documents that were written meanwhile conflict, and are left."""
_LOST_ROUNDS: Final = 5
"""How many rounds in a row may be lost with a node or a shard, and delete nothing."""
_LOOKS: Final = 5
"""How often the indices are looked at anew, because others have come in or have changed their state."""
_GOES_ON: Final = "run it again, and it goes on"
_SERVERS_FAULT: Final = 500
_STOPPED: Final = f"asked to stop; {_GOES_ON}"


class Deletion:
    """Deletes what is meant, a portion after the other, at most `rate` documents a second."""

    def __init__(
        self,
        index: Index,
        obstacles: Obstacles,
        follower: Follower,
        purge: StorePurge,
        shards: ShardWatch,
        rate: int,
    ) -> None:
        self._index = index
        self._obstacles = obstacles
        self._follower = follower
        self._purge = purge
        self._shards = shards
        self._rate = rate
        self._inventory = Inventory()
        self._query: Query = {}
        # How many there were at the last count.
        self._there = 0
        self._gone = Gone()
        self._under_way = False
        self._left = 0
        self._lost_rounds = 0
        self._kept_back: Counter[str] = Counter()
        self._remarks: list[str] = []
        self._staying = StayingRows("documents")

    async def work(self, inventory: Inventory) -> StoreReport:
        """Finish what an earlier one began, then delete until nothing is left; say how it ended."""
        report = StoreReport("finished")
        self._inventory = inventory
        try:
            if not await self._delete():
                report = StoreReport("interrupted", error=_STOPPED)
        except StoppedError:
            report = StoreReport("interrupted", error=_STOPPED)
        except PurgeError as failure:
            text = f"the deletion failed on the server: {failure}"
            report = StoreReport("finished_with_failures", error=text)
        except RefusedError as late:
            report = StoreReport("refused", refused=late.refusal)
        except ServerError as no:
            report = StoreReport("finished_with_failures", error=f"the search refused: {no}")
        except UnreachableError as lost:
            report = StoreReport("interrupted", error=str(lost))
        await self._look_back(report)
        return report

    async def _delete(self) -> bool:
        """Delete; return False where a stop was requested first."""
        if not await self._finish_earlier():
            return False
        for _ in range(_LOOKS):
            try:
                error = None
                if not await self._delete_from_all():
                    return False
            except (PurgeError, ServerError) as failure:
                if isinstance(failure, PurgeError) and failure.alive:
                    raise
                # An index that was closed, or made read-only, is left out, and reported.
                error = failure
            try:
                found = await self._index.again(lambda: self._obstacles.look(self._purge.account))
            except RefusedError as refused:
                blocked = refused.refusal.limit == BLOCKED
                raise (error if error and not blocked else refused) from refused
            if found == self._inventory:
                if error is None or not is_of_state(str(error)):
                    break
                # A policy made an index read-only for a moment, and it is as it was.
                await self._follower.pause()
            self._inventory = found
        else:
            error = error or PurgeError("the indices behind the name change again and again")
        if error is not None:
            raise error
        return True

    async def _delete_from_all(self) -> bool:
        """Delete what is meant in the indices that are known; return False where a stop was requested first."""
        portions = portions_of(self._index, self._inventory, self._purge)
        self._left, self._kept_back, self._staying = 0, Counter(), portions.staying
        if not self._inventory.searched:
            return True
        await self._index.refresh()
        async for portion in portions.each():
            if self._stopping() or not await self._delete_portion(portion):
                return False
        self._remarks = await portions.remarks()
        return True

    async def _delete_portion(self, portion: Query) -> bool:
        if self._inventory.readable:
            self._kept_back += await self._index.by_index(both(portion, within([*self._inventory.readable])))
            portion = both(portion, within(self._inventory.writable))
        await self._begin(portion)
        rounds = 0
        while self._there and rounds < _ROUNDS:
            if self._stopping():
                return False
            before = self._there
            ended = await self._run()
            if ended == "left":
                return False
            await self._count()
            if self._follower.conflicts > self._there:
                # A shard that lost its node on the way is told to delete again what it has deleted: a conflict, too.
                self._gone.at_least = True
                await self._note()
            if ended == "over":
                rounds += 1
            else:
                self._note_lost(progress=self._there < before)
                await self._follower.pause()
        self._left += self._there
        return True

    def _note_lost(self, *, progress: bool) -> None:
        """Count a round that was lost; raise PurgeError, or UnreachableError, after too many without a document."""
        self._lost_rounds = 0 if progress else self._lost_rounds + 1
        if self._lost_rounds < _LOST_ROUNDS:
            return
        if self._follower.reason:
            raise PurgeError(self._follower.reason)
        raise UnreachableError(
            f"{_LOST_ROUNDS} rounds were lost one after the other; look at the cluster's health, then run it again"
        )

    def _stopping(self) -> bool:
        return self._purge.stop.asked

    async def _begin(self, query: Query) -> None:
        self._query = query
        self._there = await self._index.count(query)

    async def _count(self) -> None:
        """Count what is left of the portion. What went is no difference of counts: a document may have become newer."""
        await self._index.refresh()
        self._there = await self._index.count(self._query)

    async def _run(self) -> Ending:
        mark = f"retentiond:{secrets.token_hex(12)}"
        # Written down before it is sent: whoever comes next looks for it, and does not send it beside itself.
        await self._purge.begin_step(self._gone.as_notes(mark=mark))
        self._under_way = True
        try:
            task = await self._follower.start(self._query, mark, self._rate)
        except NotSentError:
            await self._note()
            return "lost"
        except UnreachableError:
            # It may have begun: then it is found, or it died with its node.
            found = await self._follower.find(mark)
            if found is None:
                self._gone.at_least = True
                await self._note()
                return "lost"
            task = found
        except ServerError as no:
            if no.status < _SERVERS_FAULT:
                # It was refused, and not begun.
                await self._note()
            else:
                self._gone.at_least = True
            raise
        await self._purge.notes.write(self._gone.as_notes(mark=mark, task=task))
        return await self._see_through(task, mark)

    async def _finish_earlier(self) -> bool:
        """Follow what an earlier purge left running to its end, and count what it took; what it left is deleted anew."""
        notes = await self._purge.notes.read()
        self._gone = Gone.noted(notes)
        mark = str(notes.get("mark", ""))
        if not mark:
            return True
        self._under_way = True
        running = await self._follower.find(mark)
        task = running or notes.get("task")
        if task is None:
            # It is over, and nobody knows its number any more; or it was never begun.
            self._gone.at_least = True
            await self._note()
            return True
        try:
            return await self._see_through(str(task), mark, told=int(notes.get("told", 0))) != "left"
        except PurgeError:
            # Why one ended that nobody waited for does not matter any more.
            if running is not None:
                raise
            return True

    async def _see_through(self, task: str, mark: str, told: int = 0) -> Ending:
        """Follow it to its end, and count what it took, but for what was told of it before."""
        try:
            ended = await self._follower.to_the_end(task, mark, self._report_shards)
        except PurgeError as failure:
            await self._account(task, mark, told, over=not failure.alive)
            raise
        except (ServerError, UnreachableError, StoppedError):
            await self._account(task, mark, told, over=False)
            raise
        await self._account(task, mark, told, over=ended != "left")
        return ended

    async def _report_shards(self) -> None:
        """Publish how far the round is in each shard."""
        await self._shards.report(self._inventory, self._query)

    async def _account(self, task: str, mark: str, told: int, *, over: bool) -> None:
        """Add what it took to what is gone, and write that down."""
        deleted = max(self._follower.deleted, told)
        self._gone.rows += deleted - told
        if over:
            self._gone.at_least |= not self._follower.exact
            await self._note()
        else:
            await self._purge.notes.write(self._gone.as_notes(mark=mark, task=task, told=deleted))

    async def _note(self) -> None:
        """Write down what is gone, and that nothing is under way."""
        await self._purge.notes.write(self._gone.as_notes())
        self._under_way = False

    async def _look_back(self, report: StoreReport) -> None:
        """Say what is gone, and what waits."""
        report.rows = self._gone.rows
        report.at_least = self._gone.at_least or self._under_way
        report.kept = self._staying.kept()
        try:
            report.waiting = (*await self._index.waiting(), *self._remarks)
        except (ServerError, UnreachableError, StoppedError) as lost:
            report.state = "interrupted" if report.state == "finished" else report.state
            report.error = report.error or f"{lost}; {_GOES_ON}"
        report.shards = await self._shards.at_the_end(
            self._inventory,
            None if report.state == "finished" and not self._left else self._query,
            self._kept_back,
        )
        if report.at_least and report.error is not None:
            told = report.error.removesuffix(f"; {_GOES_ON}")
            report.error = f"{told}; more documents may be gone than were counted: {_GOES_ON}"
        if self._left and report.state == "finished":
            report.state = "finished_with_failures"
            report.error = f"{self._left} documents are left, or came in meanwhile; run it again"
        refusal = self._inventory.refusal(self._kept_back)
        if refusal is not None and report.refused is None:
            report.refused = refusal
            report.state = "refused" if report.state == "finished" else report.state
