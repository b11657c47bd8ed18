"""A large store made quickly: small contents, three thumbnails each, all of them old and from elsewhere."""

from __future__ import annotations

import hashlib
import os
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

import asyncpg

from retentiond.demo.store import make_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

THUMBNAILS = ((32, 32, "crop"), (96, 96, "crop"), (640, 480, "scale"))
_CONTENT = b"x" * 256
_PAGE = 10_000


def _hash(number: int) -> str:
    return urlsafe_b64encode(hashlib.sha256(b"%d" % number).digest()).decode().rstrip("=")


def fill_directory(media_path: Path, media: Iterable[int]) -> None:
    """Write the files of these media, four each."""
    media_path.mkdir()
    names = ["file", *(f"thumbnail-{width}x{height}-{method}" for width, height, method in THUMBNAILS)]
    for number in media:
        blob = _hash(number)
        directory = f"{media_path}/{blob[0]}/{blob[1]}/{blob[2:]}"
        os.makedirs(directory, mode=0o750)
        for name in names:
            with open(f"{directory}/{name}", "wb") as file:
                file.write(_CONTENT)


async def fill_database(dsn: str, media: int) -> None:
    """Write the rows: one a medium, and its three thumbnails."""
    connection = await asyncpg.connect(dsn)
    try:
        await make_tables(connection)
        old = int((time.time() - 100 * 86400) * 1000)
        for start in range(0, media, _PAGE):
            numbers = range(start, min(start + _PAGE, media))
            await connection.copy_records_to_table(
                "mediaapi_media_repository",
                records=[
                    (f"media{n:08d}", "there.test", "image/png", len(_CONTENT), old, "a.png", _hash(n), "")
                    for n in numbers
                ],
            )
            await connection.copy_records_to_table(
                "mediaapi_thumbnail", records=list(_thumbnails(numbers, old))
            )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def _thumbnails(numbers: range, old: int) -> Iterator[tuple[object, ...]]:
    for number in numbers:
        for width, height, method in THUMBNAILS:
            yield (f"media{number:08d}", "there.test", "image/png", len(_CONTENT), old, width, height, method)
