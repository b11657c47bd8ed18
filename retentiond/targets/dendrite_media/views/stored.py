"""What is stored: every row with its bytes, in a temporary table, and the largest parts of it by one property or more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from retentiond.adapters.postgres import named_queries
from retentiond.model.media import MediaKey
from retentiond.model.report import Tally
from retentiond.model.usage import AGES, NOT_KNOWN, OLDER, SEVERAL_ROOMS, SEVERAL_USERS, UsageRow, key_of
from retentiond.targets.dendrite_media.surveys.sizes import SHARED_BLOBS, milliseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn

SQL: Final = named_queries(__package__, "stored.sql", blobs=SHARED_BLOBS)
Division = Literal["class", "server", "room", "user", "type", "age"]
"""A property of a row; `class` is `local` or `remote`."""
_DAY: Final = 86_400_000
_SEVERAL: Final = {"room": SEVERAL_ROOMS, "user": SEVERAL_USERS}


async def make_stored(connection: Conn) -> Tally:
    """Fill the tables `pg_temp.shared` and `pg_temp.stored` of the connection, and return the total."""
    # A row that came between two statements would have a blob of its own beside the one that it shares.
    async with connection.transaction(isolation="repeatable_read"):
        for statement in ("make_several", "analyze_several", "make_shared", "analyze_shared", "make_stored"):
            await connection.execute(SQL[statement])
    await connection.execute(SQL["analyze_stored"])
    (row,) = await connection.fetch(SQL["total"])
    return Tally(**dict(row))


async def largest_keys(
    connection: Conn,
    divisions: Sequence[Division],
    top: int,
    *,
    server_names: Collection[str],
    now: datetime,
) -> dict[Division, list[UsageRow]]:
    """Return the largest keys of each division, by size; the tables `stored` and `shown` are there.

    Ages are in their own order.
    """
    rows = await connection.fetch(
        SQL["largest"],
        top,
        list(divisions),
        sorted(server_names),
        [milliseconds(now) - days * _DAY for days in sorted(AGES, reverse=True)],
    )
    found: dict[Division, list[UsageRow]] = {division: [] for division in divisions}
    for row in rows:
        found[row["division"]].append(UsageRow(_key(row), row["items"], row["bytes"]))
    if "age" in found:
        order = [*AGES.values(), OLDER]
        found["age"].sort(key=lambda part: order.index(part.key))
    return found


def _key(row: Record) -> str:
    division, own, key = row["division"], row["own"], row["key"]
    if division == "age":
        return (OLDER, *reversed(tuple(AGES.values())))[int(key)]
    if own is not None:
        return NOT_KNOWN if own == "not_known" else _SEVERAL[division]
    return key_of(key)


async def largest_files(connection: Conn, top: int) -> list[UsageRow]:
    """Return the largest files, each by the URI of the oldest media item that has it; items are those that share it."""
    rows = await connection.fetch(SQL["largest_files"], top)
    return [
        UsageRow(key_of(MediaKey(row["media_id"], row["media_origin"]).uri), row["items"], row["bytes"])
        for row in rows
    ]
