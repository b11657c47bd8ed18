"""Recovery: steps that a crash left open are finished, or taken back, by the next process.

A claim whose lock is free has a dead owner. Every step here can be interrupted and repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.disk.bring_back import standing
from retentiond.targets.dendrite_media.disk.layout import OWN, STAGING
from retentiond.targets.dendrite_media.disk.moves import MoveResult, take_purges_back
from retentiond.targets.dendrite_media.disk.staging import remove_staged, staged
from retentiond.targets.dendrite_media.quarantine.entries import carry_out, with_rows
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, Claim, change, claimed_pages
from retentiond.targets.dendrite_media.quarantine.refused_moves import give_up
from retentiond.targets.dendrite_media.restore.wanted import finish_restores
from retentiond.targets.dendrite_media.sweeps.purge import finish_purge

if TYPE_CHECKING:
    from asyncpg import Record

    from retentiond.model.report import SweepReport
    from retentiond.targets.dendrite_media.store.context import StoreSession

SQL: Final = named_queries(__package__, "recovery.sql")


async def recover(
    session: StoreSession, report: SweepReport, *, everything: bool = True, purging: bool = True
) -> None:
    """Take over the open steps of dead claim owners, and finish each by its state.

    With `everything` failed steps are tried again at any time. Without `purging` a purge is taken back as far as its
    files exist, and not finished.
    """
    claimants = [row["claimed_by"] for row in await session.context.pool.fetch(SQL["claimants"])]
    dead = await session.claimant.find_dead(claimants)
    async for page in claimed_pages(session, Claim.INHERITED, dead, everything):
        get_logger(target=session.context.name).info("steps_inherited", entries=len(page))
        stuck = [] if purging else await _take_purges_back(session, page)
        await _finish(session, report, [row for row in page if row not in stuck])
    if session.fit == "fits":
        report.restored += await finish_restores(session)
        await finish_restores(session, alone=True)


async def clear_staging(session: StoreSession, report: SweepReport) -> None:
    """Delete the unfinished restores of dead claim owners from staging; a failed deletion is tried again."""
    left = await session.context.disk.call(lambda: staged(session.tree))
    dead = await session.claimant.find_dead(set(left.values()))
    names = [name for name, claimant in left.items() if claimant in dead]
    if names:
        failed = await session.context.disk.call(remove_staged(session.tree, names))
        report.failed += len(failed)
        for name, error in failed.items():
            path = f"{OWN}/{STAGING}/{name}"
            get_logger(target=session.context.name).error(
                "item_failed", kind="not_removed", path=path, error=error
            )


async def _take_purges_back(session: StoreSession, page: list[Record]) -> list[Record]:
    """Rename purged entries back that are not unlinked yet; return the entries that the disk leaves as they are."""
    purges = {row["entry_id"]: row for row in page if row["state"] == "purging"}
    stands = await session.context.disk.share(
        standing(session.tree), [entry_path(row) for row in purges.values()]
    )
    away = [entry_path(row) for row, stood in zip(purges.values(), stands, strict=True) if stood is False]
    results = await session.context.disk.share(take_purges_back(session.tree, session.claimant.guard), away)
    failed = [result for result in results if result.outcome == "failed"]
    await give_up(session, failed, kind="not_restored")
    return [purges[result.entry.entry_id] for result in failed]


async def _finish(session: StoreSession, report: SweepReport, page: list[Record]) -> None:
    stands = await session.context.disk.share(standing(session.tree), [entry_path(row) for row in page])
    seen = list(zip(page, stands, strict=True))
    there = {row["entry_id"] for row, stood in seen if stood}
    # A bad directory blocks only its own entry: a later sweep tries again.
    unread = [row for row, stood in seen if stood is None]
    await give_up(
        session,
        [
            MoveResult(
                entry_path(row),
                "failed",
                "its directory in quarantine cannot be read; check the disk and its permissions",
            )
            for row in unread
        ],
    )
    report.failed += len(unread)
    page = [row for row, stood in seen if stood is not None]
    # A database restored from a backup describes an older disk: its states finish no step.
    finish = session.fit == "fits"
    await _finish_intents(
        session, report, [r for r in page if r["state"] == "intended"], there, finish=finish
    )
    purges = [row for row in page if row["state"] == "purging"]
    await change(session, Change.DEMOTED, [row["entry_id"] for row in purges if row["entry_id"] in there])
    away = [row for row in purges if row["entry_id"] not in there]
    if finish:
        await finish_purge(session, report, away)
    # An open restore is finished by its marked rows; the entry itself is a copy, as it was.
    restoring = [row["entry_id"] for row in page if row["state"] == "restoring"]
    await change(session, Change.DEMOTED, restoring)
    rest = [row["entry_id"] for row in page if row["state"] in {"quarantined", "returned", "lost"}]
    await change(session, Change.LET_GO, rest + ([] if finish else [row["entry_id"] for row in away]))


async def _finish_intents(
    session: StoreSession, report: SweepReport, intents: list[Record], there: set[int], *, finish: bool
) -> None:
    thumbnails = [row["entry_id"] for row in intents if row["kind"] == "thumbnails"]
    await change(session, Change.THUMBNAILS_QUARANTINED, [entry for entry in thumbnails if entry in there])
    await change(session, Change.INTENT_DROPPED, [entry for entry in thumbnails if entry not in there])
    blobs = [row for row in intents if row["kind"] == "blob"]
    wanted = await with_rows(session.context.pool, [row["hash"] for row in blobs])
    # No file was moved, and it has a row again: no step is open.
    await change(
        session,
        Change.INTENT_DROPPED,
        [row["entry_id"] for row in blobs if row["hash"] in wanted and row["entry_id"] not in there],
    )
    open_steps = [row for row in blobs if row["hash"] not in wanted or row["entry_id"] in there]
    if finish:
        moves = await carry_out(session, [entry_path(row) for row in open_steps])
        report.returned += moves.returned
        report.lost += moves.lost
        report.failed += moves.failed
    else:
        await change(
            session,
            Change.DEMOTED,
            [row["entry_id"] for row in open_steps if row["entry_id"] in there],
        )
        await change(
            session, Change.LET_GO, [row["entry_id"] for row in open_steps if row["entry_id"] not in there]
        )
