"""One deletion in the search: round after round, until a count of nothing that every shard has answered."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from retentiond.engine.target import StoppedError
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.model.purge import StoreReport
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
        # How many there were at the last count, and how many were known to be gone by tasks then.
        self._there = 0
        self._gone_by_tasks = 0
        self._gone = 0
        self._left = 0

    async def work(self) -> StoreReport:
        """Finish what an earlier one began, then delete until nothing is left; say how it ended."""
        report, ended = StoreReport("finished"), False
        try:
            ended = await self._delete()
            if not ended:
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
        await self._look_back(report, ended=ended)
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
        self._gone_by_tasks = self._follower.gone

    async def _count(self) -> None:
        """Count what is left of the portion, and add what is gone since the last count."""
        await self._index.refresh()
        left = await self._index.count(self._query)
        # What came in meanwhile and went hides in the difference, and what went by a task that died in the task's count.
        self._gone += max(self._there - left, self._follower.gone - self._gone_by_tasks)
        self._there, self._gone_by_tasks = left, self._follower.gone

    async def _run(self) -> bool:
        mark = f"retentiond:{secrets.token_hex(12)}"
        # Written down before it is sent: whoever comes next looks for it, and does not send it beside itself.
        await self._purge.begin_step({"mark": mark})
        task = await self._follower.start(self._query, mark, self._rate)
        await self._purge.notes.write({"mark": mark, "task": task})
        return await self._see_through(task, mark)

    async def _finish_earlier(self) -> bool:
        """Follow what an earlier purge left running to its end."""
        notes = await self._purge.notes.read()
        mark, task = str(notes.get("mark", "")), notes.get("task")
        if not mark:
            return True
        await self._begin(self._query)
        running = await self._follower.find(mark)
        if running is not None:
            ended = await self._see_through(running, mark, earlier=True)
            await self._count()
            return ended
        if task is not None:
            # What it left, and why, does not matter any more: that is counted and deleted anew.
            await self._follower.forget(str(task), mark)
        return True

    async def _see_through(self, task: str, mark: str, *, earlier: bool = False) -> bool:
        try:
            ended = await self._follower.to_the_end(task, mark, earlier=earlier)
        except PurgeError:
            await self._purge.notes.write({})
            raise
        if ended:
            await self._purge.notes.write({})
        return ended

    async def _look_back(self, report: StoreReport, *, ended: bool) -> None:
        """Write down what is gone and what waits; or else what is known."""
        try:
            if not ended:
                await self._count()
            report.waiting = (*await self._index.waiting(), *await self._portions.remarks())
        except (ServerError, UnreachableError, StoppedError) as lost:
            report.state = "interrupted" if report.state == "finished" else report.state
            report.rows = self._gone + self._follower.gone - self._gone_by_tasks
            report.at_least = True
            told = (report.error or str(lost)).removesuffix(f"; {_GOES_ON}")
            report.error = f"{told}; more documents may be gone than were counted: {_GOES_ON}"
            return
        report.rows = self._gone
        if self._left and report.state == "finished":
            report.state = "finished_with_failures"
            report.error = f"{self._left} documents are left, or came in meanwhile; run it again"
