"""A dendrite that has no media yet: it makes the media directory at its first upload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.targets.dendrite_media.database.rights import ensure_tables
from retentiond.targets.dendrite_media.database.rows import SQL
from retentiond.targets.dendrite_media.disk.tree import MediaTree, NoMediaDirectoryError

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.errors import UnreachableError
    from retentiond.targets.dendrite_media.store.context import TargetContext


async def no_media_yet(context: TargetContext, connection: Conn | Db, error: UnreachableError) -> str | None:
    """Return a sentence about a store without media whose directory does not exist yet; None for any other error.

    If the database has media, or the ledger has had a pass, the directory existed, and its absence is an error.
    """
    if not isinstance(error, NoMediaDirectoryError):
        return None
    await ensure_tables(connection)
    if await connection.fetchval(SQL["has_media"]):
        return None
    if await context.ledger.exists(connection) and (await context.ledger.store(connection)).last_pass:
        return None
    return (
        f"there is nothing to do yet: the database has no media, and dendrite makes {context.settings.media_path} at its "
        "first upload"
    )


async def open_media(context: TargetContext, connection: Conn | Db) -> MediaTree | str:
    """Open the media directory, or return a sentence about a store that has no media yet. Raise UnreachableError."""
    try:
        return await context.disk.call(lambda: MediaTree(context.settings.media_path))
    except NoMediaDirectoryError as error:
        sentence = await no_media_yet(context, connection, error)
        if sentence is None:
            raise
        return sentence
