"""One deletion, from the first mutation to the last count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.engine.target import StoppedError
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.clickhouse.connection import ServerError
from retentiond.targets.chat_database.clickhouse.follow import MutationError
from retentiond.targets.chat_database.clickhouse.leftovers import frozen_parts, leftovers
from retentiond.targets.chat_database.clickhouse.mutation import mark_of
from retentiond.targets.chat_database.clickhouse.statements import as_json, from_json
from retentiond.targets.chat_database.clickhouse.tally import Tally
from retentiond.targets.chat_database.store import Gone

if TYPE_CHECKING:
    from retentiond.engine.target import Progress
    from retentiond.model.errors import PassState, Refusal
    from retentiond.targets.chat_database.clickhouse.cluster import MeantRows
    from retentiond.targets.chat_database.clickhouse.follow import Follower
    from retentiond.targets.chat_database.clickhouse.portions import Portions
    from retentiond.targets.chat_database.clickhouse.statements import Condition
    from retentiond.targets.chat_database.store import StorePurge

_ROUNDS: Final = 3
"""How often it is deleted and counted anew: rows may come in while a mutation runs, and it leaves those."""


class Deletion:
    """What a purge does to the rows that it means, a portion after the other."""

    def __init__(
        self, rows: MeantRows, follower: Follower, purge: StorePurge, portions: Portions, progress: Progress
    ) -> None:
        self._rows = rows
        self._follower = follower
        self._purge = purge
        self._portions = portions
        self._meant = portions.all
        self._tally = Tally(progress)
        self._left = 0
        self._number = 0
        self._under_way = False
        self._error: str | None = None
        self._refused: Refusal | None = None

    async def work(self) -> StoreReport:
        """Finish what an earlier one began, then delete until nothing is left; say how it ended."""
        server, relations = self._rows.server, self._rows.relations
        waiting: tuple[str, ...] = ()
        away: str | None = None
        try:
            # What a long purge replaces first may be out of sight at its end, and is in a backup all the same.
            frozen = await frozen_parts(server, relations)
            await self._delete()
            waiting = await leftovers(server, relations, self._portions, frozen)
            away = await self._away()
        except StoppedError:
            return self._broken_off("asked to stop")
        except UnreachableError as lost:
            return self._broken_off(str(lost))
        except ServerError as no:
            self._fail(no.told)
        if self._error is None and self._left and self._refused is None:
            self._fail(f"{self._left} rows are left, or came in meanwhile; run it again")
        if away is not None and self._refused is None:
            self._fail(away)
            return self._report("interrupted", waiting)
        return self._report("finished" if self._error is None else "finished_with_failures", waiting)

    async def _away(self) -> str | None:
        """Say which servers of a cluster could not be purged; None where there is none, or no cluster."""
        cluster = self._rows.cluster
        if cluster is None:
            return None
        away = cluster.error()
        if away is None and self._error is None and self._refused is None and not self._left:
            cluster.tally.finish()
        await self._publish()
        return away

    def _report(
        self, state: PassState, waiting: tuple[str, ...] = (), *, at_least: bool = False
    ) -> StoreReport:
        gone = self._tally.gone
        state = "refused" if self._refused is not None and state != "interrupted" else state
        return StoreReport(
            state,
            gone.rows,
            waiting,
            kept=self._portions.staying.kept(),
            refused=self._refused,
            error=self._error,
            # Of what is under way nobody knows how much it has done.
            at_least=gone.at_least or self._under_way or at_least,
            shards=() if self._rows.cluster is None else self._rows.cluster.tally.reports(),
        )

    def _fail(self, reason: str) -> None:
        self._error = reason if self._error is None else f"{self._error}; {reason}"

    def _broken_off(self, reason: str) -> StoreReport:
        """Report what is known where the end is not: a number that is told as if it were the last would be wrong."""
        self._fail(f"{reason}; more rows may be gone than were counted: run it again, and it goes on")
        return self._report("interrupted", at_least=True)

    async def _delete(self) -> None:
        try:
            await self._finish_earlier()
            await self._delete_all_portions()
        except MutationError as failure:
            self._fail(str(failure))
            # One that could not be killed goes on, and is counted by whoever sees it through.
            if not failure.alive:
                await self._settle()
        except RefusedError as late:
            # What was under way when a hold came was killed.
            self._refused = late.refusal
            await self._settle()
        except ServerError as no:
            self._fail(no.told)

    async def _delete_all_portions(self) -> None:
        """Delete a portion after the other; where a server went away meanwhile and is back, do it once more."""
        cluster = self._rows.cluster
        if cluster is None:
            return await self._delete_each_portion()
        present = cluster.tally.present
        cluster.tally.begin()
        await self._delete_each_portion()
        await cluster.look_around()
        if present & cluster.tally.missed.keys() and await self._follower.until_back(cluster, present):
            cluster.tally.begin()
            self._left = 0
            await self._delete_each_portion()
            await cluster.look_around()
        return None

    async def _delete_each_portion(self) -> None:
        async for portion in self._portions.each():
            await self._delete_portion(portion)

    async def _delete_portion(self, portion: Condition) -> None:
        self._heed()
        self._meant = portion
        if self._rows.cluster is not None:
            self._rows.cluster.tally.expect()
        self._tally.expect(await self._rows.count(portion, tallied=True))
        await self._publish()
        for _ in range(_ROUNDS):
            if not self._tally.left:
                return
            await self._delete_all()
            await self._count()
            await self._note()
        self._left += self._tally.left

    async def _settle(self) -> None:
        """Wait for the parts that are still at work after a mutation was killed, and count what is left."""
        if not await self._follower.settle():
            self._fail("parts are still being rewritten, and more rows may be deleted with them")
            self._tally.gone.at_least = True
        await self._count()
        await self._note()

    async def _count(self) -> None:
        self._tally.counted(await self._rows.count(self._meant, tallied=True))
        await self._publish()

    async def _publish(self) -> None:
        """Report the state by shard and replica, of a cluster."""
        if self._rows.cluster is not None:
            await self._purge.report_shards(self._rows.cluster.tally.reports())

    async def _note(self) -> None:
        """Write down what is gone, and that nothing is under way."""
        await self._purge.notes.write(self._tally.gone.as_notes())
        self._under_way = False

    async def _begin(self, **step: Any) -> None:
        """Write down a step before it is sent: whoever comes next looks for it, does not send it twice, and counts it."""
        meant = as_json(self._meant)
        await self._purge.begin_step(self._tally.gone.as_notes(**step, left=self._tally.left, meant=meant))
        self._under_way = True

    async def _finish_earlier(self) -> None:
        """Follow what an earlier purge left running to its end, and count what it took: the server went on with it."""
        notes = await self._purge.notes.read()
        self._tally.gone = Gone.noted(notes)
        mark, part = notes.get("mark"), notes.get("part")
        if not mark and not part:
            return
        self._under_way = True
        self._meant = from_json(notes["meant"])
        self._tally.expect(int(notes["left"]))
        rows = int(notes["rows"])
        if part and await self._rows.has_part(part):
            # It is dropped as a whole or not at all.
            pass
        elif mark and await self._follower.to_the_end(str(mark)) and self._rows.one_server:
            self._tally.went(rows)
        else:
            await self._count_after_break(rows)
        await self._note()

    async def _count_after_break(self, most: int) -> None:
        try:
            self._tally.counted_after_break(await self._rows.count(self._meant, tallied=True), most)
        except ServerError:
            # The table has changed since, so that those rows cannot be named any more.
            self._tally.gone.at_least = True

    async def _delete_all(self) -> None:
        """Do one round: whole parts at once, then a partition after the other."""
        self._number += 1
        async for rows in self._rows.drop_whole_parts(self._meant, self._begin_drop):
            self._tally.went(rows)
            await self._note()
            self._heed()
        for partition, rows in (await self._rows.partitions(self._meant)).items():
            self._heed()
            step = f"{self._purge.purge_id}:{self._number}:{partition}"
            mark = mark_of(self._purge.account, self._purge.cutoff, step)
            await self._begin(mark=mark, rows=rows)
            await self._send(partition, mark)
            if await self._follower.to_the_end(mark) and self._rows.one_server:
                self._tally.went(rows)
            else:
                # No row is no answer: it was killed, or is done and forgotten. And of several servers one may not
                # have heard of it yet.
                await self._count()
            await self._note()

    async def _begin_drop(self, part: str, rows: int) -> None:
        await self._begin(part=part, rows=rows)

    async def _send(self, partition: str | None, mark: str) -> None:
        try:
            await self._rows.delete(self._meant, partition, mark)
        except ServerError:
            # It is refused at once, and nothing is written down.
            await self._note()
            raise
        except UnreachableError:
            # It may be written down all the same: the next server is asked, and only what is not there is sent again.
            if not self._rows.server.several:
                raise

    def _heed(self) -> None:
        if self._purge.stop.asked:
            raise StoppedError
