"""Rows of dendrite's tables as rows of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.media import Hash, MediaKey, MediaRow
from retentiond.targets.dendrite_media.disk.layout import EntryPath, Thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncpg import Record

KIND: Final = "dendrite_media"
SCHEMA: Final = (__package__, "schema.sql")


def media_row(record: Record) -> MediaRow:
    """Return a row of dendrite's media table as the decisions need it."""
    return MediaRow(
        record["media_id"],
        record["media_origin"],
        record["content_type"],
        record["file_size_bytes"],
        record["creation_ts"],
        record["upload_name"],
        record["base64hash"],
        record["user_id"],
    )


def media_key(record: Record) -> MediaKey:
    """Return a row's key."""
    return MediaKey(record["media_id"], record["media_origin"])


def key_columns(keys: Iterable[MediaKey]) -> tuple[list[str], list[str]]:
    """Return keys as the two arrays that statements take, in the same order."""
    pairs = list(keys)
    return [key.media_id for key in pairs], [key.media_origin for key in pairs]


def entry_path(record: Record) -> EntryPath:
    """Return the path of an entry; its hash was validated when it was recorded."""
    return EntryPath(record["pass_id"], Hash(record["hash"]), record["entry_id"])


def thumbnails_by_hash(rows: Iterable[Record]) -> dict[Hash, set[Thumbnail]]:
    """Return the thumbnails of rows, by their blob."""
    found: dict[Hash, set[Thumbnail]] = {}
    for row in rows:
        thumbnail = Thumbnail(row["width"], row["height"], row["resize_method"])
        found.setdefault(Hash(row["hash"]), set()).add(thumbnail)
    return found
