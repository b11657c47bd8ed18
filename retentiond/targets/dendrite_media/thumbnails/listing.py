"""List the restorable thumbnails that were released alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.report import Released
from retentiond.targets.dendrite_media.database.rows import media_key
from retentiond.targets.dendrite_media.surveys.asked import in_words
from retentiond.targets.dendrite_media.thumbnails.survey import SQL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.targets.dendrite_media.store.context import TargetContext


async def released_thumbnails(context: TargetContext) -> AsyncIterator[Released]:
    """Stream them by release, one item for each media item."""
    after = 0
    while page := await context.pool.fetch(SQL["thumbnail_page"], after, context.batch):
        for row in page:
            yield Released(
                pass_id=row["pass_id"],
                media=media_key(row).uri,
                policy=row["policy"],
                content_type="",
                upload_name="",
                bytes=row["bytes"],
                state="thumbnails",
                released_at=row["released_at"],
                grace_until=row["grace_until"],
                released_for=in_words(row["facts"]),
            )
        after = page[-1]["release_id"]
