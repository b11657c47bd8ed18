"""What stands live although no row bears it any more goes into quarantine again, as an entry of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.targets.dendrite_media.database.rows import entry_path
from retentiond.targets.dendrite_media.disk.layout import EntryPath
from retentiond.targets.dendrite_media.disk.look import look_at_blobs
from retentiond.targets.dendrite_media.quarantine.entries import carry_out, intended
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, change, intend, note_failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from retentiond.targets.dendrite_media.store.workplace import Workplace


async def quarantine_again(work: Workplace, rows: Sequence[Record]) -> None:
    """Make copies of returned entries (claimed by us) wait anew, and quarantine what was linked into place for them.

    An upload on its way, that has its file and not its row yet, is looked for by the sweeps as ever. Where the live
    blob stays, since the disk refuses the move, its spares stay returned until a later sweep tries again.
    """
    if not rows:
        return
    blobs = {row["hash"] for row in rows}
    # A pass that has just released the last row renames the file itself.
    moving = await intended(work.place.pool, blobs)
    looks = await work.place.disk.share(look_at_blobs(work.tree), sorted(blobs - moving))
    present = {look.blob: look for look in looks if look.result == "present"}
    refused = {look.blob: look.problem for look in looks if look.result == "failed"}
    for row in rows:
        look = present.pop(row["hash"], None)
        if look is None:
            continue
        async with work.place.pool.acquire() as connection, connection.transaction():
            recorded = await intend(connection, work, row["pass_id"], [look])
        moves = await carry_out(
            work, [EntryPath(row["pass_id"], entry["hash"], entry["entry_id"]) for entry in recorded]
        )
        refused |= dict.fromkeys([look.blob] if moves.failed else [], ", ".join(moves.errors))
    stay = [(entry_path(row), refused[row["hash"]]) for row in rows if row["hash"] in refused]
    await note_failures(work, stay)
    moved = [row["entry_id"] for row in rows if row["hash"] not in refused]
    await change(work, Change.QUARANTINED_AGAIN, moved)
