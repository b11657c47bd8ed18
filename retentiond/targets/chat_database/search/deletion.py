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
    from retentiond.targets.chat_database.search.query import Meant
    from retentiond.targets.chat_database.store import StorePurge

_ROUNDS: Final = 5
"""How often it is deleted and counted anew: documents that were written meanwhile conflict, and are left."""


_GOES_ON: Final = "run it again, and it goes on"
_STOPPED: Final = f"asked to stop; {_GOES_ON}"


class Deletion:
    """Deletes what is meant, at most `rate` documents a second; `before` it were so many."""

    def __init__(
        self,
        index: Index,
        follower: Follower,
        purge: StorePurge,
        means: Meant,
        before: int,
        rate: int,
    ) -> None:
        self._index = index
        self._follower = follower
        self._purge = purge
        self._means = means
        self._before = before
        self._rate = rate

    async def work(self) -> StoreReport:
        """Finish what an earlier one began, then delete until nothing is left; say how it ended."""
        report, left = StoreReport("finished"), None
        try:
            left = await self._rounds()
            if left is None:
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
        await self._look_back(report, left)
        return report

    async def _rounds(self) -> int | None:
        """Delete; return how many are left, None where somebody asked to stop first."""
        if not await self._finish_earlier():
            return None
        left = await self._count()
        for _ in range(_ROUNDS):
            if not left:
                break
            if self._purge.stop.asked or not await self._run():
                return None
            left = await self._count()
        return left

    async def _count(self) -> int:
        await self._index.refresh()
        return await self._index.count(self._means.query)

    async def _run(self) -> bool:
        mark = f"retentiond:{secrets.token_hex(12)}"
        # Written down before it is sent: whoever comes next looks for it, and does not send it beside itself.
        await self._purge.begin_step({"mark": mark})
        task = await self._follower.start(self._means.query, mark, self._rate)
        await self._purge.notes.write({"mark": mark, "task": task})
        return await self._see_through(task, mark)

    async def _finish_earlier(self) -> bool:
        """Follow what an earlier purge left running to its end."""
        notes = await self._purge.notes.read()
        mark, task = str(notes.get("mark", "")), notes.get("task")
        if not mark:
            return True
        running = await self._follower.find(mark)
        if running is not None:
            return await self._see_through(running, mark, earlier=True)
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

    async def _look_back(self, report: StoreReport, left: int | None) -> None:
        """Write down what is gone, what is `left` (None: not counted yet), and what waits; or else what is known."""
        try:
            after = await self._count() if left is None else left
            report.waiting = (*await self._index.waiting(), *await self._unknown())
        except (ServerError, UnreachableError, StoppedError) as lost:
            report.state = "interrupted" if report.state == "finished" else report.state
            report.rows, report.at_least = self._follower.gone, True
            told = (report.error or str(lost)).removesuffix(f"; {_GOES_ON}")
            report.error = f"{told}; more documents may be gone than were counted: {_GOES_ON}"
            return
        # What came in meanwhile and went hides in the difference, and what went by a task that died in the task's count.
        report.rows = max(self._before - after, self._follower.gone)
        if after and report.state == "finished":
            report.state = "finished_with_failures"
            report.error = f"{after} documents are left, or came in meanwhile; run it again"

    async def _unknown(self) -> list[str]:
        """Say how many documents stay because nobody knows their date or chat."""
        counted = {words: await self._index.count(query) for words, query in self._means.unknown.items()}
        return [f"{number} {words}" for words, number in counted.items() if number]
