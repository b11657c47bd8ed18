"""The comparison of one blob in the database with the blob on the disk, and its findings.

Pure: nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from retentiond.model.audit import Finding
from retentiond.targets.dendrite_media.disk.layout import FILE, Thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retentiond.model.audit import FindingKind
    from retentiond.model.media import MediaKey, MediaRow
    from retentiond.targets.dendrite_media.audit.contents import ContentOnDisk


class ThumbnailRow(NamedTuple):
    """A row of dendrite's thumbnail table, with the columns that an audit needs."""

    key: MediaKey
    thumbnail: Thumbnail
    size: int


@dataclass(slots=True)
class ContentInDatabase:
    """The rows of one blob; `held` is the part of it that the quarantine accounts for.

    Thumbnails in quarantine explain missing ones; other differences only while thumbnails are `moving`.
    """

    rows: list[MediaRow] = field(default_factory=list)
    thumbnails: list[ThumbnailRow] = field(default_factory=list)
    whole_held: bool = False
    thumbnails_held: bool = False
    thumbnails_moving: bool = False


def judge(known: ContentInDatabase, seen: ContentOnDisk, before: float) -> list[Finding]:
    """Return the findings of one blob; files without a row that are newer than `before` are being made.

    Files that the quarantine accounts for are no finding.
    """
    if known.whole_held or seen.unreadable:
        return []
    found = [Finding("unknown_path", odd.path, odd.size, blob=seen.blob) for odd in seen.odd]
    if not known.rows:
        found += _orphan(seen, before)
    elif seen.file_missing:
        found += _missing(known, seen)
    elif seen.file is not None:
        found += _sizes(known, seen, seen.file.size)
        if not known.thumbnails_held:
            found += _missing_thumbnails(known, seen)
        if not known.thumbnails_moving:
            found += _thumbnail_sizes(known, seen)
            found += _thumbnail_files(known, seen, before)
    return found


def is_whole(known: ContentInDatabase, seen: ContentOnDisk) -> bool:
    """Return whether the file exists with the size in every row: only then its hash can be checked."""
    return bool(
        known.rows
        and not known.whole_held
        and seen.file is not None
        and not any(row.file_size_bytes > 0 and row.file_size_bytes != seen.file.size for row in known.rows)
    )


def _orphan(seen: ContentOnDisk, before: float) -> Iterator[Finding]:
    if any(True for _ in seen.files()) and all(file.modified <= before for file in seen.files()):
        yield Finding("orphan_blob", seen.path, seen.bytes, _count(seen), blob=seen.blob)


def _count(seen: ContentOnDisk) -> str:
    thumbnails = len(seen.thumbnails)
    more = f"{thumbnails} thumbnail{'' if thumbnails == 1 else 's'}"
    return f"{'its file' if seen.file else 'no file'} and {more}"


def _missing(known: ContentInDatabase, seen: ContentOnDisk) -> Iterator[Finding]:
    rows = [(row, max(row.file_size_bytes, 0), "") for row in known.rows]
    yield from _per_row("missing_file", seen, rows)


def _sizes(known: ContentInDatabase, seen: ContentOnDisk, size: int) -> Iterator[Finding]:
    # dendrite does not compare a recorded size of 0 or less.
    rows = [
        (row, size, f"recorded {row.file_size_bytes}, on disk {size}")
        for row in known.rows
        if row.file_size_bytes > 0 and row.file_size_bytes != size
    ]
    yield from _per_row("size_mismatch", seen, rows)


def wrong_hash(known: ContentInDatabase, seen: ContentOnDisk) -> list[Finding]:
    """Return the findings of a blob whose file has another SHA-256 than its name says."""
    size = seen.file.size if seen.file else 0
    return list(_per_row("hash_mismatch", seen, [(row, size, "another SHA-256") for row in known.rows]))


def _per_row(
    kind: FindingKind, seen: ContentOnDisk, rows: list[tuple[MediaRow, int, str]]
) -> Iterator[Finding]:
    for context, (row, size, detail) in enumerate(rows):
        # The rows share the file: its bytes count once.
        counted = size if context == 0 else 0
        yield Finding(kind, f"{seen.path}/{FILE}", counted, detail, row.key, seen.blob)


def _missing_thumbnails(known: ContentInDatabase, seen: ContentOnDisk) -> Iterator[Finding]:
    odd = {path.path for path in seen.odd}
    for row in known.thumbnails:
        path = f"{seen.path}/{row.thumbnail.name}"
        if row.thumbnail not in seen.thumbnails and path not in odd:
            size = max(row.size, 0)
            yield Finding("missing_thumbnail_file", path, size, "", row.key, seen.blob, row.thumbnail)


def _thumbnail_sizes(known: ContentInDatabase, seen: ContentOnDisk) -> Iterator[Finding]:
    for row in known.thumbnails:
        file = seen.thumbnails.get(row.thumbnail)
        if file is not None and file.size != row.size:
            path = f"{seen.path}/{row.thumbnail.name}"
            detail = f"recorded {row.size}, on disk {file.size}"
            yield Finding(
                "thumbnail_size_mismatch", path, file.size, detail, row.key, seen.blob, row.thumbnail
            )


def _thumbnail_files(known: ContentInDatabase, seen: ContentOnDisk, before: float) -> Iterator[Finding]:
    rows = {row.thumbnail for row in known.thumbnails}
    for thumbnail, file in seen.thumbnails.items():
        if thumbnail not in rows and file.modified <= before:
            path = f"{seen.path}/{thumbnail.name}"
            yield Finding("orphan_thumbnail_file", path, file.size, blob=seen.blob, thumbnail=thumbnail)
