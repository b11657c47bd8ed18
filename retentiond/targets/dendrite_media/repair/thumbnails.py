"""Repair thumbnails: once neither row nor file exists, dendrite makes them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.audit.database import thumbnail_columns, thumbnail_row
from retentiond.targets.dendrite_media.audit.judge import ThumbnailRow, judge
from retentiond.targets.dendrite_media.disk.layout import Thumbnail
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.sweeps.strays import Stray, quarantine_stray

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from asyncpg import Record

    from retentiond.model.audit import Finding, FindingKind
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.repair.context import RepairContext

    Release = Callable[..., Awaitable[list[Record]]]
    """A release of thumbnail rows in released_rows.py."""

SQL: Final = named_queries(__package__, "thumbnails.sql")


async def repair_thumbnails(running: RepairContext) -> None:
    """Release rows without a media row, rows without a file, files without a row, and both where their sizes differ."""
    await _orphan_rows(running)
    await _dead_rows(running, "missing_thumbnail_file")
    await _dead_rows(running, "thumbnail_size_mismatch")
    async for page in running.findings("orphan_thumbnail_file"):
        looks = await running.look(sorted({finding.blob for finding in page if finding.blob}))
        still = {
            (finding.blob, finding.thumbnail)
            for known, seen in looks.values()
            for finding in judge(known, seen, running.before)
            if finding.kind == "orphan_thumbnail_file"
        }
        files = [finding for finding in page if (finding.blob, finding.thumbnail) in still]
        running.report.leave("orphan_thumbnail_file", "changed", len(page) - len(files))
        running.report.repair("orphan_thumbnail_file", await _quarantine(running, files))


async def _orphan_rows(running: RepairContext) -> None:
    async for page in running.findings("orphan_thumbnail_row"):
        rows = [
            ThumbnailRow(finding.key, Thumbnail(*finding.thumbnail), finding.bytes)
            for finding in page
            if finding.key and finding.thumbnail
        ]
        again = await running.connection.fetch(SQL["thumbnails_by_key"], *thumbnail_columns(rows))
        rows = [thumbnail_row(row) for row in again]
        gone = await _release(running, "orphan_thumbnail_row", released_rows.release_orphan_thumbnails, rows)
        running.report.leave("orphan_thumbnail_row", "changed", len(page) - gone)


async def _dead_rows(running: RepairContext, kind: FindingKind) -> None:
    async for page in running.findings(kind):
        looks = await running.look(sorted({finding.blob for finding in page if finding.blob}))
        noted = {(finding.key, finding.thumbnail) for finding in page}
        still = [
            (row, blob)
            for blob, (known, seen) in looks.items()
            for finding in judge(known, seen, running.before)
            for row in known.thumbnails
            if finding.kind == kind
            and (row.key, row.thumbnail) == (finding.key, finding.thumbnail)
            and (row.key, row.thumbnail) in noted
        ]
        gone = await _release(
            running,
            kind,
            released_rows.release_dead_thumbnails,
            [row for row, _ in still],
            [blob for _, blob in still],
        )
        running.report.leave(kind, "changed", len(page) - gone)
        if kind == "thumbnail_size_mismatch":
            await _quarantine(running, page)


async def _release(
    running: RepairContext,
    kind: FindingKind,
    release: Release,
    rows: Sequence[ThumbnailRow],
    *more: Sequence[str],
) -> int:
    """Copy thumbnail rows into the ledger and delete them; return their number."""
    async with running.connection.transaction():
        await running.lease.check(running.connection)
        gone = await release(
            running.connection,
            running.pass_id,
            kind,
            running.session.context.config.grace,
            *thumbnail_columns(rows),
            [row.size for row in rows],
            *more,
        )
    running.report.repair(kind, len(gone))
    return len(gone)


async def _quarantine(running: RepairContext, findings: Sequence[Finding]) -> int:
    """Quarantine thumbnail files without a row, blob by blob; return their number."""
    wanted: dict[Hash, set[Thumbnail]] = {}
    for finding in findings:
        if finding.blob is not None and finding.thumbnail is not None:
            wanted.setdefault(finding.blob, set()).add(Thumbnail(*finding.thumbnail))
    moved = 0
    config = running.session.context.config
    for blob, (known, seen) in (await running.look(sorted(wanted))).items():
        rows = {row.thumbnail for row in known.thumbnails}
        files = sorted(
            name for name in wanted[blob]
            if name in seen.thumbnails and name not in rows and seen.file and not known.whole_held
        )  # fmt: skip
        if files:
            stray = Stray(blob, tuple(files), sum(seen.thumbnails[name].size for name in files))
            result = await quarantine_stray(
                running.session, running.pass_id, config.settle, stray, config.grace
            )
            if result.outcome == "moved":
                moved += len(files)
            elif result.outcome == "failed":
                running.report.fail("not_moved", 1)
    return moved
