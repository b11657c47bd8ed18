"""The store `clickhouse`: from what is to be purged to rows that are gone, and what is still to be erased."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from retentiond.engine.target import StoppedError
from retentiond.model.errors import Refusal, StoreLimit, UnreachableError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.clickhouse.condition import EARLIEST, LATEST
from retentiond.targets.chat_database.clickhouse.connection import Server, ServerError, open_server
from retentiond.targets.chat_database.clickhouse.deletion import Deletion
from retentiond.targets.chat_database.clickhouse.follow import Follower
from retentiond.targets.chat_database.clickhouse.portions import Portions
from retentiond.targets.chat_database.clickhouse.relations import Relations
from retentiond.targets.chat_database.clickhouse.rows import MeantRows
from retentiond.targets.chat_database.clickhouse.table import TableFacts, judge
from retentiond.targets.chat_database.patience import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.engine.target import Progress
    from retentiond.targets.chat_database.clickhouse.condition import Columns
    from retentiond.targets.chat_database.store import StoreName, StorePurge


@asynccontextmanager
async def open_clickhouse(
    config: ClickHouseStore, patience: Patience | None = None
) -> AsyncIterator[ClickHouse]:
    """Open the store; raises UnreachableError, and UsageError where the extra is missing."""
    async with open_server(config) as server:
        yield ClickHouse(server, config, patience or Patience())


class ClickHouse:
    """A table of statistics in ClickHouse."""

    name: StoreName = "clickhouse"

    def __init__(self, server: Server, config: ClickHouseStore, patience: Patience) -> None:
        self._server = server
        self._config = config
        self._patience = patience
        self._relations = Relations(config)
        self._rows = MeantRows(server, self._relations, one_server=config.cluster is None)

    async def check(self) -> list[str]:
        """Try what a purge needs, changing nothing."""
        try:
            judged = judge(await self._facts(), self._config)
            if isinstance(judged, Refusal):
                return [f"clickhouse: {judged.value}; {judged.hint}"]
            await self._try_reading()
            allowed = await self._server.do(
                self._relations.statement("may_delete"), self._relations.parameters()
            )
        except ServerError as error:
            return [f"clickhouse: {error}"]
        return (
            [] if allowed == "1" else [f"clickhouse: GRANT ALTER DELETE ON {self._config.table} to this user"]
        )

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Delete, follow each mutation to its end, count again, and say what is still to be erased."""
        self._server.heed(purge.stop)
        try:
            columns = await self._columns(purge)
            if isinstance(columns, Refusal):
                return StoreReport("refused", refused=columns)
            by_date = self._config.without_chat == "purge"
            portions = Portions(self._rows, columns, purge, by_date=by_date)
            if purge.dry_run:
                rows = [await self._rows.count(portion) async for portion in portions.each()]
                kept = portions.staying.kept()
                return StoreReport("planned", rows=sum(rows), waiting=portions.remarks(), kept=kept)
            await self._try_reading()
        except StoppedError:
            return StoreReport("interrupted", error="asked to stop before it began; run it again")
        except ServerError as error:
            return StoreReport("finished_with_failures", error=error.told)
        progress.stage("clickhouse", None)
        follower = Follower(self._server, self._relations, purge.stop, self._patience)
        return await Deletion(self._rows, follower, purge, portions, progress).work()

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """Kill the mutation that the notes name; whoever follows it finds it gone, and counts what is left."""
        if not notes.get("mark"):
            return
        try:
            await self._server.do(
                self._relations.statement("kill"), self._relations.parameters(mark=str(notes["mark"]))
            )
        except ServerError as error:
            raise UnreachableError(
                f"the mutation could not be killed: {error}; have it killed (KILL MUTATION) by somebody who may"
            ) from error

    async def _try_reading(self) -> None:
        """Read whatever a purge reads, before anything is sent that could not be followed to its end."""
        for name in ("mutations", "merges", "patched", "old_parts", "detached_parts", "readonly_replica"):
            await self._server.rows(self._relations.statement(name), self._relations.parameters(mark="-"))

    async def _facts(self) -> TableFacts | None:
        parameters = self._relations.parameters()
        rows = await self._server.rows(self._relations.statement("table"), parameters)
        if not rows:
            return None
        config = self._config
        optional = (config.thread_column or "", config.visitor_column or "")
        names = [config.account_column, config.date_column, *optional]
        columns = await self._server.rows(
            self._relations.statement("columns"), self._relations.parameters(names=names)
        )
        return TableFacts(**rows[0], columns={row["name"]: row["type"] for row in columns})

    async def _columns(self, purge: StorePurge) -> Columns | Refusal:
        """Return the columns that tell which rows are meant, or why that cannot be told."""
        if not EARLIEST <= purge.cutoff <= LATEST:
            hint = "no column of ClickHouse holds such a date; name one from 1970 to 2105"
            return Refusal(StoreLimit("clickhouse_date"), purge.cutoff.isoformat(), None, hint)
        columns = judge(await self._facts(), self._config)
        if not isinstance(columns, Refusal) and await self._readonly():
            return Refusal(
                StoreLimit("clickhouse_readonly"),
                "a read-only replica",
                None,
                "let it reach its Keeper again",
            )
        return columns

    async def _readonly(self) -> bool:
        return bool(
            await self._server.value(
                self._relations.statement("readonly_replica"), self._relations.parameters()
            )
        )
