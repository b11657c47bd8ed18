"""Media of an invented store: small pictures, files in dendrite's layout, rows by COPY."""

from __future__ import annotations

import hashlib
import io
import os
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.model.errors import UsageError
from retentiond.model.media import Hash

if TYPE_CHECKING:
    import random
    from datetime import datetime
    from pathlib import Path

    import asyncpg
    from PIL.Image import Image as Canvas

    from retentiond.model.media import MediaKey

_SIZES: Final = ((800, 600), (640, 640), (320, 240), (128, 128))
_CROPPED: Final = ((32, 32), (96, 96))
_SCALED: Final = (640, 480)
_SHAPES: Final = 12
_START_OF_IMAGE: Final = b"\xff\xd8"
_COMMENT: Final = b"\xff\xfe"


class Thumbnail(NamedTuple):
    """A thumbnail as dendrite makes them: the requested size in pixels, `crop` or `scale`, a JPEG."""

    width: int
    height: int
    method: str
    data: bytes

    @property
    def file_name(self) -> str:
        """Its name in the directory of the `file` from which it was made."""
        return f"thumbnail-{self.width}x{self.height}-{self.method}"


class DemoPicture(NamedTuple):
    """A JPEG, with the thumbnails that dendrite makes of it unasked."""

    data: bytes
    thumbnails: tuple[Thumbnail, ...]


def draw_pictures(count: int, rng: random.Random) -> list[DemoPicture]:
    """Draw some pictures of several sizes; UsageError where Pillow is not installed."""
    try:
        # Only the demo draws: the daemon is installed without Pillow.
        from PIL import Image, ImageDraw, ImageOps  # noqa: PLC0415
    except ImportError:
        raise UsageError("the demo draws pictures with Pillow: pip install 'retentiond[demo]'") from None

    def draw(size: tuple[int, int]) -> DemoPicture:
        canvas = Image.new("RGB", size, _colour(rng))
        brush = ImageDraw.Draw(canvas)
        for _ in range(_SHAPES):
            left, right = sorted(rng.randrange(size[0]) for _ in range(2))
            top, bottom = sorted(rng.randrange(size[1]) for _ in range(2))
            shape = brush.ellipse if rng.random() < 0.5 else brush.rectangle  # noqa: PLR2004 - one of two
            shape((left, top, right, bottom), fill=_colour(rng))
        thumbnails = [Thumbnail(*crop, "crop", _as_jpeg(ImageOps.fit(canvas, crop))) for crop in _CROPPED]
        if size[0] >= _SCALED[0] and size[1] >= _SCALED[1]:
            thumbnails.append(Thumbnail(*_SCALED, "scale", _as_jpeg(ImageOps.contain(canvas, _SCALED))))
        return DemoPicture(_as_jpeg(canvas), tuple(thumbnails))

    return [draw(_SIZES[number % len(_SIZES)]) for number in range(count)]


def with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """Return the same picture with a comment of up to 65,533 bytes in its file: another content, by its hash."""
    segment = _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment
    return _START_OF_IMAGE + segment + jpeg.removeprefix(_START_OF_IMAGE)


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


def _as_jpeg(canvas: Canvas) -> bytes:
    data = io.BytesIO()
    canvas.save(data, "JPEG", quality=70)
    return data.getvalue()


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
