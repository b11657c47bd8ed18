"""The records of disposed media: identifiers and sizes, without contents and file names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.ledger.records import Record
from retentiond.targets.dendrite_media.database.rows import media_key
from retentiond.targets.dendrite_media.disk.layout import Thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from asyncpg import Record as Row

    from retentiond.model.media import MediaKey, MediaRow

_RELEASED: Final = ["media", "hash", "bytes", "policy"]
_THUMBNAILS: Final = ["media", "hash", "thumbnail", "bytes", "policy"]
_PURGED: Final = ["hash", "bytes", "pass_id"]
_RESTORED: Final = ["media", "pass_id", "by", "reason"]


def released_record(target: str, pass_id: int, released: Iterable[tuple[MediaRow, str]]) -> Record:
    """Return the record of rows that left the database, each with the policy that removed it."""
    items = [[row.key.uri, row.base64hash, row.file_size_bytes, policy] for row, policy in released]
    return Record("released", target, pass_id, _table(_RELEASED, items))


def orphans_record(target: str, pass_id: int, entries: Sequence[Row]) -> Record:
    """Return the record of blobs without a row that a repair removed."""
    items = [[None, row["hash"], row["bytes"], "orphan_blob"] for row in entries]
    return Record("released", target, pass_id, _table(_RELEASED, items))


def thumbnails_record(
    target: str, pass_id: int, released: Iterable[Row], policies: Mapping[MediaKey, str]
) -> Record:
    """Return the record of thumbnail rows that left the database while their media stay."""
    items = [
        [
            media_key(row).uri,
            row["hash"],
            Thumbnail(row["width"], row["height"], row["resize_method"]).name,
            row["file_size_bytes"],
            policies[media_key(row)],
        ]
        for row in released
    ]
    return Record("released", target, pass_id, _table(_THUMBNAILS, items))


def purged_record(target: str, closed: Sequence[Row]) -> Record:
    """Return the record of blobs that were unlinked for good."""
    items = [[row["hash"], row["bytes"], row["pass_id"]] for row in closed]
    return Record("purged", target, body=_table(_PURGED, items))


def restored_record(target: str, restored: Sequence[Row]) -> Record:
    """Return the record of restored rows, each from the pass that had released it.

    Without a user if a protection restored them.
    """
    items = [[media_key(row).uri, row["pass_id"], row["by"], row["reason"]] for row in restored]
    return Record("restored", target, body=_table(_RESTORED, items))


def restored_orphans_record(target: str, restored: Sequence[Row], by: str, reason: str) -> Record:
    """Return the record of restored blobs without a row."""
    items = [[None, row["pass_id"], by, reason] for row in restored]
    return Record(
        "restored", target, body=_table(_RESTORED, items) | {"hashes": [row["hash"] for row in restored]}
    )


def _table(columns: list[str], items: list[list[Any]]) -> dict[str, Any]:
    # The names once, and not with each of a thousand items.
    return {"columns": columns, "items": items}
