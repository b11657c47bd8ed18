"""One deletion in the search: round after round, until a count of nothing that every shard has answered."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from retentiond.engine.target import StoppedError
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.gone import Gone
from retentiond.targets.chat_database.search.client import ServerError
from retentiond.targets.chat_database.search.follow import PurgeError

if TYPE_CHECKING:
    from retentiond.targets.chat_database.search.follow import Follower
    from retentiond.targets.chat_database.search.index import Index
    from retentiond.targets.chat_database.search.portions import Portions
    from retentiond.targets.chat_database.search.query import Query
    from retentiond.targets.chat_database.store import StorePurge

_ROUNDS: Final = 5
"""How often it is deleted and counted anew: documents that were written meanwhile conflict, and are left."""


_GOES_ON: Final = "run it again, and it goes on"
_SERVERS_FAULT: Final = 500
_STOPPED: Final = f"asked to stop; {_GOES_ON}"


class Deletion:
    """Deletes what is meant, a portion after the other, at most `rate` documents a second."""

    def __init__(
        self, index: Index, follower: Follower, purge: StorePurge, portions: Portions, rate: int
    ) -> None:
        self._index = index
        self._follower = follower
        self._purge = purge
        self._portions = portions
        self._rate = rate
        self._query = portions.meant.all
        # How many there were at the last count.
        self._there = 0
        self._gone = Gone()
        self._under_way = False
        self._left = 0

    async def work(self) -> StoreReport:
        """Finish what an earlier one began, then delete until nothing is left; say how it ended."""
        report = StoreReport("finished")
        try:
            if not await self._delete():
                report = StoreReport("interrupted", error=_STOPPED)
        except StoppedError:
            report = StoreReport("interrupted", error=_STOPPED)
        except PurgeError as failure:
            text = f"the server was told to delete, and it failed: {failure}"
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
        await self._index.refresh()
        async for portion in self._portions.each():
            if self._stopping():
                return False
            await self._begin(portion)
            for _ in range(_ROUNDS):
                if not self._there:
                    break
                if self._stopping() or not await self._run():
                    return False
                await self._count()
            self._left += self._there
        return True

    def _stopping(self) -> bool:
        return self._purge.stop.asked

    async def _begin(self, query: Query) -> None:
        self._query = query
        self._there = await self._index.count(query)

    async def _count(self) -> None:
        """Count what is left of the portion. What went is no difference of counts: a document may have become newer."""
        await self._index.refresh()
        self._there = await self._index.count(self._query)

    async def _run(self) -> bool:
        mark = f"retentiond:{secrets.token_hex(12)}"
        # Written down before it is sent: whoever comes next looks for it, and does not send it beside itself.
        await self._purge.begin_step(self._gone.as_notes(mark=mark))
        self._under_way = True
        try:
            task = await self._follower.start(self._query, mark, self._rate)
        except ServerError as no:
            if no.status < _SERVERS_FAULT:
                # It was refused, and not begun.
                await self._note()
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
            return await self._see_through(str(task), mark, told=int(notes.get("told", 0)))
        except PurgeError:
            # Why one ended that nobody waited for does not matter any more.
            if running is not None:
                raise
            return True

    async def _see_through(self, task: str, mark: str, told: int = 0) -> bool:
        """Follow it to its end, and count what it took, but for what was told of it before."""
        try:
            ended = await self._follower.to_the_end(task, mark)
        except PurgeError as failure:
            await self._account(task, mark, told, over=not failure.alive)
            raise
        except (ServerError, UnreachableError, StoppedError):
            await self._account(task, mark, told, over=False)
            raise
        await self._account(task, mark, told, over=ended)
        return ended

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
        report.kept = self._portions.staying.kept()
        try:
            report.waiting = (*await self._index.waiting(), *await self._portions.remarks())
        except (ServerError, UnreachableError, StoppedError) as lost:
            report.state = "interrupted" if report.state == "finished" else report.state
            report.error = report.error or f"{lost}; {_GOES_ON}"
        if report.at_least and report.error is not None:
            told = report.error.removesuffix(f"; {_GOES_ON}")
            report.error = f"{told}; more documents may be gone than were counted: {_GOES_ON}"
        if self._left and report.state == "finished":
            report.state = "finished_with_failures"
            report.error = f"{self._left} documents are left, or came in meanwhile; run it again"
