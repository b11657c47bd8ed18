"""What an audit finds, and a repair mends, of each kind; more than one page of what goes page by page."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tests.support.store import COMMON_THUMBNAILS

if TYPE_CHECKING:
    from tests.support.store import DendriteStore
    from tests.support.worn_store import WornStore

_SMALL, _MIDDLE, _LARGE = COMMON_THUMBNAILS
_LONG_AGO = 1_600_000_000
_LOCAL: dict[str, Any] = {"origin": "here.test", "user_id": "@u:here.test"}


async def damage(worn: WornStore) -> None:
    """Do it to media of its own, beside those that are there."""
    store = worn.store
    await _missing_files(store)
    await _orphans(worn)
    await _thumbnails(store)
    await _damaged(store)
    for number in range(4):
        upload = store.media_path / "tmp" / str(number)
        upload.mkdir(parents=True)
        (upload / "content").write_bytes(b"half")
        os.utime(upload / "content", (_LONG_AGO, _LONG_AGO))


async def _missing_files(store: DendriteStore) -> None:
    for _ in range(3):
        await store.add(file=False)
    await store.add(file=False, **_LOCAL)
    lost = await store.add(thumbnails=[_SMALL])
    (store.path_of(lost.base64hash) / "file").unlink()


async def _orphans(worn: WornStore) -> None:
    """Blobs without a row, and thumbnail rows without their medium."""
    for _ in range(4):
        media = await worn.store.add(thumbnails=[_SMALL])
        await worn.connection.execute(
            "DELETE FROM mediaapi_media_repository WHERE media_id = $1 AND media_origin = $2", *media.key
        )


async def _thumbnails(store: DendriteStore) -> None:
    for _ in range(2):
        media = await store.add(thumbnails=[_SMALL])
        await store.add_thumbnail(media, _MIDDLE, row=False)
        await store.add_thumbnail(media, _LARGE, row=False)
    for _ in range(4):
        media = await store.add()
        await store.add_thumbnail(media, _SMALL, file=False)
        await store.add_thumbnail(media, _LARGE, size=7)


async def _damaged(store: DendriteStore) -> None:
    """Files of another size or content than theirs; of one a local row stands, too."""
    await store.add(size=7, thumbnails=[_SMALL])
    for origin in ("there.test", "elsewhere.test"):
        await store.add(content=b"of a size", size=7, origin=origin)
    for rotten in (await store.add(), await store.add(**_LOCAL)):
        file = store.path_of(rotten.base64hash) / "file"
        file.write_bytes(b"x" * len(rotten.content))
