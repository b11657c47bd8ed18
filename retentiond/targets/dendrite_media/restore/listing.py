"""The restorable items, for the list of the quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.report import Released
from retentiond.targets.dendrite_media.database.rows import media_key
from retentiond.targets.dendrite_media.restore.selected import path_of
from retentiond.targets.dendrite_media.surveys.asked import in_words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Record

    from retentiond.targets.dendrite_media.store.context import TargetContext

SQL: Final = named_queries(__package__, "listing.sql")


async def released(context: TargetContext) -> AsyncIterator[Released]:
    """Stream rows by their release, blobs without rows by their entry, and thumbnails by their release."""
    if not await context.ledger.exists(context.pool):
        return
    after = 0
    while page := await context.pool.fetch(SQL["quarantine_page"], after, context.batch):
        for row in page:
            yield _row(row)
        after = page[-1]["release_id"]
    after = 0
    while page := await context.pool.fetch(SQL["rowless_page"], after, context.batch):
        for row in page:
            yield _rowless(row)
        after = page[-1]["entry_id"]
    after = 0
    while page := await context.pool.fetch(SQL["thumbnail_page"], after, context.batch):
        for row in page:
            yield _thumbnails(row)
        after = page[-1]["release_id"]


def _row(row: Record) -> Released:
    return Released(
        pass_id=row["pass_id"],
        media=media_key(row).uri,
        policy=row["policy"],
        content_type=row["content_type"],
        upload_name=row["upload_name"],
        bytes=row["bytes"],
        state=_state(row),
        released_at=row["released_at"],
        grace_until=row["grace_until"],
        released_for=in_words(row["facts"]),
    )


def _state(row: Record) -> str:
    if not row["had_file"]:
        return "no_file"
    # A file of another size than its row says cannot be restored.
    return "size_mismatch" if row["damaged"] else row["state"] or "shared"


def _rowless(row: Record) -> Released:
    # Without a name it is listed by its path.
    return Released(
        pass_id=row["pass_id"],
        media="",
        policy="orphan_blob",
        content_type="",
        upload_name=path_of(row),
        bytes=row["bytes"],
        state=row["state"],
        released_at=row["renamed_at"],
        grace_until=row["grace_until"],
    )


def _thumbnails(row: Record) -> Released:
    return Released(
        pass_id=row["pass_id"],
        media=media_key(row).uri,
        policy=row["policy"],
        content_type="",
        upload_name="",
        bytes=row["bytes"],
        state="thumbnails",
        released_at=row["released_at"],
        grace_until=row["grace_until"],
        released_for=in_words(row["facts"]),
    )
