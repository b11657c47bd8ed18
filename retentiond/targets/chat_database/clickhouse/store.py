"""The store `clickhouse`: from what is to be purged to rows that are gone, and what is still to be erased."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from retentiond.engine.target import StoppedError
from retentiond.model.errors import Refusal, StoreLimit, UnreachableError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.clickhouse.cluster import Cluster, MeantRows
from retentiond.targets.chat_database.clickhouse.connection import ServerError
from retentiond.targets.chat_database.clickhouse.deletion import Deletion
from retentiond.targets.chat_database.clickhouse.failover import open_servers
from retentiond.targets.chat_database.clickhouse.follow import Follower
from retentiond.targets.chat_database.clickhouse.overview import look
from retentiond.targets.chat_database.clickhouse.placement import Placement
from retentiond.targets.chat_database.clickhouse.portions import Portions
from retentiond.targets.chat_database.clickhouse.statements import EARLIEST, LATEST, Relations
from retentiond.targets.chat_database.clickhouse.table import TableFacts, ensure_rights, judge
from retentiond.targets.chat_database.store_access import PollPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.engine.target import Progress
    from retentiond.model.check import StoreOverview
    from retentiond.targets.chat_database.clickhouse.failover import Servers
    from retentiond.targets.chat_database.clickhouse.mutation import Mutation
    from retentiond.targets.chat_database.clickhouse.statements import Columns
    from retentiond.targets.chat_database.store import StoreName, StorePurge


@asynccontextmanager
async def open_clickhouse(
    config: ClickHouseStore, patience: PollPolicy | None = None
) -> AsyncIterator[ClickHouse]:
    """Open the store; raises UnreachableError, and UsageError where the extra is missing."""
    async with open_servers(config) as servers:
        yield ClickHouse(servers, config, patience or PollPolicy())


class ClickHouse:
    """A table of statistics in ClickHouse."""

    name: StoreName = "clickhouse"

    def __init__(self, servers: Servers, config: ClickHouseStore, patience: PollPolicy) -> None:
        self._servers = servers
        self._config = config
        self._patience = patience
        self._relations = Relations(config)
        self._cluster = (
            Cluster(servers, self._relations, config.cluster) if config.cluster is not None else None
        )
        self._server: Servers | Cluster = self._cluster or servers
        self._rows = MeantRows(self._server, self._relations)

    async def check(self) -> list[str]:
        """Try what a purge needs, changing nothing."""
        try:
            await ensure_rights(self._servers, self._config)
            judged = await self._judged()
            if isinstance(judged, Refusal):
                return [f"clickhouse: {judged.value}; {judged.hint}"]
            await self._try_reading()
        except ServerError as error:
            return [f"clickhouse: {error.told}"]
        return []

    async def look(self, accounts: Sequence[str]) -> StoreOverview:
        """Say which server it is, and how many rows of each account are there."""
        try:
            return await look(self._servers, self._relations, self._config, accounts)
        except ServerError as error:
            raise UnreachableError(f"clickhouse: {error.told}") from error

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
                away = None if self._cluster is None else self._cluster.error(planned=True)
                waiting = portions.remarks() if away is None else (*portions.remarks(), away)
                return StoreReport("planned", rows=sum(rows), waiting=waiting, kept=portions.staying.kept())
            await self._try_reading()
        except StoppedError:
            return StoreReport("interrupted", error="asked to stop before it began; run it again")
        except UnreachableError as lost:
            if self._cluster is None:
                raise
            return StoreReport("interrupted", error=str(lost), shards=self._cluster.tally.reports())
        except ServerError as error:
            return StoreReport("finished_with_failures", error=error.told)
        progress.stage("clickhouse", None)
        follower = Follower(
            self._server, self._relations, purge.stop, self._patience, partial(self._report_look, purge)
        )
        return await Deletion(self._rows, follower, purge, portions, progress).work()

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """Kill the mutation that the notes name; whoever follows it finds it gone, and counts what is left."""
        if not notes.get("mark"):
            return
        try:
            await self._server.insist(
                self._relations.statement("kill"), self._relations.parameters(mark=str(notes["mark"]))
            )
        except ServerError as error:
            raise UnreachableError(
                f"the mutation could not be killed: {error}; kill it (KILL MUTATION) as a user with that right"
            ) from error

    async def _report_look(self, purge: StorePurge, mutations: Sequence[Mutation]) -> None:
        """Report how a mutation stands on each server of a cluster."""
        if self._cluster is not None:
            self._cluster.tally.looked(mutations)
            await purge.report_shards(self._cluster.tally.reports())

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
        return await self._judged()

    async def _judged(self) -> Columns | Refusal:
        """Judge the table, and whether the servers that are configured are all that have it."""
        columns = judge(await self._facts(), self._config)
        if isinstance(columns, Refusal):
            return columns
        placement = Placement(self._servers, self._relations, self._config)
        refusal = await placement.refusal()
        if refusal is not None:
            return refusal
        if self._cluster is not None:
            return await self._cluster.learn() or columns
        self._servers.admit = placement.admit
        await self._require_writable()
        return columns

    async def _require_writable(self) -> None:
        """Raise UnreachableError where the replica takes no writes: it is down as far as a purge is concerned."""
        if await self._server.value(
            self._relations.statement("readonly_replica"), self._relations.parameters()
        ):
            raise UnreachableError(
                f"the replica of {self._config.table} in ClickHouse takes no writes: its Keeper cannot be reached, or has "
                "lost it; start the Keeper (or SYSTEM RESTORE REPLICA), and run it again"
            )
