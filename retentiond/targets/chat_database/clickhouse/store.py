"""The store `clickhouse`: from a request to deleted rows, and the data that is still on the disk."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.check import AccountRows, StoreOverview
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.targets.chat_database.clickhouse.cluster import Cluster, TableRows
from retentiond.targets.chat_database.clickhouse.connection import ServerError, only_value
from retentiond.targets.chat_database.clickhouse.deletion import TablePurge, try_reading
from retentiond.targets.chat_database.clickhouse.placement import Placement
from retentiond.targets.chat_database.clickhouse.servers import open_servers
from retentiond.targets.chat_database.clickhouse.statements import Condition, Relations
from retentiond.targets.chat_database.clickhouse.table import TableFacts, ensure_rights, judge
from retentiond.targets.chat_database.store_access import PollPolicy
from retentiond.targets.chat_database.store_purge import purge_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.engine.target import Progress
    from retentiond.model.purge import StoreReport
    from retentiond.targets.chat_database.clickhouse.servers import Servers
    from retentiond.targets.chat_database.clickhouse.statements import Columns
    from retentiond.targets.chat_database.store import StorePurge


_OF_ACCOUNT: Final = "{account_column:Identifier} = {account:String}"


@asynccontextmanager
async def open_clickhouse(
    config: ClickHouseStore, patience: PollPolicy | None = None
) -> AsyncIterator[ClickHouse]:
    """Open the store; raises UnreachableError."""
    async with open_servers(config) as servers:
        yield ClickHouse(servers, config, patience or PollPolicy())


class ClickHouse:
    """A table of statistics in ClickHouse."""

    def __init__(self, servers: Servers, config: ClickHouseStore, patience: PollPolicy) -> None:
        self._servers = servers
        self._config = config
        self._patience = patience
        self._relations = Relations(config)
        self._cluster = (
            Cluster(servers, self._relations, config.cluster) if config.cluster is not None else None
        )
        self._server: Servers | Cluster = self._cluster or servers
        self._rows = TableRows(self._server, self._relations)

    async def check(self) -> list[str]:
        """Test the requirements of a purge; change nothing."""
        try:
            await ensure_rights(self._servers, self._config)
            await self._judged()
            await try_reading(self._rows)
        except RefusedError as refused:
            return [f"clickhouse: {refused.refusal.value}; {refused.refusal.hint}"]
        except ServerError as error:
            return [f"clickhouse: {error.in_words}"]
        return []

    async def look(self, accounts: Sequence[str]) -> StoreOverview:
        """Return the version of the server, and the rows of each account, on all shards of a cluster."""
        try:
            return await self._look(accounts)
        except ServerError as error:
            raise UnreachableError(f"clickhouse: {error.in_words}") from error

    async def _look(self, accounts: Sequence[str]) -> StoreOverview:
        config, relations = self._config, self._relations
        version = only_value(await self._servers.rows("SELECT version() AS version", {}))
        shards = replicas = None
        if config.cluster is not None:
            (members,) = await relations.rows(self._servers, "members", cluster=config.cluster)
            # That table has no cluster under the name of a macro.
            shards, replicas = int(members["shards"]) or None, int(members["replicas"]) or None
        found = {}
        for account in accounts:
            columns = {"account_column": config.account_column, "date_column": config.date_column}
            rows = Condition(_OF_ACCOUNT, {**columns, "account": account})
            (counted,) = await relations.rows(self._servers, "overview", rows)
            found[account] = AccountRows(int(counted["items"]), counted["oldest"] or None)
        return StoreOverview("clickhouse", f"ClickHouse {version}", found, shards=shards, replicas=replicas)

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Delete, follow each mutation to its end, count again, and report rows that are still on the disk."""
        self._server.heed(purge.stop)
        by_date = self._config.without_chat == "purge"
        engine = TablePurge(self._rows, self._judged, purge, self._patience, by_date=by_date)
        return await purge_store(engine, progress)

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """Kill the mutation of the notes; the purge that follows it finds it missing, and counts the remaining rows."""
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

    async def _facts(self) -> TableFacts | None:
        rows = await self._rows.ask("table")
        if not rows:
            return None
        config = self._config
        optional = (config.thread_column or "", config.visitor_column or "")
        names = [config.account_column, config.date_column, *optional]
        columns = await self._relations.rows(self._server, "columns", names=names)
        return TableFacts(**rows[0], columns={row["name"]: row["type"] for row in columns})

    async def _judged(self) -> Columns:
        """Check the table, and that all servers with it are configured; raises RefusedError."""
        columns = judge(await self._facts(), self._config)
        if isinstance(columns, Refusal):
            raise RefusedError(columns)
        placement = Placement(self._servers, self._relations, self._config)
        refusal = await placement.refusal()
        if refusal is None and self._cluster is not None:
            refusal = await self._cluster.learn()
        if refusal is not None:
            raise RefusedError(refusal)
        if self._cluster is not None:
            return columns
        self._servers.admit = placement.admit
        await self._require_writable()
        return columns

    async def _require_writable(self) -> None:
        """Raise UnreachableError if the replica accepts no writes: for a purge it is down."""
        if await self._relations.value(self._server, "readonly_replica"):
            raise UnreachableError(
                f"the replica of {self._config.table} in ClickHouse accepts no writes: its Keeper cannot be reached, "
                "or has lost it; start the Keeper (or SYSTEM RESTORE REPLICA), and run it again"
            )
