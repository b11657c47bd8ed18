"""Where media are shown: the room and the sender of the events that refer to them, for the usage of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.targets.dendrite_media.references.sources import Statement, refusing, stream

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.targets.dendrite_media.references.sources import Sources

SQL: Final = named_queries(__package__, "shown.sql")
_SHOWN: Final = Statement(SQL["shown"], "sync_api", "syncapi_output_room_events, syncapi_current_room_state")
_COLUMNS: Final = ("media_id", "media_origin", "room", "sender")


async def read_shown(
    sources: Sources, connection: Conn, *, largest: int | None = None, reading: bool = True
) -> bool:
    """Fill the table `pg_temp.shown` of the connection; return False where it is left empty.

    It stays empty if events are not to be `reading`, or if they have more than `largest` bytes. Raise UnreachableError
    for events that cannot be read.
    """
    # A reading that broke off may have left a part.
    await connection.execute(SQL["drop_shown"])
    if not reading:
        await _leave_empty(connection)
        return False
    try:
        with refusing(connection, _SHOWN):
            async with sources.reading(connection, _SHOWN) as source:
                if largest is not None and (await source.fetchval(SQL["size_of_events"]) or 0) > largest:
                    await _leave_empty(connection)
                    return False
                await _fill(source, connection)
    except RefusedError as error:
        # The refusal is one of a pass, which deletes nothing; here nothing is deleted anyway.
        raise UnreachableError(f"{error.refusal.value}; {error.refusal.hint}") from error
    await connection.execute(SQL["analyze_shown"])
    return True


async def _leave_empty(connection: Conn) -> None:
    await connection.execute(SQL["make_shown_empty"])
    # Without statistics it counts as ten pages of rows, and a division of a large store takes twice as long.
    await connection.execute(SQL["analyze_shown"])


async def _fill(source: Conn, connection: Conn) -> None:
    if source is connection:
        # A table made by its query lets the server use its workers.
        await connection.execute(SQL["make_shown"].replace("{source}", _SHOWN.text))
        return
    await connection.execute(SQL["make_shown_empty"])
    async for page in stream(source, _SHOWN.text):
        await connection.copy_records_to_table(
            "shown",
            schema_name="pg_temp",
            records=[tuple(row) for row in page],
            columns=_COLUMNS,
        )
