"""The usage of a store's space, and its daily sample. Reading changes nothing, as with a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, cast

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries, read_only_connection
from retentiond.ledger.samples import has_sample, save_sample
from retentiond.model.errors import UnreachableError
from retentiond.model.report import Tally
from retentiond.model.usage import (
    AGES,
    LARGEST,
    NOT_KNOWN,
    OLDER,
    SEVERAL_ROOMS,
    SEVERAL_USERS,
    UsageRow,
    key_of,
    with_rest,
)
from retentiond.targets.dendrite_media.database.rights import ensure_temporary
from retentiond.targets.dendrite_media.references.shown import read_shown
from retentiond.targets.dendrite_media.references.sources import Sources
from retentiond.targets.dendrite_media.store.context import open_media
from retentiond.targets.dendrite_media.surveys.sizes import SHARED_BLOBS, milliseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.usage import UsageBy
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.verdicts import Compiled

DIVISIONS: Final[tuple[UsageBy, ...]] = ("server", "room", "user", "type", "age", "file")
_BY_EVENTS: Final = frozenset({"room", "user"})
"""The divisions for which events are read."""
_SAMPLED: Final[tuple[Division, ...]] = ("class", "server", "room", "user")
MOST_EVENTS: Final = 16 << 30
"""The bytes of events that a daily sample reads; with more of them it has no rooms, and users by their uploads alone."""
SQL: Final = named_queries(__package__, "stored.sql", blobs=SHARED_BLOBS)
Division = Literal["class", "server", "room", "user", "type", "age"]
"""A property of a row; `class` is `local` or `remote`."""
_DAY: Final = 86_400_000
_SEVERAL: Final = {"room": SEVERAL_ROOMS, "user": SEVERAL_USERS}


async def read_usage(context: TargetContext, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
    """Divide the store, changing nothing; the rest beyond the largest keys is one row."""
    async with read_only_connection(context.settings.database) as connection:
        await ensure_temporary(connection)
        progress.stage("references", None)
        await read_shown(Sources.of(context.settings), connection, reading=by in _BY_EVENTS)
        progress.stage("sizes", None)
        total = await make_stored(connection)
        if by == "file":
            return with_rest(await largest_files(connection, top), total)
        division = cast("Division", by)
        return with_rest((await _largest(context, connection, (division,), top))[division], total)


async def _largest(
    context: TargetContext, connection: Conn, divisions: tuple[Division, ...], top: int
) -> dict[Division, list[UsageRow]]:
    now = await connection.fetchval("SELECT clock_timestamp()")
    return await largest_keys(connection, divisions, top, server_names=context.settings.server_names, now=now)


async def take_sample(context: TargetContext, progress: Progress) -> bool:
    """Add the sample of today to the ledger; return False where there is one already."""
    if await has_sample(context.pool, context.name):
        return False
    async with read_only_connection(context.settings.database) as connection:
        await ensure_temporary(connection)
        progress.stage("sample", None)
        shown = await read_events(context, connection)
        total = await make_stored(connection)
        largest = await _largest(context, connection, _SAMPLED, LARGEST)
    classes = {row.key: Tally(row.items, row.bytes) for row in largest.pop("class")}
    if not shown:
        del largest["room"]
    return await save_sample(
        context.pool,
        context.name,
        total,
        classes=classes,
        largest={cast("UsageBy", by): rows for by, rows in largest.items()},
        free_bytes=await _free_bytes(context),
    )


async def read_events(context: TargetContext, connection: Conn) -> bool:
    """Read the events that show media; return False for too many of them, and for those that cannot be read."""
    sources = Sources.of(context.settings)
    try:
        return await read_shown(sources, connection, largest=MOST_EVENTS)
    except UnreachableError as error:
        if connection.is_closed():
            raise
        # No warning: many roles need no right to events, and `usage --by room` names the missing one.
        get_logger(target=context.name).info("events_not_read", reason=str(error))
        return await read_shown(sources, connection, reading=False)


async def _free_bytes(context: TargetContext) -> int | None:
    """Return the free bytes of the media's disk; None where its directory cannot be opened."""
    try:
        tree = await open_media(context, context.pool)
        if isinstance(tree, str):
            return None
        with tree:
            return await context.disk.call(tree.free_bytes)
    except UnreachableError:
        return None


async def make_stored(connection: Conn, policies: Compiled | None = None) -> Tally:
    """Fill the tables `pg_temp.shared` and `pg_temp.stored` of the connection, and return the total.

    With `policies` each row has the code of its verdict; without them no row has one.
    """
    text, arguments = ("NULL::integer", ()) if policies is None else (policies.text, policies.arguments)
    # A row that came between two statements would have a blob of its own beside the one that it shares.
    async with connection.transaction(isolation="repeatable_read"):
        for statement in ("make_several", "analyze_several", "make_shared", "analyze_shared"):
            await connection.execute(SQL[statement])
        await connection.execute(SQL["make_stored"].replace("{verdict}", text), *arguments)
        await connection.execute(SQL["few_statistics"])
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
    return [UsageRow(key_of(row["uri"]), row["items"], row["bytes"]) for row in rows]
