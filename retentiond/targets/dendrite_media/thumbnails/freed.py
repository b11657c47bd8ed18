"""The thumbnails that a plan has freed: they lie on the disk still, and what comes after them must not count them."""

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
    """Make the table where a plan notes them; in a pass it stays empty."""
    for statement in ("make_gone_thumbnails", "index_gone_thumbnails"):
        await connection.execute(SQL[statement])


async def freed_thumbnails(connection: Conn, blobs: Collection[Hash]) -> dict[Hash, set[Thumbnail]]:
    """Return those of these contents."""
    return by_hash(await connection.fetch(SQL["freed_of"], sorted(blobs)))
