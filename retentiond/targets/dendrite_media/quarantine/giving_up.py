"""Let go of entries that could not be worked on; the next sweep tries them again, and later ones after longer waits.

Each failure is logged when it happens, so the delay also bounds the log; `status` counts the entries meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.targets.dendrite_media.quarantine.entry_table import note_failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.targets.dendrite_media.disk.moves import MoveResult
    from retentiond.targets.dendrite_media.store.workplace import Workplace


async def give_up(
    work: Workplace, results: Sequence[MoveResult], *, kind: str = "not_moved", error: str = ""
) -> None:
    """Let go of claimed entries for the errors of their moves, or for one `error` that they share, and log each."""
    log = get_logger(target=work.place.name)
    for result in results:
        log.error("item_failed", kind=kind, hash=result.entry.hash, error=error or result.error)
    await note_failures(work, [(result.entry, error or result.error) for result in results])
