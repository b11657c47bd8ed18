"""Take entries that are in quarantine on the disk, but not in the ledger, into the ledger.

Files whose rows are in the database are restored first. The others become entries without rows, which no sweep purges
on its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back
from retentiond.targets.dendrite_media.disk.layout import FILE, OWN, QUARANTINE, EntryPath, shelf
from retentiond.targets.dendrite_media.quarantine import entry_table
from retentiond.targets.dendrite_media.quarantine.entries import known_thumbnails
from retentiond.targets.dendrite_media.sweeps.inventory import list_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.model.acceptance import Acceptance
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import StoreSession

ACCEPT_SQL: Final = named_queries(__package__, "accept.sql")


class Highest(NamedTuple):
    """The highest numbers of a pass and of an entry."""

    pass_id: int
    entry_id: int


def highest_on_disk(tree: MediaTree) -> Highest:
    """Return the highest numbers in use on the disk: new numbers must be above them."""
    highest = Highest(0, 1)
    for entry in list_entries(tree):
        highest = Highest(max(highest.pass_id, entry.pass_id), max(highest.entry_id, entry.entry_id))
    return highest


async def take_in(
    session: StoreSession, acceptance: Acceptance, strangers: list[EntryPath], wanted: set[Hash]
) -> None:
    """Take a page of entries into the ledger, and count the outcomes in the acceptance."""
    context = session.context
    known = await known_thumbnails(session.context.pool, sorted(wanted))
    returns = [Return(entry, known.get(entry.hash, set())) for entry in strangers if entry.hash in wanted]
    results = await context.disk.share(bring_back(session.tree, session.claimant), returns)
    acceptance.returned += sum(result.outcome == "returned" for result in results)
    acceptance.failed += sum(result.outcome == "failed" for result in results)
    stands = {result.entry for result in results if result.live.size is not None}
    held = await context.disk.share(_measure(session.tree), await _number_anew(session, strangers))
    entries = [
        (
            one.entry.entry_id,
            one.entry.pass_id,
            one.entry.hash,
            "blob" if one.has_file else "thumbnails",
            "returned" if one.has_file and stranger in stands else "quarantined",
            one.files,
            one.bytes,
        )
        for stranger, one in zip(strangers, held, strict=True)
    ]
    await entry_table.take_in(session, entries)
    acceptance.taken += len(strangers)


async def _number_anew(session: StoreSession, strangers: list[EntryPath]) -> list[EntryPath]:
    """Return the paths of the entries, with new numbers where the ledger has given a number to another entry."""
    context = session.context
    rows = await context.pool.fetch(ACCEPT_SQL["taken_ids"], [entry.entry_id for entry in strangers])
    taken = {row["entry_id"] for row in rows}
    seen: set[int] = set()
    places: list[EntryPath] = []
    for entry in strangers:
        if entry.entry_id not in taken | seen:
            seen.add(entry.entry_id)
            places.append(entry)
            continue
        renamed = entry._replace(entry_id=await entry_table.new_id(context.pool))
        session.claimant.guard.ensure()
        await context.disk.call(_renaming(session.tree, entry, renamed))
        places.append(renamed)
    return places


def _renaming(tree: MediaTree, entry: EntryPath, renamed: EntryPath) -> Callable[[], None]:
    def rename() -> None:
        with tree.directory(OWN, QUARANTINE, str(entry.pass_id), shelf(entry.hash)) as parent:
            os.rename(entry.name, renamed.name, src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)

    return rename


class _Held(NamedTuple):
    entry: EntryPath
    has_file: bool
    files: int
    bytes: int


def _measure(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[_Held]]:
    def measure(entries: Sequence[EntryPath]) -> list[_Held]:
        return [_measure_one(tree, entry) for entry in entries]

    return measure


def _measure_one(tree: MediaTree, entry: EntryPath) -> _Held:
    context = (OWN, QUARANTINE, str(entry.pass_id), shelf(entry.hash), entry.name)
    with tree.directory(*context) as directory, os.scandir(directory) as found:
        sizes = {one.name: one.stat(follow_symlinks=False).st_size for one in found}
    return _Held(entry, FILE in sizes, len(sizes), sum(sizes.values()))
