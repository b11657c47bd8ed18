"""The thumbnails that a plan has freed: they are still on the disk, and later steps of the plan must not count them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.targets.dendrite_media.thumbnails.release import by_hash
from retentiond.targets.dendrite_media.thumbnails.survey import SQL

if TYPE_CHECKING:
    from collections.abc import Collection

    from retentiond.adapters.postgres import Conn
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.layout import Thumbnail


async def make_gone_thumbnails(connection: Conn) -> None:
    """Make the table in which a plan notes them; in a pass it stays empty."""
    for statement in ("make_gone_thumbnails", "index_gone_thumbnails"):
        await connection.execute(SQL[statement])


async def freed_thumbnails(connection: Conn, blobs: Collection[Hash]) -> dict[Hash, set[Thumbnail]]:
    """Return the freed thumbnails of these blobs."""
    return by_hash(await connection.fetch(SQL["freed_of"], sorted(blobs)))
