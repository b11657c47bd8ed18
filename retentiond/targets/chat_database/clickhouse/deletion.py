"""A purge of one table in ClickHouse: whole parts at once, then a mutation for each partition, followed to its end.

`ALTER TABLE … DELETE` is only recorded by the server, has no ID, and is retried for ever. So each mutation has a mark
in its condition, and is searched for before it is sent again. The server does not report how many rows it deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from retentiond.engine.target import StoppedError
from retentiond.model.errors import Refusal, RefusedError, StoreLimit, UnreachableError
from retentiond.model.text import printable
from retentiond.targets.chat_database.clickhouse.connection import ServerError
from retentiond.targets.chat_database.clickhouse.follow import Follower
from retentiond.targets.chat_database.clickhouse.mutation import mark_of
from retentiond.targets.chat_database.clickhouse.portions import TablePortions
from retentiond.targets.chat_database.clickhouse.statements import (
    EARLIEST,
    LATEST,
    Condition,
    as_json,
    from_json,
)
from retentiond.targets.chat_database.store_purge import Engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from retentiond.model.purge import ShardReport
    from retentiond.targets.chat_database.clickhouse.cluster import MeantRows
    from retentiond.targets.chat_database.clickhouse.mutation import Mutation
    from retentiond.targets.chat_database.clickhouse.statements import Columns
    from retentiond.targets.chat_database.store import StoreName, StorePurge
    from retentiond.targets.chat_database.store_access import DeletionError, PollPolicy, StoreError
    from retentiond.targets.chat_database.store_portions import Portions
    from retentiond.targets.chat_database.store_purge import Tally

_READ: Final = ("mutations", "merges", "patched", "old_parts", "detached_parts", "readonly_replica")
"""The questions of a purge that are tried before anything is sent that could not be followed to its end."""
_OLD: Final = (
    "old parts still hold the deleted rows; the server removes them by itself (old_parts_lifetime, usually 8 minutes, "
    "and its next cleaning)"
)
_DETACHED: Final = (
    "detached parts were not reached; ATTACH would bring their rows back: drop them "
    "(ALTER TABLE … DROP DETACHED PARTITION)"
)
_FROZEN: Final = "parts are frozen in a backup on the server's disk, which was not reached: UNFREEZE it"
_POLICY: Final = (
    "lets this user see a part of the table: what it hides of the account is not counted, and may stay"
)
_FILTER_LIMIT: Final = 200
_VIEW: Final = "has rows of its own, which were made of these and stay"
_BUFFER: Final = "may hold rows that are not in the table yet: OPTIMIZE TABLE flushes it, then purge again"


class TablePurge(Engine[Condition]):
    """One purge of a table, on one server or on those of a cluster."""

    name: ClassVar[StoreName] = "clickhouse"
    noun = "rows"
    rounds = 3
    tells_deleted = False

    def __init__(
        self,
        rows: MeantRows,
        judge: Callable[[], Awaitable[Columns]],
        purge: StorePurge,
        patience: PollPolicy,
        *,
        by_date: bool,
    ) -> None:
        self.purge = purge
        self._rows = rows
        self._cluster = rows.cluster
        self._judge = judge
        self._by_date = by_date
        self._follower = Follower(rows.server, rows.relations, purge.stop, patience, self._note_mutations)
        self._number = 0
        self._frozen: int | None = None
        self._at_the_start: set[int] | None = None
        self._second_pass = False

    async def look(self) -> None:
        """Judge the table and its servers, and try the questions of a purge."""
        if not EARLIEST <= self.purge.cutoff <= LATEST:
            hint = "no column of ClickHouse holds such a date; name one from 1970 to 2105"
            value = self.purge.cutoff.isoformat()
            raise RefusedError(Refusal(StoreLimit("clickhouse_date"), value, None, hint))
        columns = await self._judge()
        self._portions = TablePortions(self._rows, columns, self.purge, by_date=self._by_date)
        self._meant = self._portions.all
        if not self.purge.dry_run:
            await try_reading(self._rows)

    def portions(self) -> TablePortions:
        """Return the portions of the table."""
        return self._portions

    async def resume(self, notes: Mapping[str, Any], tally: Tally) -> None:
        """Follow the step of these notes to its end: the server may have continued it."""
        await self._note_frozen()
        mark, part = notes.get("mark"), notes.get("part")
        self._meant = from_json(notes["meant"])
        tally.left = int(notes["left"])
        rows = int(notes["rows"])
        if part and await self._rows.has_part(part):
            # It is dropped as a whole or not at all.
            pass
        elif mark and await self._follower.to_the_end(str(mark)) and self._cluster is None:
            tally.add_deleted(rows)
        else:
            try:
                tally.counted_after_break(await self.count(self._meant), rows)
            except ServerError:
                # The table has changed since, so that those rows cannot be named any more.
                tally.at_least = True
        await tally.note()

    async def begin_pass(self) -> None:
        """Take note of the servers that are there, and of parts that are frozen."""
        await self._note_frozen()
        if self._cluster is not None:
            if self._at_the_start is None:
                self._at_the_start = self._cluster.tally.present
            self._cluster.tally.begin()

    async def _note_frozen(self) -> None:
        # Parts that a long purge replaces early may be invisible at its end, although a backup still has them.
        if self._frozen is None:
            self._frozen = await self._frozen_parts()

    async def open(self, portion: Condition) -> Condition:
        """Begin with other rows."""
        self._meant = portion
        if self._cluster is not None:
            self._cluster.tally.expect()
        return portion

    async def count(self, portion: Condition) -> int:
        """Count rows, and show how far each shard of a cluster is."""
        return await self._rows.count(portion, tallied=True)

    async def recount(self, portion: Condition, tally: Tally) -> None:
        """Count the rows that a round has left; those missing since the last count are deleted."""
        tally.counted(await self.count(portion))
        await self.publish()
        await tally.note()

    async def delete(self, portion: Condition, tally: Tally) -> bool:
        """Do one round: whole parts at once, then a partition after the other."""
        self._number += 1

        async def begin_drop(part: str, rows: int) -> None:
            await self._begin(tally, part=part, rows=rows)

        async for rows in self._rows.drop_whole_parts(portion, begin_drop):
            tally.add_deleted(rows)
            await tally.note()
            self._raise_if_stopped()
        for partition, rows in (await self._rows.partitions(portion)).items():
            self._raise_if_stopped()
            step = f"{self.purge.purge_id}:{self._number}:{partition}"
            mark = mark_of(self.purge.account, self.purge.cutoff, step)
            await self._begin(tally, mark=mark, rows=rows)
            await self._send(partition, mark, tally)
            if await self._follower.to_the_end(mark) and self._cluster is None:
                tally.add_deleted(rows)
                await tally.note()
            else:
                # A missing mutation was killed, or is done and forgotten; or a server of a cluster has not
                # received it yet.
                await self.recount(portion, tally)
        return True

    async def _begin(self, tally: Tally, **step: Any) -> None:
        await tally.begin(**step, left=tally.left, meant=as_json(self._meant))

    async def _send(self, partition: str | None, mark: str, tally: Tally) -> None:
        try:
            await self._rows.delete(self._meant, partition, mark)
        except ServerError:
            # It is refused at once, and nothing is written down.
            await tally.note()
            raise
        except UnreachableError:
            # It may be written down all the same: the next server is asked, and only what is not there is sent again.
            if not self._rows.server.several:
                raise

    def _raise_if_stopped(self) -> None:
        if self.purge.stop.asked:
            raise StoppedError

    async def settle(self, tally: Tally) -> str | None:
        """Wait for parts that are still rewritten after a mutation was killed, and count the remaining rows."""
        settled = await self._follower.settle()
        tally.at_least |= not settled
        await self.recount(self._meant, tally)
        return None if settled else "parts are still being rewritten, and more rows may be deleted with them"

    async def again(self, error: DeletionError | StoreError | None) -> bool:
        """Tell whether servers of a cluster went away meanwhile and are back: they are purged once more."""
        if error is not None:
            raise error
        if self._cluster is None:
            return False
        await self._cluster.look_around()
        present = self._at_the_start or set()
        if self._second_pass or not present & self._cluster.tally.missed.keys():
            return False
        self._second_pass = await self._follower.until_back(self._cluster, present)
        return self._second_pass

    async def remarks(self, portions: Portions[Condition], *, planned: bool) -> list[str]:
        """Report where rows of a purge remain: rows that no query returns may still be on the disk."""
        if planned:
            away = None if self._cluster is None else self._cluster.error(planned=True)
            return [*portions.remarks(), *([away] if away is not None else [])]
        everything = self._portions.all
        found = {
            _OLD: await self._rows.value("old_parts"),
            _DETACHED: await self._rows.value("detached_parts"),
            _FROZEN: max(self._frozen or 0, await self._frozen_parts()),
        }
        hidden = await self._rows.value("hidden", everything)
        if hidden:
            # Where patch parts hide them, the mask does not know of them.
            erase = (
                "OPTIMIZE TABLE … FINAL"
                if await self._rows.value("patched")
                else "ALTER TABLE … APPLY DELETED MASK"
            )
            found[f"rows are only hidden, by a lightweight DELETE of another user: {erase} erases them"] = (
                hidden
            )
        remarks = [f"{number} {words}" for words, number in found.items() if number]
        remarks += await portions.leftovers(lambda rows: self._rows.value("count", rows))
        for row in await self._rows.ask("policies", everything):
            remarks.append(f"a row policy ({printable(row['filter'], _FILTER_LIMIT)}) {_POLICY}")
        for statement, words in (("views", _VIEW), ("buffers", _BUFFER)):
            remarks += [f"{row['name']} {words}" for row in await self._rows.ask(statement)]
        return [*remarks, *portions.remarks()]

    async def _frozen_parts(self) -> int:
        """Count the parts that a backup on the server's disk holds, too; a server that was started anew does not know."""
        return int(await self._rows.value("frozen_parts"))

    def missing(self) -> str | None:
        """Say which servers of a cluster could not be purged."""
        return None if self._cluster is None else self._cluster.error()

    async def publish(self) -> None:
        """Report the state by shard and replica, of a cluster."""
        if self._cluster is not None:
            await self.purge.report_shards(self._cluster.tally.reports())

    def known_shards(self) -> tuple[ShardReport, ...]:
        """Return the state by shard and replica, of a cluster."""
        return () if self._cluster is None else self._cluster.tally.reports()

    async def shards(self, *, done: bool) -> tuple[ShardReport, ...]:
        """Return the same; where nothing is left to do, the servers that answer are finished."""
        if done and self._cluster is not None:
            self._cluster.tally.finish()
        await self.publish()
        return self.known_shards()

    async def _note_mutations(self, mutations: Sequence[Mutation]) -> None:
        """Take note of how a mutation stands on each server of a cluster."""
        if self._cluster is not None:
            self._cluster.tally.looked(mutations)
            await self.publish()


async def try_reading(rows: MeantRows) -> None:
    """Ask the questions of a purge, before anything is sent that could not be followed to its end."""
    for name in _READ:
        await rows.relations.rows(rows.server, name, mark="-")
