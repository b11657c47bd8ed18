"""Session locks: which there are, and which session of the server holds one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.text import printable

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.adapters.postgres import Conn

LEASE: Final = 1380931140
CLAIMANT: Final = 1380931141
DUTY: Final = 1380931142
TRIAL: Final = 1380931143
"""The kinds of locks: the work on a store, the life of a claimant, the duty for a target, a trial that no work minds."""

_FILE: Final = "locks.sql"
_KEYS: Final = named_queries(__package__, _FILE)
SQL: Final = named_queries(__package__, _FILE, key=_KEYS["key"])
SQL_WITHOUT_LEDGER: Final = named_queries(__package__, _FILE, key=_KEYS["key_without_ledger"])


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A session of the server that holds a lock; values that the server hides from our role are None.

    `own_role`: it is a session of our role; `asking`: it is the session that asked.
    """

    role: str
    process: int
    address: str | None
    since: datetime | None
    name: str | None
    own_role: bool
    asking: bool

    def __str__(self) -> str:
        if self.since is None:
            rest = "its address and start hidden from this role, GRANT pg_read_all_stats shows them"
        else:
            rest = (
                f"from {self.address or 'a local socket'}, connected since {self.since:%Y-%m-%d %H:%M:%S%z}"
            )
        return f"role {printable(self.role)}, process {self.process} of the database server, {rest}"


async def lock_holder(
    connection: Conn, kind: int, name: str = "", *, ledger: bool = True
) -> LockHolder | None:
    """Return the session that holds a lock; None where it is free."""
    row = await connection.fetchrow((SQL if ledger else SQL_WITHOUT_LEDGER)["holder"], kind, name)
    return LockHolder(**dict(row)) if row else None
