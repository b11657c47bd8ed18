"""dendrite as a writer of its store: an upload, a remote fetch and a thumbnail on demand, step by step.

Its steps and their order are dendrite's own; `pause` is awaited between them, so that a test can stand in each gap.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from retentiond.model.media import MediaKey
from tests.support.store import Thumbnail, hash_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import asyncpg

DEFAULT_THUMBNAILS: tuple[Thumbnail, ...] = ((32, 32, "crop"), (640, 480, "scale"))


class ClientGoneError(Exception):
    """The client went away, or waited for too long, and with it the context of the insert."""


async def no_pause(_step: str) -> None:
    """Go on at once."""


class DendriteWriter:
    """One server's media API, `here.test`. `pause` hears `stored` between the file and its row, and so on.

    `timeout` is how many seconds after its look at the file an insert may come, as dendrite's own time-out has it.
    """

    def __init__(
        self,
        database: asyncpg.Pool[asyncpg.Record],
        media_path: Path,
        pause: Callable[[str], Awaitable[None]] = no_pause,
        timeout: float = 300.0,
    ) -> None:
        self._timeout = timeout
        self._database = database
        self._media_path = media_path
        self._pause = pause

    async def upload(self, content: bytes, *, client_goes: bool = False) -> MediaKey:
        """Take an upload of a local user. ClientGoneError where the insert is cancelled."""
        key = MediaKey(secrets.token_hex(32), "here.test")
        await self._database.fetch(
            "SELECT media_id FROM mediaapi_media_repository WHERE base64hash = $1 AND media_origin = $2",
            hash_of(content),
            key.media_origin,
        )
        await self._pause("looked")
        await self._store(key, content, "@user:here.test", client_goes=client_goes)
        return key

    async def fetch(self, key: MediaKey, content: bytes, *, client_goes: bool = False) -> None:
        """Fetch remote media that somebody asked for; what has a row is not fetched again."""
        if not await self._has_row(key):
            await self._store(key, content, "", client_goes=client_goes)

    async def thumbnail(self, key: MediaKey, thumbnail: Thumbnail) -> bool:
        """Make a thumbnail on demand, at any age of the media; False where dendrite answers otherwise."""
        base64hash = await self._database.fetchval(
            "SELECT base64hash FROM mediaapi_media_repository WHERE media_id = $1 AND media_origin = $2", *key
        )
        if base64hash is None or await self._has_thumbnail_row(key, thumbnail):
            return False
        return await self._make_thumbnail(key, base64hash, thumbnail)

    async def _has_row(self, key: MediaKey) -> bool:
        return bool(
            await self._database.fetchval(
                "SELECT true FROM mediaapi_media_repository WHERE media_id = $1 AND media_origin = $2", *key
            )
        )

    async def _has_thumbnail_row(self, key: MediaKey, thumbnail: Thumbnail) -> bool:
        return bool(
            await self._database.fetchval(
                "SELECT true FROM mediaapi_thumbnail WHERE media_id = $1 AND media_origin = $2"
                " AND width = $3 AND height = $4 AND resize_method = $5",
                *key,
                *thumbnail,
            )
        )

    async def _store(self, key: MediaKey, content: bytes, user_id: str, *, client_goes: bool) -> None:
        base64hash = hash_of(content)
        temporary = self._media_path / "tmp" / secrets.token_hex(8)
        temporary.mkdir(parents=True)
        (temporary / "content").write_bytes(content)
        await self._pause("written")
        looked = time.time()
        found = self._move(temporary / "content", self._directory(base64hash) / "file", len(content))
        temporary.rmdir()
        await self._pause("stored")
        row = (*key, len(content), int(time.time() * 1000), base64hash, user_id)
        if client_goes or not await self._insert(row, looked + self._timeout):
            shutil.rmtree(self._directory(base64hash), ignore_errors=True)
            raise ClientGoneError
        await self._pause("inserted")
        if not found:
            # What it found there already gets no thumbnails from it.
            for thumbnail in DEFAULT_THUMBNAILS:
                await self._make_thumbnail(key, base64hash, thumbnail)

    async def _insert(self, row: tuple[object, ...], deadline: float) -> bool:
        """Insert a row, unless it comes too late; the server's own clock tells, at the last moment."""
        status = await self._database.execute(
            "INSERT INTO mediaapi_media_repository (media_id, media_origin, content_type, file_size_bytes,"
            " creation_ts, upload_name, base64hash, user_id) SELECT $1, $2, 'image/png', $3, $4, 'a', $5, $6"
            " WHERE clock_timestamp() < to_timestamp($7)",
            *row,
            deadline,
        )
        return status == "INSERT 0 1"

    def _move(self, temporary: Path, final: Path, size: int) -> bool:
        """Move the file in; True where one of the same size stands and the new one is thrown away."""
        while True:
            try:
                there = final.stat().st_size
            except FileNotFoundError:
                final.parent.mkdir(parents=True, exist_ok=True)
                # Another's upload that fails may take the directory away between the two calls.
                with suppress(FileNotFoundError):
                    os.rename(temporary, final)
                    return False
            else:
                assert there == size, "dendrite would answer with an error"
                temporary.unlink()
                return True

    async def _make_thumbnail(self, key: MediaKey, base64hash: str, thumbnail: Thumbnail) -> bool:
        width, height, method = thumbnail
        path = self._directory(base64hash) / f"thumbnail-{width}x{height}-{method}"
        if path.exists():
            # It serves the full picture in the thumbnail's place, and makes no row.
            return False
        made = f"{path.name} of {base64hash}".encode()
        if not (path.parent / "file").exists():
            return False
        try:
            path.write_bytes(made)
        except FileNotFoundError:
            return False
        await self._pause("thumbnail written")
        await self._database.execute(
            "INSERT INTO mediaapi_thumbnail (media_id, media_origin, content_type, file_size_bytes, creation_ts,"
            " width, height, resize_method) VALUES ($1, $2, 'image/png', $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            *(*key, len(made), int(time.time() * 1000), *thumbnail),
        )
        return True

    def _directory(self, base64hash: str) -> Path:
        return self._media_path / base64hash[0] / base64hash[1] / base64hash[2:]
