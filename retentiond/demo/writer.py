"""How media get into a made-up store: the files as dendrite lays them out, the rows by COPY."""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, NamedTuple

from retentiond.model.media import Hash

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import asyncpg

    from retentiond.demo.pictures import Thumbnail
    from retentiond.model.media import MediaKey


class Content(NamedTuple):
    """A blob; several media IDs may share one."""

    data: bytes
    content_type: str
    thumbnails: tuple[Thumbnail, ...] = ()

    @property
    def base64hash(self) -> Hash:
        """The unpadded URL-safe base64 of its SHA-256, which names its directory."""
        return Hash(urlsafe_b64encode(hashlib.sha256(self.data).digest()).decode().rstrip("="))


class StoreWriter:
    """Writes files at once and holds rows back until `insert`; counts all of them, sizes in bytes."""

    def __init__(self, media_path: Path) -> None:
        self.rows = 0
        self.thumbnail_rows = 0
        self.files = 0
        self.size = 0
        self._media_path = media_path
        self._media_batch: list[tuple[object, ...]] = []
        self._thumbnail_batch: list[tuple[object, ...]] = []

    def add(
        self,
        key: MediaKey,
        user_id: str,
        upload_name: str,
        created: datetime,
        content: Content,
        *,
        first: bool,
    ) -> None:
        """Add a row; the first of a content brings its files and has its thumbnail rows, as with dendrite."""
        self._media_batch.append(
            (
                *key,
                content.content_type,
                len(content.data),
                _milliseconds(created),
                upload_name,
                content.base64hash,
                user_id,
            )
        )
        self.rows += 1
        if first:
            self.write(content, created)
            for thumbnail in content.thumbnails:
                self.add_thumbnail_row(key, thumbnail, created)

    def add_thumbnail_row(self, key: MediaKey, thumbnail: Thumbnail, created: datetime) -> None:
        """Add a thumbnail's row, whether the key has a media row or not."""
        shape = (thumbnail.width, thumbnail.height, thumbnail.method)
        self._thumbnail_batch.append(
            (*key, "image/jpeg", len(thumbnail.data), _milliseconds(created), *shape)
        )
        self.thumbnail_rows += 1

    def write(self, content: Content, created: datetime) -> None:
        """Write a blob's directory: the file, and its thumbnails."""
        name = content.base64hash
        directory = self._media_path
        for part in (name[0], name[1], name[2:]):
            directory /= part
            directory.mkdir(mode=0o750, exist_ok=True)
        parts = {"file": content.data}
        parts |= {thumbnail.file_name: thumbnail.data for thumbnail in content.thumbnails}
        for part, data in parts.items():
            path = directory / part
            path.write_bytes(data)
            os.utime(path, (created.timestamp(), created.timestamp()))
            self.files += 1
            self.size += len(data)

    async def insert(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Send the buffered rows to the database."""
        await connection.copy_records_to_table("mediaapi_media_repository", records=self._media_batch)
        await connection.copy_records_to_table("mediaapi_thumbnail", records=self._thumbnail_batch)
        self._media_batch.clear()
        self._thumbnail_batch.clear()


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
