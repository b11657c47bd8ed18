"""The one measure of size: the bytes that leave the media tree, thumbnails too.

A plan and a pass measure them on the disk, for the blobs that they look at anyway. All other figures (backlog,
status, metrics, the report) are estimates from the sizes that the database records, made here: they agree with the
disk if database and disk agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.model.policy import Policy

_FILE: Final = "sizes.sql"
_OF: Final = 'WHERE m.base64hash COLLATE "C" IN (SELECT {})'
_DUE_BLOBS: Final = named_queries(
    __package__, _FILE, where=_OF.format("d.hash FROM pg_temp.due d WHERE d.kept IS NULL")
)["blobs"]
SHARED_BLOBS: Final = named_queries(__package__, _FILE, where=_OF.format("s.hash FROM pg_temp.several s"))[
    "blobs"
]
"""The blobs of the hashes in the table `several`: a part of another statement."""
_FOUND: Final = named_queries(__package__, _FILE, due_blobs=_DUE_BLOBS)
_DUE_BY_AGE: Final = named_queries(__package__, _FILE, how="MATERIALIZED", found=_FOUND["found"])[
    "due_by_age"
]
# Two readings of the due rows cost less than a copy of them.
MEASURED_BY_AGE: Final = named_queries(
    __package__, _FILE, how="NOT MATERIALIZED", found=_FOUND["found_measured"]
)["due_by_age"]


@dataclass(frozen=True, slots=True)
class DuePart:
    """The due rows of one policy (by its index) and one age in whole days; `oldest` is the first that was created."""

    policy: int
    age: int
    items: int
    bytes: int
    oldest: datetime


async def due_by_age(
    connection: Conn, policies: Sequence[Policy], now: datetime, *, measured: bool = False
) -> list[DuePart]:
    """Measure the rows that the survey on this connection, at the time `now`, found due and that still exist.

    If the store is `measured` already, its tables `pg_temp.stored` and `pg_temp.shared` are read, and the bytes that due
    rows have.
    """
    statement = MEASURED_BY_AGE if measured else _DUE_BY_AGE
    rows = await connection.fetch(statement, milliseconds(now), keeps_of(policies))
    return [
        DuePart(
            row["policy"],
            row["age"],
            row["items"],
            row["bytes"],
            datetime.fromtimestamp(row["oldest"] / 1000, UTC),
        )
        for row in rows
    ]


def keeps_of(policies: Sequence[Policy]) -> list[int | None]:
    """Return the keeps of policies in milliseconds, in their order; None is for ever, and zero is no time at all."""
    return [None if policy.keep is None else policy.keep // timedelta(milliseconds=1) for policy in policies]


def milliseconds(moment: datetime) -> int:
    """Return a moment in the unit of dendrite's tables."""
    return int(moment.timestamp() * 1000)
