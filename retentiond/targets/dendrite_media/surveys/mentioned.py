"""Read from the references' copy which sources mention media, for the second look of a release."""

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
    from retentiond.model.media import MediaRow
    from retentiond.targets.dendrite_media.references.copies import References

Mentions = Mapping[MediaKey, frozenset[str]]
"""The sources that mention media, of those that were read; of others nothing is known."""


async def mentions_of(
    connection: Conn, rows: Collection[MediaRow], copy: int | None, references: References
) -> Mentions:
    """Return the sources of the references that mention each of these rows, by their copy."""
    if copy is None or not references.asked:
        return {}
    found = await connection.fetch(
        DUE_SQL["mentions_of"],
        *key_columns(row.key for row in rows),
        copy,
        sorted(references.asked),
        [row.user_id for row in rows],
        [row.creation_ts for row in rows],
        references.server_names,
    )
    return {media_key(record): Mentioned(record["sources"], record["since_ms"]) for record in found}
