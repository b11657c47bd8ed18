"""The inventory of the quarantine on the disk: it can be read without the ledger.

An entry that the ledger does not know is returned if a row has its hash, and is kept and reported otherwise.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.disk.bring_back import Return, bring_back, standing
from retentiond.targets.dendrite_media.disk.layout import OWN, QUARANTINE, EntryPath, parse_entry
from retentiond.targets.dendrite_media.quarantine.entries import (
    known_entries,
    known_thumbnails,
    tell_returns,
    with_rows,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext


async def strangers_on_disk(
    context: TargetContext, tree: MediaTree, *, ledger: bool = True, whole: bool = True
) -> AsyncIterator[tuple[list[EntryPath], set[Hash]]]:
    """Stream pages of the entries in quarantine that the ledger does not know, with the hashes that have rows."""
    listing = list_entries(tree, whole=whole)
    while page := await context.disk.call(lambda: list(islice(listing, context.batch))):
        known = await known_entries(context.pool, page) if ledger else set()
        strangers = [entry for entry in page if entry not in known]
        if strangers:
            hashes = sorted({entry.hash for entry in strangers})
            wanted = await with_rows(context.pool, hashes)
            yield strangers, wanted


async def take_stock(session: StoreSession) -> int:
    """Compare the quarantine's directories with the ledger; return the number of unknown ones."""
    unknown = 0
    async for strange, wanted in strangers_on_disk(session.context, session.tree, whole=False):
        # An entry that a concurrent purge removed between the list and the query is not unknown.
        stands = await session.context.disk.share(standing(session.tree), strange)
        strangers = [entry for entry, stood in zip(strange, stands, strict=True) if stood]
        unknown += len(strangers)
        await _give_back(session, strangers, wanted)
    return unknown


async def _give_back(session: StoreSession, strangers: list[EntryPath], wanted: set[Hash]) -> None:
    known = await known_thumbnails(session.context.pool, sorted(wanted))
    returns = [Return(e, known.get(e.hash, set())) for e in strangers if e.hash in wanted]
    tell_returns(
        session, await session.context.disk.share(bring_back(session.tree, session.claimant), returns)
    )
    log = get_logger(target=session.context.name)
    for entry in strangers:
        log.warning(
            "inconsistency",
            kind="unknown_entry",
            path="/".join((OWN, *entry.shelf, entry.name)),
            wanted=entry.hash in wanted,
        )


def list_entries(tree: MediaTree, *, whole: bool = True) -> Iterator[EntryPath]:
    """Walk the quarantine on the disk, one directory at a time; names that we never make are skipped.

    Raise OSError if a directory cannot be read; unless `whole`, which logs it and continues.
    """
    for pass_name in _names(tree, OWN, QUARANTINE, whole=whole):
        for shelf_name in _names(tree, OWN, QUARANTINE, pass_name, whole=whole):
            for name in _names(tree, OWN, QUARANTINE, pass_name, shelf_name, whole=whole):
                entry = parse_entry(pass_name, name)
                if entry is not None and shelf_name in {entry.shelf[-1], entry.older_shelf[-1]}:
                    yield entry


def _names(tree: MediaTree, *parts: str, whole: bool) -> list[str]:
    try:
        with tree.directory(*parts) as directory:
            return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if whole:
            raise
        # A bad directory must not block the rest of a sweep.
        get_logger().error("item_failed", kind="unreadable", path="/".join(parts), error=disk_error(error))
        return []
