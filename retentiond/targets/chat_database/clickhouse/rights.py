"""The rights that a purge needs in ClickHouse, and the statements that grant those which are missing.

The user reads the columns that are configured and those by which the server tells parts and hidden rows; no others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from retentiond.model.errors import MissingRightError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.targets.chat_database.clickhouse.failover import Servers

SYSTEM_TABLES: Final = ("mutations", "merges", "parts", "detached_parts", "replicas", "clusters", "macros")
"""The tables of the server's own that a purge reads, and that need a grant; others show to each user what is theirs."""
_VIRTUAL: Final = ("_part", "_partition_id", "_row_exists")
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def privileges(config: ClickHouseStore) -> Iterator[str]:
    """Yield what the user must be allowed, in the words of GRANT."""
    database, dot, table = config.table.rpartition(".")
    name = f"{_named(database if dot else 'default')}.{_named(table)}"
    columns = [config.account_column, config.date_column, *filter(None, [config.thread_column]), *_VIRTUAL]
    yield f"SELECT({', '.join(map(_named, columns))}) ON {name}"
    yield f"ALTER DELETE ON {name}"
    yield from (f"SELECT ON system.{table}" for table in SYSTEM_TABLES)
    # EXPLAIN as a part of a query, by which row policies are found.
    yield "CREATE TEMPORARY TABLE ON *.*"
    if config.cluster is not None:
        # The functions cluster() and clusterAllReplicas(), and ON CLUSTER.
        yield "REMOTE ON *.*"
        yield "CLUSTER ON *.*"


async def ensure_rights(server: Servers, config: ClickHouseStore) -> None:
    """Raise MissingRightError with a GRANT for each right that the user lacks."""
    user = _named(await server.value("SELECT currentUser() AS user", {}))
    statements = [
        f"GRANT {privilege} TO {user};"
        for privilege in privileges(config)
        if await server.insist(f"CHECK GRANT {privilege}", {}) != "1"
    ]
    if statements:
        raise MissingRightError(
            f"the user {user} of ClickHouse lacks rights that a purge needs; as an administrator of it run:",
            statements,
        )


def _named(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
