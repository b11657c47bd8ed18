"""A purge of one table in ClickHouse: whole parts at once, then a mutation for each partition, followed to its end."""

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
    from retentiond.targets.chat_database.clickhouse.cluster import TableRows
    from retentiond.targets.chat_database.clickhouse.mutation import Mutation
    from retentiond.targets.chat_database.clickhouse.statements import Columns
    from retentiond.targets.chat_database.store import StoreName, StorePurge
    from retentiond.targets.chat_database.store_access import DeletionError, PollPolicy, StoreError
    from retentiond.targets.chat_database.store_portions import Portions
    from retentiond.targets.chat_database.store_purge import Tally

_READ: Final = ("mutations", "merges", "patched", "old_parts", "detached_parts", "readonly_replica")
"""Queries of a purge that are tried first, so that no step is sent that could not be followed to its end."""
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
    "shows this user only a part of the table: hidden rows of the account are not counted, and may remain"
)
_FILTER_LIMIT: Final = 200
_VIEW: Final = "has rows of its own, made from these, which are kept"
_BUFFER: Final = "may hold rows that are not in the table yet: OPTIMIZE TABLE flushes it, then purge again"


class TablePurge(Engine[Condition]):
    """One purge of a table, on one server or on the servers of a cluster."""

    name: ClassVar[StoreName] = "clickhouse"
    noun = "rows"
    rounds = 3
    reports_deleted = False

    def __init__(
        self,
        rows: TableRows,
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
        """Check the table and its servers, and try the queries of a purge."""
        if not EARLIEST <= self.purge.cutoff <= LATEST:
            hint = "ClickHouse cannot store this date; use one from 1970 to 2105"
            value = self.purge.cutoff.isoformat()
            raise RefusedError(Refusal(StoreLimit("clickhouse_date"), value, None, hint))
        columns = await self._judge()
        self._portions = TablePortions(self._rows, columns, self.purge, by_date=self._by_date)
        self._condition = self._portions.all
        if not self.purge.dry_run:
            await try_reading(self._rows)

    def portions(self) -> TablePortions:
        """Return the portions of the table."""
        return self._portions

    async def resume(self, notes: Mapping[str, Any], tally: Tally) -> None:
        """Follow the step of these notes to its end, since the server may have continued it."""
        await self._note_frozen()
        mark, part = notes.get("mark"), notes.get("part")
        self._condition = from_json(notes["meant"])
        tally.left = int(notes["left"])
        rows = int(notes["rows"])
        if part and await self._rows.has_part(part):
            # The part still exists, so nothing of it was dropped.
            pass
        elif mark and await self._follower.to_the_end(str(mark)) and self._cluster is None:
            tally.add_deleted(rows)
        else:
            try:
                tally.counted_after_break(await self.count(self._condition), rows)
            except ServerError:
                # The table has changed since, so that these rows cannot be counted.
                tally.at_least = True
        await tally.note()

    async def begin_pass(self) -> None:
        """Note the present servers and the frozen parts."""
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
        """Begin with the rows of a portion."""
        self._condition = portion
        if self._cluster is not None:
            self._cluster.tally.expect()
        return portion

    async def count(self, portion: Condition) -> int:
        """Count rows, as the progress of each shard of a cluster."""
        return await self._rows.count(portion, tallied=True)

    async def recount(self, portion: Condition, tally: Tally) -> None:
        """Count the rows that a round has left; rows missing since the last count are deleted."""
        tally.counted(await self.count(portion))
        await self.publish()
        await tally.note()

    async def delete(self, portion: Condition, tally: Tally) -> bool:
        """Do one round: whole parts at once, then one partition after the other."""
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
                # A missing mutation was killed, or is done and forgotten, or a server has not received it yet.
                await self.recount(portion, tally)
        return True

    async def _begin(self, tally: Tally, **step: Any) -> None:
        await tally.begin(**step, left=tally.left, meant=as_json(self._condition))

    async def _send(self, partition: str | None, mark: str, tally: Tally) -> None:
        try:
            await self._rows.delete(self._condition, partition, mark)
        except ServerError:
            # It is refused at once, and not recorded.
            await tally.note()
            raise
        except UnreachableError:
            # It may be recorded all the same: the next server is asked, and a missing mutation is sent again.
            if not self._rows.server.several:
                raise

    def _raise_if_stopped(self) -> None:
        if self.purge.stop.asked:
            raise StoppedError

    async def settle(self, tally: Tally) -> str | None:
        """Wait for parts that are still being rewritten after a mutation was killed, and count the remaining rows."""
        settled = await self._follower.settle()
        tally.at_least |= not settled
        await self.recount(self._condition, tally)
        return None if settled else "parts are still being rewritten, and more rows may be deleted with them"

    async def again(self, error: DeletionError | StoreError | None) -> bool:
        """Return whether servers of a cluster were away meanwhile and are back, and so are purged once more."""
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
        """Describe rows that remain: rows that no query returns may still be on the disk."""
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
            # The mask does not include rows that patch parts hide.
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
        """Count the parts that are also in a backup on the server's disk; a restarted server does not know them."""
        return int(await self._rows.value("frozen_parts"))

    def missing(self) -> str | None:
        """Describe the servers of a cluster that could not be purged."""
        return None if self._cluster is None else self._cluster.error()

    async def publish(self) -> None:
        """Publish the state of a cluster by shard and replica."""
        if self._cluster is not None:
            await self.purge.report_shards(self._cluster.tally.reports())

    def known_shards(self) -> tuple[ShardReport, ...]:
        """Return the state of a cluster by shard and replica."""
        return () if self._cluster is None else self._cluster.tally.reports()

    async def shards(self, *, done: bool) -> tuple[ShardReport, ...]:
        """Return the final state; with `done`, the servers that answer are finished."""
        if done and self._cluster is not None:
            self._cluster.tally.finish()
        await self.publish()
        return self.known_shards()

    async def _note_mutations(self, mutations: Sequence[Mutation]) -> None:
        """Note the state of a mutation on each server of a cluster."""
        if self._cluster is not None:
            self._cluster.tally.looked(mutations)
            await self.publish()


async def try_reading(rows: TableRows) -> None:
    """Try the queries of a purge, before a step is sent that could not be followed to its end."""
    for name in _READ:
        await rows.relations.rows(rows.server, name, mark="-")
