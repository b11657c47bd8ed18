"""Accept a store whose database and disk do not fit, or whose clock leapt: first a look, then the steps to continue.

Files whose rows are in the database are restored. All other entries in quarantine are taken into the ledger, and kept
until they are purged by hand; entries whose files are gone are closed. Each step can be repeated. The store ID file
is written last: until then every pass is refused.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.acceptance import accepts_clock, look_at_ledger, save_acceptance
from retentiond.ledger.claims import claimant
from retentiond.ledger.host import actor
from retentiond.model.acceptance import Acceptance, Known
from retentiond.model.errors import RefusedError
from retentiond.model.media import valid_hash
from retentiond.model.report import SweepReport
from retentiond.targets.dendrite_media.database.rows import KIND, entry_path
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back, live_blobs, standing
from retentiond.targets.dendrite_media.disk.layout import FILE, EntryPath
from retentiond.targets.dendrite_media.disk.look import file_missing
from retentiond.targets.dendrite_media.disk.moves import sync_shelves_parents
from retentiond.targets.dendrite_media.disk.shelves import Shelves
from retentiond.targets.dendrite_media.disk.tree import MediaTree
from retentiond.targets.dendrite_media.quarantine import entry_table, released_rows
from retentiond.targets.dendrite_media.quarantine.entries import known_thumbnails, record_lost
from retentiond.targets.dendrite_media.quarantine.entry_table import Change, Claim, change, claimed_pages
from retentiond.targets.dendrite_media.store.context import StoreSession
from retentiond.targets.dendrite_media.store.mark import Mark, compare, read_mark, refuse_ahead, write_mark
from retentiond.targets.dendrite_media.store.safety import check_directory
from retentiond.targets.dendrite_media.sweeps.inventory import list_entries, strangers_on_disk
from retentiond.targets.dendrite_media.sweeps.recovery import recover

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.ledger.lease import Lease
    from retentiond.ledger.ledger import StoreState
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.store.context import TargetContext


SQL: Final = named_queries(__package__, "accept.sql")
_SAMPLE: Final = 1000


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
    rows = await context.pool.fetch(SQL["taken_ids"], [entry.entry_id for entry in strangers])
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
        with tree.synced(), Shelves(tree, changes=True) as shelves:
            shelf = shelves.holding(entry)
            if shelf is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), entry.name)
            os.rename(entry.name, renamed.name, src_dir_fd=shelf, dst_dir_fd=shelves.make(renamed))
            shelves.sync()
            sync_shelves_parents(tree, [renamed])

    return rename


class _Held(NamedTuple):
    entry: EntryPath
    has_file: bool
    files: int
    bytes: int


def _measure(tree: MediaTree) -> Callable[[Sequence[EntryPath]], list[_Held]]:
    def measure(entries: Sequence[EntryPath]) -> list[_Held]:
        with Shelves(tree) as shelves:
            return [_measure_one(shelves, entry) for entry in entries]

    return measure


def _measure_one(shelves: Shelves, entry: EntryPath) -> _Held:
    with shelves.inside(entry) as directory, os.scandir(directory) as found:
        sizes = {one.name: one.stat(follow_symlinks=False).st_size for one in found}
    return _Held(entry, FILE in sizes, len(sizes), sum(sizes.values()))


async def look_at_store(context: TargetContext) -> Acceptance:
    """Report the entries that the ledger and the disk know, and the files that rows need; change nothing."""
    with await context.disk.call(lambda: MediaTree(context.settings.media_path)) as tree:
        ledger = await context.ledger.exists(context.pool)
        if ledger:
            await context.ledger.check_version(context.pool)
        return await _look(
            context, tree, await context.ledger.store(context.pool, context.name, KIND) if ledger else None
        )


async def accept_store(context: TargetContext, lease: Lease) -> Acceptance:
    """Accept the store under its lease, and report the steps; a ledger exists.

    Raise RefusedError for a store that no acceptance overrides: an empty directory beside rows, or another device.
    """
    with await context.disk.call(lambda: MediaTree(context.settings.media_path)) as tree:
        state = await context.ledger.store(context.pool, context.name, KIND)
        acceptance = await _look(context, tree, state)
        async with claimant(context.settings.database) as claiming:
            # In an older database no state of an entry is up to date: nothing is finished, and nothing is deleted.
            await _accept(StoreSession(context, tree, claiming, state, "ahead"), lease, acceptance)
    return acceptance


async def _look(context: TargetContext, tree: MediaTree, state: StoreState | None) -> Acceptance:
    acceptance = Acceptance(context.name)
    mark = await _read_mark(context, tree, acceptance)
    if mark is not None:
        acceptance.disk = Known(str(mark.store_id), mark.last_pass, mark.written_at or None)
    if not acceptance.refused:
        _note_fit(mark, state, acceptance)
    if state is not None:
        await look_at_ledger(context.pool, state, acceptance)
    async for strangers, wanted in strangers_on_disk(context, tree, ledger=state is not None):
        acceptance.unknown += len(strangers)
        acceptance.wanted += sum(entry.hash in wanted for entry in strangers)
    if state is not None:
        acceptance.gone = await _count_gone(context, tree)
    hashes = [row["hash"] for row in await context.pool.fetch(SQL["sample_contents"], _SAMPLE)]
    missing = await context.disk.share(
        file_missing(tree), [blob for text in hashes if (blob := valid_hash(text))]
    )
    acceptance.sampled, acceptance.without_file = len(missing), sum(missing)
    return acceptance


async def _read_mark(context: TargetContext, tree: MediaTree, acceptance: Acceptance) -> Mark | None:
    try:
        return await context.disk.call(lambda: read_mark(tree, context.name))
    except RefusedError as error:
        acceptance.refused.append(error.refusal)
        return None


def _note_fit(mark: Mark | None, state: StoreState | None, acceptance: Acceptance) -> None:
    try:
        if compare(mark, state, acceptance.target) == "ahead":
            raise refuse_ahead(acceptance.target)
    except RefusedError as error:
        acceptance.refused.append(error.refusal)


async def _count_gone(context: TargetContext, tree: MediaTree) -> int:
    gone = after = 0
    while rows := await context.pool.fetch(SQL["entries_page"], after, context.batch):
        after = rows[-1]["entry_id"]
        gone += (await context.disk.share(standing(tree), [entry_path(row) for row in rows])).count(False)
    return gone


async def _accept(session: StoreSession, lease: Lease, acceptance: Acceptance) -> None:
    context, tree = session.context, session.tree
    await check_directory(context, context.pool, tree)
    await context.disk.call(tree.prepare)
    await context.disk.call(tree.probe)
    await recover(session, SweepReport())
    highest = await context.disk.call(lambda: highest_on_disk(tree))
    await entry_table.raise_ids(context.pool, highest.entry_id)
    async for strangers, wanted in strangers_on_disk(context, tree):
        await take_in(session, acceptance, strangers, wanted)
    await _close_gone(session, acceptance)
    last_pass = max(highest.pass_id, acceptance.disk.last_pass or 0, session.state.last_pass)
    mark = await _accept_ledger(session, lease, acceptance, last_pass)
    await context.disk.call(lambda: write_mark(tree, mark))
    acceptance.accepted = True


async def _close_gone(session: StoreSession, acceptance: Acceptance) -> None:
    """Close entries whose files are gone: as lost, or as finished where the live file is whole without the copy."""
    async for page in claimed_pages(session, Claim.STANDING):
        stands = await session.context.disk.share(standing(session.tree), [entry_path(row) for row in page])
        seen = list(zip(page, stands, strict=True))
        gone = [row for row, stood in seen if stood is False]
        live = await session.context.disk.share(
            live_blobs(session.tree), sorted({row["hash"] for row in gone})
        )
        whole = {blob.blob for blob in live if blob.size is not None}
        unread = {blob.blob for blob in live if blob.error}
        gone = [row for row in gone if row["hash"] not in unread]
        spares = [row["entry_id"] for row in gone if row["state"] == "returned" and row["hash"] in whole]
        lost = [entry_path(row) for row in gone if row["state"] != "returned" or row["hash"] not in whole]
        await change(session, Change.FORGOTTEN, spares)
        await record_lost(session, lost, "its files were gone when the store was accepted")
        acceptance.lost += len(lost)
        closed = {row["entry_id"] for row in gone}
        await change(
            session, Change.LET_GO, [row["entry_id"] for row in page if row["entry_id"] not in closed]
        )


async def _accept_ledger(session: StoreSession, lease: Lease, acceptance: Acceptance, last_pass: int) -> Mark:
    context = session.context
    async with context.pool.acquire() as connection, connection.transaction():
        await lease.check(connection)
        if accepts_clock(acceptance):
            await released_rows.begin_anew(connection, context.config.grace)
        store = await save_acceptance(connection, context.ledger, acceptance, last_pass)
    return Mark(store["store_id"], store["accepted_pass"], accepted_by=actor())
