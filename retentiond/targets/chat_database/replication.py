"""The look at a server's replicas, before a purge begins and between its batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import MissingRightError, UnreachableError
from retentiond.model.replication import Replica, Replication, missing_standby
from retentiond.model.text import printable

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db

SQL: Final = named_queries(__package__, "replication.sql")
_MOST_NAMED: Final = 5


async def read_replication(pool: Db) -> Replication:
    """Read the replicas as this role may see them; raise MissingRightError where it may not see how far one is."""
    async with pool.acquire() as connection:
        replication = await look_at_replication(connection)
    refuse_hidden(replication)
    return replication


async def look_at_replication(connection: Conn) -> Replication:
    """Read the replicas, those without a visible state too."""
    rows = await connection.fetch(SQL["replicas"])
    waits_for = await connection.fetchrow(SQL["synchronous"])
    assert waits_for is not None  # noqa: S101 - a SELECT without FROM has one row
    return Replication(
        [
            Replica(
                name=row["name"],
                kind="subscriber" if row["logical"] else "standby",
                connection_to=row["connected"],
                slot=row["slot"],
                state=row["state"],
                lag=row["lag"],
                bytes_behind=row["bytes_behind"],
                wal_status=row["wal_status"],
                gone_for=row["gone_for"],
            )
            for row in rows
        ],
        waits_for["names"],
        waits_for["in_step"],
        waits_for["role"],
    )


def refuse_hidden(replication: Replication) -> None:
    """Raise MissingRightError for replicas whose lag is hidden: a lag that is not known is not "no lag"."""
    hidden = replication.hidden
    if hidden:
        names = ", ".join(printable(name) for name in hidden[:_MOST_NAMED])
        more = f" and {len(hidden) - _MOST_NAMED} more" if len(hidden) > _MOST_NAMED else ""
        raise MissingRightError(
            f"this role may not see how far replicas are behind ({names}{more}), and a purge could not wait for them; "
            "as a superuser run:",
            [f"GRANT pg_monitor TO {printable(replication.role)};"],
        )


def refuse_waiting_commits(replication: Replication) -> None:
    """Raise UnreachableError where the first commit would wait for a synchronous standby that is not there."""
    if replication.commits_wait:
        raise UnreachableError(f"{missing_standby(replication)}, then run it again: nothing was changed")
