"""Let go of entries that could not be worked on; the next sweep tries them again, and later ones after longer waits.

Each failure is logged when it happens, so the delay also bounds the log; `status` counts the entries meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.targets.dendrite_media.disk.layout import EntryPath
    from retentiond.targets.dendrite_media.disk.moves import MoveResult
    from retentiond.targets.dendrite_media.store.workplace import Workplace

SQL: Final = named_queries(__package__, "giving_up.sql")


async def give_up(
    work: Workplace, results: Sequence[MoveResult], *, kind: str = "not_moved", error: str = ""
) -> None:
    """Let go of claimed entries for the errors of their moves, or for one `error` that they share, and log each."""
    log = get_logger(target=work.place.name)
    for result in results:
        log.error("item_failed", kind=kind, hash=result.entry.hash, error=error or result.error)
    await note_failures(work, [(result.entry, error or result.error) for result in results])


async def note_failures(work: Workplace, failures: Sequence[tuple[EntryPath, str]]) -> None:
    """Let go of claimed entries, each with its problem; what was being restored lies in quarantine as before."""
    if not failures:
        return
    async with work.place.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            SQL["note_failures"],
            [entry.entry_id for entry, _ in failures],
            [problem for _, problem in failures],
            work.claimant.claimant_id,
        )
