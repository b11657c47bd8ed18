"""The removal of orphans: batches of missing chats, and of rows that name no chat, each in a transaction of its own.

A row may be there before its chat: both may be written by transactions that are not over, one after the other. So each
batch compares with the chats again in the statement that judges it, waits after its deletions for all that write chats,
holds off others for one look, and is rolled back where one of its chats has come. A chat that is written after the batch is
over has a date that its rows had, too, and one that old is no chat that only begins; an import that writes messages of past
years before their chats is what nothing in the database tells from orphans.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.ledger.holds import lock_holds
from retentiond.ledger.records import Record, add_record
from retentiond.model.purge import MOST_FAILED_ROWS
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.batch import BY_KEY, ChangedError, MiscountError
from retentiond.targets.chat_database.gate import SQL, Gate
from retentiond.targets.chat_database.names import quoted
from retentiond.targets.chat_database.refused_rows import (
    ends_the_pass,
    may_be_of_single_rows,
    may_pass,
    name_refusal,
    reason_in_words,
    reason_of,
)
from retentiond.targets.chat_database.statements import SQL as PURGE_SQL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from retentiond.engine.target import Order
    from retentiond.ledger.lease import Lease
    from retentiond.model.purge import PurgeReport
    from retentiond.targets.chat_database.orphans import OrphanSearch
    from retentiond.targets.chat_database.place import Place

MOST_ROWS: Final = 10_000
"""Rows of one table that one transaction deletes where a single missing chat has more."""
_AT: Final = "r.tableoid = $relation::bigint::oid AND r.ctid = ANY($places::tid[])"
_TRIES: Final = 5
_MOST_REFUSED: Final = 20
"""Batches and parts of batches that may be refused in a row before the removal ends."""


@dataclass(slots=True)
class _Removed:
    """What one transaction took: rows by entity, and the missing chats; `more`: a chat has rows left for the next one."""

    rows: Counter[str] = field(default_factory=Counter)
    chats: list[Any] = field(default_factory=list)
    more: bool = False


class OrphanRemoval:
    """Deletes what a search found due, and counts it together with the deletion."""

    def __init__(self, place: Place, search: OrphanSearch, lease: Lease, order: Order, pass_id: int) -> None:
        self._place = place
        self._search = search
        self._rows = search.rows
        self._connection = search.connection
        self._lease = lease
        self._order = order
        self._pass_id = pass_id
        self._gate = Gate(place.config.pace, order.stop, place.look_at_replicas)
        self._refused = 0
        self._at: str | None = None

    async def run(self, report: PurgeReport) -> None:
        """Delete all; it ends early where a stop is requested, or where batch after batch is refused."""
        size = self._place.config.pace.batch
        await self._search.list_strays()
        async for page in self._search.pages(size):
            for part in _bounded(page):
                if not await self._may_go_on(report):
                    return
                await self._take(part, self._of_missing, report)
        async for strays in self._search.stray_pages(size):
            if not await self._may_go_on(report):
                return
            await self._take(strays, self._strays, report)

    async def _may_go_on(self, report: PurgeReport) -> bool:
        await self._gate.wait()
        if self._order.stop.asked:
            report.state = "interrupted"
        return not self._order.stop.asked and self._refused < _MOST_REFUSED

    async def _take(
        self, page: Sequence[Any], delete: Callable[[Sequence[Any]], Awaitable[_Removed]], report: PurgeReport
    ) -> None:
        """Delete a page; one that is refused is halved until the refused rows are alone."""
        parts = [page]
        while parts and (parts[0] is page or await self._may_go_on(report)):
            part = parts.pop()
            error = await self._try(part, delete, report)
            if error is None:
                self._refused = 0
            elif len(part) > 1 and may_be_of_single_rows(error):
                self._refused += 1
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                self._refused += 1
                await self._fail(part, error, report)

    async def _try(
        self, page: Sequence[Any], delete: Callable[[Sequence[Any]], Awaitable[_Removed]], report: PurgeReport
    ) -> Exception | None:
        """Delete a page in as many transactions as its rows need; return what the database has against it."""
        attempt, more = 0, True
        while more:
            attempt += 1
            try:
                async with self._connection.transaction():
                    await self._lease.check(self._connection)
                    # A hold that is put on meanwhile waits until the batch is over, or is seen by it.
                    await lock_holds(self._connection)
                    await self._connection.execute(BY_KEY)
                    removed = await delete(page)
                    removed.rows = +removed.rows
                    await self._note(removed, report)
            except (ChangedError, *LOST, asyncpg.PostgresError) as error:
                if ends_the_pass(error):
                    raise
                if attempt >= _TRIES or not may_pass(error):
                    return error
                await self._order.stop.wait(0.1 * 2**attempt)
            else:
                report.orphans.removed.update(removed.rows)
                await self._gate.count(removed.rows.total())
                attempt, more = 0, removed.more
            if more and self._order.stop.asked:
                report.state = "interrupted"
                return None
        return None

    async def _of_missing(self, page: Sequence[tuple[Any, int]]) -> _Removed:
        """Delete the rows of missing chats that are still missing and due."""
        removed = _Removed()
        judged = await self._search.fetch(
            self._rows.judged(self._rows.direct, by_key=True), keys=[key for key, _ in page]
        )
        keys = [row["key"] for row in judged if row["verdict"] == "due"]
        if not keys:
            return removed
        whole = sum(row["items"] for row in judged) <= MOST_ROWS
        keep_files = self._search.files_stay
        for entity in self._rows.below:
            tree = self._rows.tree
            self._at = tree.table(entity)
            rows = tree.rows(entity, self._rows.among, keep_files=keep_files)
            if whole:
                removed.rows[entity] = await self._execute("delete", entity, rows, keys=keys)
                await self._see_gone(entity, rows, keys=keys)
                continue
            removed.rows[entity] = await self._delete_some(entity, rows, keys=keys)
            if removed.rows[entity]:
                # What hangs on the next table's rows must be gone before they are.
                removed.more = True
                break
        removed.chats = [key if isinstance(key, int) else str(key) for key in keys]
        await self._see_chats("arrived", keys=keys)
        return removed

    async def _delete_some(self, entity: str, rows: str, **values: Any) -> int:
        """Delete as many rows of an entity as one transaction may."""
        found = await self._search.fetch(
            self._rows.of_rows("places", entity, rows=rows), size=MOST_ROWS, **values
        )
        removed = sum([
            await self._execute("delete_places", entity, rows, relation=relation, places=places, **values)
            for relation, places in _by_relation(found).items()
        ])  # fmt: skip
        if found and not removed:
            raise MiscountError(_held_back(entity))
        return removed

    async def _strays(self, page: Sequence[Any]) -> _Removed:
        """Delete rows that name no chat, with what hangs on them."""
        removed = _Removed()
        by_entity: defaultdict[str, list[Any]] = defaultdict(list)
        for row in page:
            by_entity[row["entity"]].append(row)
        for entity, rows in by_entity.items():
            condition = self._rows.stray(entity, files_stay=self._search.files_stay)
            for relation, places in _by_relation(rows).items():
                at = {"relation": relation, "places": places}
                for below in self._rows.hanging(entity):
                    above = await self._keys(entity, condition, at)
                    hanging = self._rows.hanging_on(below, entity)
                    self._at = self._rows.tree.table(below)
                    removed.rows[below] += await self._execute("delete", below, hanging, above=above)
                self._at = self._rows.tree.table(entity)
                removed.rows[entity] += await self._execute("delete_places", entity, condition, **at)
                await self._see_gone(entity, f"{_AT} AND {condition}", **at)
        await self._see_chats(None)
        return removed

    async def _keys(self, entity: str, condition: str, at: dict[str, Any]) -> list[Any]:
        key = self._rows.tree.layout.entities[entity].key or ""
        statement = self._rows.of_rows("stray_keys", entity, rows=condition, key=quoted(key))
        return [row["key"] for row in await self._search.fetch(statement, **at)]

    async def _see_gone(self, entity: str, rows: str, **values: Any) -> None:
        """See that nothing holds rows back in silence, as a trigger may."""
        left = self._rows.of_rows("places", entity, rows=rows)
        if await self._search.fetch(left, size=1, **values):
            raise MiscountError(_held_back(entity))

    async def _see_chats(self, name: str | None, **values: Any) -> None:
        """See that no chat has come for the rows: wait for those that write chats, and hold others off for one look."""
        tree = self._rows.tree
        await self._connection.execute("SET LOCAL lock_timeout = '2s'")
        await self._connection.execute(tree.fill(PURGE_SQL["lock_table"], table=tree.table(tree.top)))
        statement = self._rows.statement(name) if name else self._rows.arrived_without_id()
        if (await self._search.fetch(statement, **values))[0][0]:
            raise ChangedError("a chat came in whose rows were to go as those of a missing one")

    async def _execute(self, name: str, entity: str, rows: str, **values: Any) -> int:
        tree = self._rows.tree
        if name == "delete":
            statement = tree.fill(PURGE_SQL["delete"], table=tree.table(entity), rows=rows)
        else:
            statement = self._rows.of_rows(name, entity, rows=rows)
        return await statements.execute(self._connection, statement, self._search.values | values)

    async def _note(self, removed: _Removed, report: PurgeReport) -> None:
        """Write what went into the ledger, in the transaction in which it goes."""
        if not removed.rows:
            return
        after = replace(report.orphans, removed=report.orphans.removed + removed.rows)
        told = json.dumps(replace(report, orphans=after).as_json())
        await self._connection.execute(SQL["note_purge"], self._pass_id, report.account, told)
        body = {
            "account": report.account,
            "to_date": str(report.to_date),
            "orphans": True,
            "rows": dict(removed.rows),
            "chats": removed.chats,
        }
        await add_record(self._connection, Record("purged", self._place.name, self._pass_id, body))

    async def _fail(self, part: Sequence[Any], error: Exception, report: PurgeReport) -> None:
        """Count what did not go, and name a missing chat that is alone."""
        log = get_logger(account=report.account)
        reason = reason_of(error)
        report.failed[reason] += len(part)
        report.error = reason_in_words(error)
        alone = len(part) == 1 and isinstance(part[0], tuple) and len(report.failures) < MOST_FAILED_ROWS
        if not alone:
            log.error("item_failed", reason=reason, items=len(part), error=report.error)
            return
        failure = await name_refusal(self._connection, error, self._at, row=part[0][0], entity=None)
        report.failures.append(failure)
        log.error("item_failed", items=1, **failure.as_json())


def _bounded(page: list[tuple[Any, int]]) -> list[list[tuple[Any, int]]]:
    """Cut a page so that no part has more rows than one transaction may, but for a chat that alone has more."""
    parts: list[list[tuple[Any, int]]] = [[]]
    rows = 0
    for key, items in page:
        if parts[-1] and rows + items > MOST_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append((key, items))
        rows += items
    return parts


def _by_relation(rows: Sequence[Any]) -> dict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["relation"]].append(row["place"])
    return found


def _held_back(entity: str) -> str:
    return (
        f"rows of {entity} are there after their deletion, and the batch was rolled back; look for a trigger or a rule on "
        "that table that holds rows back, then run it again"
    )
