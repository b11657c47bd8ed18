"""The rows and thumbnails that the earlier removals of a dry run would have removed; in a pass the tables stay empty.

A later removal of a dry run leaves them out, and finds the files that they alone still reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.policy import FIRST_BELIEVABLE_MS
from retentiond.targets.dendrite_media.database.rows import key_columns, thumbnails_by_hash

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.model.media import Hash, MediaKey
    from retentiond.targets.dendrite_media.disk.layout import Thumbnail
    from retentiond.targets.dendrite_media.surveys.assess import Assessed

SQL: Final = named_queries(__package__, "gone.sql")


async def make_gone(connection: Conn) -> None:
    """Make the tables, unless the connection has them."""
    for statement in ("make_gone", "make_evicted", "make_gone_thumbnails", "index_gone_thumbnails"):
        await connection.execute(SQL[statement])


async def leave_out_gone(connection: Conn) -> None:
    """Take the rows that would be gone by now out of the due rows."""
    await connection.execute(SQL["leave_out_gone"])


async def note_gone(connection: Conn, keys: Collection[MediaKey], *, evicted: bool) -> None:
    """Note rows that would be gone; `evicted` ones are told by the quota that removes them."""
    for statement in ("note_gone", "note_evicted") if evicted else ("note_gone",):
        await connection.execute(SQL[statement], *key_columns(keys))


async def forget_gone(connection: Conn) -> None:
    """Forget the rows that would be gone, to begin once more."""
    await connection.execute(SQL["forget_gone"])


async def free_thumbnails(
    connection: Conn, going: Sequence[Assessed], newest: Sequence[int]
) -> dict[Hash, int]:
    """Note the old thumbnails of these rows; return the bytes of those that no thumbnail row would reference then."""
    blobs = [item.due.blob for item in going]
    await connection.execute(
        SQL["note_gone_thumbnails"],
        *key_columns([item.due.key for item in going]),
        [newest[item.due.policy] for item in going],
        blobs,
        FIRST_BELIEVABLE_MS,
    )
    freed = thumbnails_by_hash(await connection.fetch(SQL["free_thumbnails"], sorted(set(blobs))))
    sizes = {item.look.blob: dict(item.look.thumbnails) for item in going}
    return {
        blob: sum(sizes[blob].get(thumbnail, 0) for thumbnail in thumbnails)
        for blob, thumbnails in freed.items()
    }


async def freed_thumbnails(connection: Conn, blobs: Collection[Hash]) -> dict[Hash, set[Thumbnail]]:
    """Return the thumbnails of these blobs that would be gone from the disk by now."""
    return thumbnails_by_hash(await connection.fetch(SQL["freed_of"], sorted(blobs)))
