"""Stray thumbnails: files beside a blob that stays, whose rows were deleted with another media item of the same blob.

They would keep dendrite from ever making those thumbnails again. They go through the quarantine as blobs do; the
check for rows is by hash, size and method.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back, standing
from retentiond.targets.dendrite_media.disk.layout import (
    FILE,
    EntryPath,
    Thumbnail,
    blob_parts,
    parse_thumbnail,
)
from retentiond.targets.dendrite_media.disk.moves import MoveResult, regular_file
from retentiond.targets.dendrite_media.disk.shelves import Shelves
from retentiond.targets.dendrite_media.disk.thumbnails import ThumbnailMove, quarantine_thumbnails
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.entries import known_thumbnails, mark_purging, tell_returns
from retentiond.targets.dendrite_media.quarantine.entry_table import (
    Change,
    Claim,
    change,
    claimed_pages,
    intend_stray,
    looked_at_thumbnails,
    note_failures,
)
from retentiond.targets.dendrite_media.restore.wanted import restore_refuted
from retentiond.targets.dendrite_media.surveys.asked import references_asked_again
from retentiond.targets.dendrite_media.sweeps.purge import finish_purge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.model.media import Hash
    from retentiond.model.report import SweepReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import StoreSession

SQL: Final = named_queries(__package__, "strays.sql")

# dendrite writes a thumbnail before its row; the row of a young file may still be written.
_YOUNG: Final = 3600.0
# dendrite makes a thumbnail again, so that a copy of the references may be as old as a sweep's.
_COPY_AGE: Final = timedelta(hours=1)


class Stray(NamedTuple):
    """Thumbnail files of a live blob without a row; bytes together. `young`: others may still be written."""

    blob: Hash
    thumbnails: tuple[Thumbnail, ...] = ()
    bytes: int = 0
    young: bool = False


async def sweep_strays(session: StoreSession, report: SweepReport, *, everything: bool) -> None:
    """Check the stray thumbnails in quarantine, purge the expired ones, and quarantine new ones."""
    await _ask_again(session, report)
    if await _look(session, report, everything=everything):
        # The second look, at another moment than the first.
        await _look(session, report, everything=everything)
    await released_rows.forget_thumbnails_alone(session.context.pool)
    await _take(session)


async def _ask_again(session: StoreSession, report: SweepReport) -> None:
    """Restore thumbnails that are about to be purged and whose release would not be repeated."""
    pool = session.context.pool
    if not await pool.fetchval(SQL["any_asked_thumbnails_due"]):
        return
    references = await references_asked_again(session.context, pool)
    oldest = await pool.fetchval("SELECT clock_timestamp()") - _COPY_AGE
    report.restored += await restore_refuted(session, references, begun_after=oldest, alone=True)


async def _take(session: StoreSession) -> None:
    after = ""
    while True:
        page = await session.context.pool.fetch(SQL["shared_due"], after, session.context.batch)
        if not page:
            return
        after = page[-1]["hash"]
        by_hash = {row["hash"]: row for row in page}
        known = await known_thumbnails(session.context.pool, list(by_hash))
        found = await session.context.disk.share(_find(session.tree, known, time.time()), list(by_hash))
        for stray in found:
            if stray.thumbnails:
                shared = by_hash[stray.blob]
                result = await quarantine_stray(session, shared["pass_id"], shared["settle"], stray)
                if result.outcome == "failed":
                    # Another hour: it must not be tried, and logged, every minute.
                    again = shared["pass_id"], shared["settle"], [stray.blob]
                    await released_rows.note_shared(session.context.pool, *again)
        done = [stray.blob for stray in found if not stray.young]
        await released_rows.forget_shared(session.context.pool, done)


def _find(
    tree: MediaTree, known: dict[Hash, set[Thumbnail]], now: float
) -> Callable[[Sequence[Hash]], list[Stray]]:
    def find(blobs: Sequence[Hash]) -> list[Stray]:
        return [_find_in(tree, blob, known.get(blob, set()), now) for blob in blobs]

    return find


def _find_in(tree: MediaTree, blob: Hash, known: set[Thumbnail], now: float) -> Stray:
    strays, size, young = [], 0, False
    try:
        with tree.directory(*blob_parts(blob)) as live:
            if regular_file(live, FILE) is None:
                return Stray(blob)
            for name in sorted(os.listdir(live)):
                thumbnail = parse_thumbnail(name)
                file = regular_file(live, name) if thumbnail and thumbnail not in known else None
                if thumbnail and file and now - file.changed <= _YOUNG:
                    young = True
                elif thumbnail and file:
                    strays.append(thumbnail)
                    size += file.size
    except FileNotFoundError:
        return Stray(blob)
    except OSError:
        # A later sweep looks again.
        return Stray(blob, young=True)
    return Stray(blob, tuple(strays), size, young)


async def quarantine_stray(
    session: StoreSession, pass_id: int, settle: timedelta, stray: Stray, grace: timedelta | None = None
) -> MoveResult:
    """Move stray thumbnails of one blob into quarantine; return the outcome.

    Without a `grace` they are purged as soon as the grace of their rows is over.
    """
    held = len(stray.thumbnails), stray.bytes
    entry_id = await intend_stray(session, pass_id, stray.blob, held, settle, grace)
    entry = EntryPath(pass_id, stray.blob, entry_id)
    [result] = await session.context.disk.share(
        quarantine_thumbnails(session.tree, session.claimant.guard), [ThumbnailMove(entry, stray.thumbnails)]
    )
    if result.outcome == "failed":
        get_logger(target=session.context.name).error(
            "item_failed", kind="not_moved", hash=stray.blob, error=result.error
        )
        [stands] = await session.context.disk.share(standing(session.tree), [entry])
        if stands is None:
            await note_failures(session, [(entry, result.error)])
            return result
    else:
        stands = result.outcome == "moved"
    await change(session, Change.THUMBNAILS_QUARANTINED if stands else Change.INTENT_DROPPED, [entry_id])
    return result


async def _look(session: StoreSession, report: SweepReport, *, everything: bool) -> bool:
    """Look at all of them once and purge those that a sweep had looked at before.

    Return whether others lack only that look.
    """
    again = False
    async for page in claimed_pages(session, Claim.THUMBNAILS, everything):
        looked = await session.context.pool.fetchval("SELECT statement_timestamp()")
        known = await known_thumbnails(session.context.pool, [row["hash"] for row in page])
        returns = [Return(entry_path(row), known.get(row["hash"], set())) for row in page]
        wanted = await session.context.disk.share(_wanted(session.tree), returns)
        back = [wish for wish, is_wanted in zip(returns, wanted, strict=True) if is_wanted]
        results = await session.context.disk.share(bring_back(session.tree, session.claimant), back)
        report.returned += tell_returns(session, results)
        await note_failures(
            session, [(result.entry, result.error) for result in results if result.outcome == "failed"]
        )
        over = [
            row for row, is_wanted in zip(page, wanted, strict=True) if row["over"] and is_wanted is False
        ]
        due = [row for row in over if row["looked"]]
        again = again or len(due) < len(over)
        marked = await mark_purging(session, due)
        await finish_purge(session, report, [row for row in due if row["entry_id"] in marked])
        rest = [row["entry_id"] for row in page if row["entry_id"] not in marked]
        unwanted = {
            row["entry_id"] for row, is_wanted in zip(page, wanted, strict=True) if is_wanted is False
        }
        await looked_at_thumbnails(session, [entry for entry in rest if entry in unwanted], looked)
        await change(session, Change.LET_GO, [entry for entry in rest if entry not in unwanted])
    return again


def _wanted(tree: MediaTree) -> Callable[[Sequence[Return]], list[bool | None]]:
    """Return, for a thread's share, whether a row has a thumbnail that we hold and that is missing live.

    None if the disk cannot be read: the entry stays as it is.
    """

    def wanted(returns: Sequence[Return]) -> list[bool | None]:
        return [_is_wanted(tree, wish) for wish in returns]

    return wanted


def _is_wanted(tree: MediaTree, wish: Return) -> bool | None:
    entry = wish.entry
    try:
        with (
            Shelves(tree) as shelves,
            shelves.inside(entry) as copy,
            tree.directory(*blob_parts(entry.hash)) as live,
        ):
            return any(
                regular_file(copy, thumbnail.name) and not regular_file(live, thumbnail.name)
                for thumbnail in wish.thumbnails or ()
            )
    except FileNotFoundError:
        return False
    except OSError:
        return None
