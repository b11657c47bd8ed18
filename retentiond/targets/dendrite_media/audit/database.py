"""The database's side of an audit: all blobs in the order of their hashes, and single ones as they are now."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.audit import Finding
from retentiond.model.media import Hash
from retentiond.targets.dendrite_media.audit.judge import ContentInDatabase, ThumbnailRow
from retentiond.targets.dendrite_media.database.rows import media_key, media_row
from retentiond.targets.dendrite_media.disk.layout import Thumbnail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db

SQL: Final = named_queries(__package__, "audit.sql")
_PAGE: Final = 2000


class Expected(NamedTuple):
    """A blob with rows; `files` are the expected files of its directory, None if its rows disagree."""

    blob: Hash
    rows: int
    files: str | None


class Contents:
    """All blobs with rows, read once into a temporary table, and paged from there."""

    def __init__(self, connection: Conn) -> None:
        self._connection = connection
        self._pages: AsyncIterator[list[Record]] | None = None
        self._ahead: list[Expected] = []

    async def read(self) -> tuple[int, int]:
        """Read all blobs with rows; return their number, and the number of rows."""
        for statement in ("drop_audited", "make_audited", "sort_audited", "analyze_audited"):
            await self._connection.execute(SQL[statement])
        counts = await self._connection.fetchrow(SQL["count_audited"])
        self._pages = pages(self._connection, SQL["audited_page"], size=_PAGE, after=("",))
        return (counts["contents"], counts["rows"]) if counts else (0, 0)

    async def up_to(self, prefix: str | None) -> AsyncIterator[list[Expected]]:
        """Page to the last blob whose hash begins with the prefix, or is before it; None means to the end."""
        while True:
            if not self._ahead and not await self._turn_page():
                return
            context = len(self._ahead)
            if prefix is not None and self._ahead[-1].blob[: len(prefix)] > prefix:
                context = next(
                    number
                    for number, content in enumerate(self._ahead)
                    if content.blob[: len(prefix)] > prefix
                )
            done, self._ahead = self._ahead[:context], self._ahead[context:]
            if done:
                yield done
            if self._ahead:
                return

    async def _turn_page(self) -> bool:
        page = await anext(self._pages, None) if self._pages else None
        self._ahead = [Expected(Hash(row["hash"]), row["rows"], row["files"]) for row in page or ()]
        return bool(self._ahead)


@asynccontextmanager
async def snapshot(pool: Db) -> AsyncIterator[Conn]:
    """Run several statements on one snapshot."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def look_up(pool: Db, blobs: Sequence[Hash], *, ledger: bool) -> dict[Hash, ContentInDatabase]:
    """Return the rows of these blobs now, and the part of them in quarantine."""
    known = {blob: ContentInDatabase() for blob in blobs}
    async with snapshot(pool) as connection:
        for row in await connection.fetch(SQL["rows_of"], list(blobs)):
            known[row["hash"]].rows.append(media_row(row))
        for row in await connection.fetch(SQL["thumbnail_rows_of"], list(blobs)):
            known[row["hash"]].thumbnails.append(thumbnail_row(row))
        if ledger:
            for row in await connection.fetch(SQL["explained_by_quarantine"], list(blobs)):
                known[row["hash"]].whole_held = row["whole"]
                known[row["hash"]].thumbnails_held = True
                known[row["hash"]].thumbnails_moving = row["moving"]
    return known


def thumbnail_row(record: Record) -> ThumbnailRow:
    """Return a row of dendrite's thumbnail table."""
    thumbnail = Thumbnail(record["width"], record["height"], record["resize_method"])
    return ThumbnailRow(media_key(record), thumbnail, record["file_size_bytes"])


async def invalid_hashes(connection: Conn) -> AsyncIterator[Finding]:
    """Find the rows with an invalid hash, which has no path."""
    async for page in pages(connection, SQL["invalid_hashes"], size=_PAGE, after=("", "")):
        for row in page:
            yield Finding(
                "invalid_hash",
                bytes=max(row["file_size_bytes"], 0),
                detail=row["base64hash"],
                key=media_key(row),
            )


async def orphan_thumbnail_rows(connection: Conn) -> AsyncIterator[list[ThumbnailRow]]:
    """Find thumbnail rows without a media row, a page at a time; each page is read twice."""
    async for page in pages(connection, SQL["orphan_thumbnails"], size=_PAGE, after=("", "", 0, 0, "")):
        rows = [thumbnail_row(row) for row in page]
        again = await connection.fetch(SQL["still_orphans"], *thumbnail_columns(rows))
        still = {thumbnail_row(row) for row in again}
        yield [row for row in rows if row in still]


def thumbnail_columns(
    rows: Sequence[ThumbnailRow],
) -> tuple[list[str], list[str], list[int], list[int], list[str]]:
    """Return the keys of thumbnail rows as a statement's parameters."""
    return (
        [row.key.media_id for row in rows],
        [row.key.media_origin for row in rows],
        [row.thumbnail.width for row in rows],
        [row.thumbnail.height for row in rows],
        [row.thumbnail.method for row in rows],
    )
