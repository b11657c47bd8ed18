"""One deletion, from the first mutation to the last count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.errors import RefusedError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.clickhouse.follow import MutationError
from retentiond.targets.chat_database.clickhouse.leftovers import leftovers
from retentiond.targets.chat_database.clickhouse.mutation import mark_of

if TYPE_CHECKING:
    from retentiond.engine.target import Progress
    from retentiond.model.errors import Refusal
    from retentiond.targets.chat_database.clickhouse.condition import Condition
    from retentiond.targets.chat_database.clickhouse.follow import Follower
    from retentiond.targets.chat_database.clickhouse.rows import MeantRows
    from retentiond.targets.chat_database.store import StorePurge

_ROUNDS: Final = 3
"""How often it is deleted and counted anew: rows may come in while a mutation runs, and it leaves those."""


class Deletion:
    """What a purge does to the rows that it means."""

    def __init__(
        self,
        rows: MeantRows,
        follower: Follower,
        purge: StorePurge,
        meant: Condition,
        before: int,
        progress: Progress,
    ) -> None:
        self._rows = rows
        self._follower = follower
        self._purge = purge
        self._meant = meant
        self._before = before
        self._progress = progress
        self._advanced = 0

    async def work(self) -> StoreReport:
        """Finish what an earlier one began, then delete until nothing is left; say how it ended."""
        error: str | None = None
        refused: Refusal | None = None
        ended = True
        try:
            ended = await self._finish_earlier()
            for number in range(_ROUNDS):
                if not ended or not await self._rows.count(self._meant):
                    break
                ended = not self._purge.stop.asked and await self._delete_all(number)
        except MutationError as failure:
            error = str(failure)
        except RefusedError as late:
            refused = late.refusal
        after = await self._rows.count(self._meant)
        gone = max(self._before - after, 0)
        waiting = await leftovers(self._rows.server, self._rows.relations, self._meant)
        if refused is not None:
            return StoreReport("refused", gone, waiting, refused=refused)
        if not ended:
            text = "asked to stop; run it again, and it goes on"
            return StoreReport("interrupted", gone, waiting, error=text)
        if error is not None or after:
            text = error or f"{after} rows are left, or came in meanwhile; run it again"
            return StoreReport("finished_with_failures", gone, waiting, error=text)
        return StoreReport("finished", gone, waiting)

    async def _finish_earlier(self) -> bool:
        """Follow what an earlier purge left running to its end: the server went on with it, whoever died."""
        mark = (await self._purge.notes.read()).get("mark")
        return await self._see_through(str(mark)) if mark else True

    async def _see_through(self, mark: str) -> bool:
        ended = False
        try:
            ended = await self._follower.to_the_end(mark)
        except MutationError:
            ended = True
            raise
        finally:
            if ended:
                await self._purge.notes.write({})
        return ended

    async def _delete_all(self, number: int) -> bool:
        """Do one round: whole parts at once, then a partition after the other; False where somebody asked to stop."""
        await self._rows.drop_whole_parts(self._meant, self._purge.begin_step)
        for partition in await self._rows.partitions(self._meant):
            if self._purge.stop.asked:
                return False
            step = f"{self._purge.purge_id}:{number}:{partition}"
            mark = mark_of(self._purge.account, self._purge.cutoff, step)
            # Written down before it is sent: whoever comes next looks for it, and does not send it twice.
            await self._purge.begin_step({"mark": mark})
            await self._rows.delete(self._meant, partition, mark)
            if not await self._see_through(mark):
                return False
            left = await self._rows.count(self._meant)
            self._progress.advance(max(self._before - left - self._advanced, 0))
            self._advanced = max(self._before - left, self._advanced)
        return True
