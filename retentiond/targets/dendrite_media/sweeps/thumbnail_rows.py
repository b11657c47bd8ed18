"""Thumbnail rows that dendrite made beside a pass, and that would break a thumbnail for good.

There is no foreign key: a thumbnail requested during the release of its media row gets a row all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.model.media import valid_hash
from retentiond.targets.dendrite_media.disk.bring_back import live_blobs
from retentiond.targets.dendrite_media.disk.layout import Thumbnail

if TYPE_CHECKING:
    from asyncpg import Record

    from retentiond.targets.dendrite_media.store.context import StoreSession

SQL: Final = named_queries(__package__, "thumbnail_rows.sql")

_KEY = ("media_id", "media_origin", "width", "height", "resize_method")
_PAGE = 1000
_NOTHING_YET = ("", "", 0, 0, "")


async def sweep_thumbnail_rows(session: StoreSession, *, everything: bool) -> None:
    """Delete late rows without a media row; and, at the second sweep, rows whose file is missing beside a live one."""
    pool = session.context.pool
    status = await pool.execute(SQL["drop_late_thumbnail_rows"], everything)
    if status != "DELETE 0":
        get_logger(target=session.context.name).info("late_thumbnail_rows", status=status)
    after: tuple[object, ...] = _NOTHING_YET
    while rows := await pool.fetch(SQL["thumbnails_of_returned_keys"], everything, _PAGE, *after):
        after = tuple(rows[-1][name] for name in _KEY)
        await _drop_dead(session, rows)
    await pool.execute(SQL["clear_suspects"])


async def _drop_dead(session: StoreSession, rows: list[Record]) -> None:
    pool = session.context.pool
    dead = await _without_file(session, rows)
    if dead:
        await pool.execute(SQL["suspect_thumbnails"], *_columns(dead))
    confirmed = [row for row in dead if row["suspect"]]
    if confirmed:
        await pool.execute(SQL["drop_dead_thumbnails"], *_columns(confirmed))


async def _without_file(session: StoreSession, rows: list[Record]) -> list[Record]:
    hashes = sorted({blob for row in rows if (blob := valid_hash(row["hash"]))})
    live = {blob.blob: blob for blob in await session.context.disk.share(live_blobs(session.tree), hashes)}
    return [
        row
        for row in rows
        if row["hash"] in live
        and live[row["hash"]].size is not None
        and Thumbnail(row["width"], row["height"], row["resize_method"]) not in live[row["hash"]].thumbnails
    ]


def _columns(rows: list[Record]) -> tuple[list[object], ...]:
    return tuple([row[name] for row in rows] for name in _KEY)
