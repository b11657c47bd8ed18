"""What `check-config --connect` says of a table in ClickHouse: its server, and the rows of each account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.check import AccountRows, StoreOverview
from retentiond.targets.chat_database.clickhouse.statements import Condition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.targets.chat_database.clickhouse.failover import Servers
    from retentiond.targets.chat_database.clickhouse.statements import Relations

_OF_ACCOUNT: Final = "{account_column:Identifier} = {account:String}"


async def look(
    server: Servers, relations: Relations, config: ClickHouseStore, accounts: Sequence[str]
) -> StoreOverview:
    """Count the rows of each account, on all shards of a cluster."""
    version = await server.value("SELECT version() AS version", {})
    shards = replicas = None
    if config.cluster is not None:
        (members,) = await server.rows(
            relations.statement("members"), relations.parameters(cluster=config.cluster)
        )
        # A cluster that is named by a macro is not in that table under its name.
        shards, replicas = int(members["shards"]) or None, int(members["replicas"]) or None
    found = {}
    for account in accounts:
        columns = {"account_column": config.account_column, "date_column": config.date_column}
        rows = Condition(_OF_ACCOUNT, {**columns, "account": account})
        (told,) = await server.rows(
            relations.statement("overview", condition=rows), relations.parameters(rows)
        )
        found[account] = AccountRows(int(told["items"]), told["oldest"] or None)
    return StoreOverview("clickhouse", f"ClickHouse {version}", found, shards=shards, replicas=replicas)
