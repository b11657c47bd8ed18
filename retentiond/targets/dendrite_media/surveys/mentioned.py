"""Ask the references' copy which sources mention media, for the second look of a release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from retentiond.model.media import MediaKey
from retentiond.model.mentions import Mentioned
from retentiond.targets.dendrite_media.database.rows import key_columns, media_key
from retentiond.targets.dendrite_media.surveys.survey import SQL as DUE_SQL

if TYPE_CHECKING:
    from collections.abc import Collection

    from retentiond.adapters.postgres import Conn

Mentions = Mapping[MediaKey, frozenset[str]]
"""The sources that mention media, of those that were asked; of others nothing is known."""


async def mentions_of(
    connection: Conn, keys: Collection[MediaKey], copy: int | None, asked: Collection[str]
) -> Mentions:
    """Return the sources that mention each of these keys; nothing where no policy asks."""
    if copy is None or not asked:
        return {}
    rows = await connection.fetch(DUE_SQL["mentions_of"], *key_columns(keys), copy, sorted(asked))
    return {media_key(row): Mentioned(row["sources"], row["since_ms"]) for row in rows}
