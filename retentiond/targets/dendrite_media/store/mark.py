"""The store ID file, `.retentiond/store`: the ledger to which this directory belongs, and its last pass.

It is written after the ledger's commit, never before. So a file that is ahead of the ledger shows a database that was
restored from a backup, and a missing or foreign file shows a wrong disk.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from retentiond.ledger.clocks import way_on
from retentiond.model.disk_errors import disk_error
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.targets.dendrite_media.disk.layout import MARK, OWN
from retentiond.targets.dendrite_media.disk.plain import make_plain, open_plain
from retentiond.targets.dendrite_media.disk.tree import ODD

if TYPE_CHECKING:
    from retentiond.ledger.ledger import StoreState
    from retentiond.targets.dendrite_media.disk.tree import MediaTree

Fit = Literal["new", "fits", "ahead"]
"""`new`: neither side has had a pass. `ahead`: the disk knows passes that the ledger does not."""

_LARGEST: Final = 4096
_PASSES: Final = 2**53


@dataclass(frozen=True, slots=True)
class Mark:
    """The contents of the store ID file."""

    store_id: UUID
    last_pass: int
    accepted_by: str | None = None
    written_at: str | None = None


def read_mark(tree: MediaTree, target: str) -> Mark | None:
    """Read the store ID file; None if it does not exist.

    Raise RefusedError for a file that is not ours, and UnreachableError if the disk cannot be read.
    """
    try:
        with tree.directory(OWN) as own:
            descriptor = open_plain(MARK, own)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (*ODD, errno.EINVAL, errno.ENXIO):
            raise _not_ours("no plain file where the mark should be", target) from error
        raise _unreadable(tree, error) from error
    try:
        with open(descriptor, "rb") as file:
            text = file.read(_LARGEST)
    except OSError as error:
        raise _unreadable(tree, error) from error
    try:
        said: Any = json.loads(text)
        mark = Mark(UUID(str(said["store"])), int(said["last_pass"]), written_at=str(said["written_at"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours("not a mark of retentiond", target) from error
    if not 0 <= mark.last_pass < _PASSES:
        raise _not_ours("not a mark of retentiond", target)
    return mark


def _unreadable(tree: MediaTree, error: OSError) -> UnreachableError:
    return UnreachableError(
        f"{tree.path}/{OWN}/{MARK}, which says whether this is the right store, cannot be read: {disk_error(error)}"
    )


def write_mark(tree: MediaTree, mark: Mark) -> None:
    """Write the store ID file whole or not at all, and sync it."""
    said = {
        "store": str(mark.store_id),
        "last_pass": mark.last_pass,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(said | ({"accepted_by": mark.accepted_by} if mark.accepted_by else {}))
    try:
        with tree.directory(OWN) as own:
            with open(make_plain(MARK + ".new", own), "wb") as file:
                file.write(text.encode() + b"\n")
                file.flush()
                tree.adopt(file.fileno(), tree.owner, 0o600)
                os.fsync(file.fileno())
            os.rename(MARK + ".new", MARK, src_dir_fd=own, dst_dir_fd=own)
            os.fsync(own)
    except OSError as error:
        raise tree.unwritable(error) from error


def compare(mark: Mark | None, state: StoreState | None, target: str) -> Fit:
    """Compare the disk with the ledger (None: no ledger); raise RefusedError if they belong to different stores."""
    if state is None:
        if mark is not None:
            raise _not_ours("a mark, though this database has no ledger", target)
        return "new"
    if mark is None:
        if state.last_pass:
            raise _not_ours("no mark, though the ledger has had passes", target)
        return "new"
    if mark.store_id != state.store_id:
        raise _not_ours("the mark of another store", target)
    return "ahead" if mark.last_pass > state.last_pass else "fits"


def refuse_ahead(target: str) -> RefusedError:
    """Return the refusal that the database is older than the disk."""
    return RefusedError(
        Refusal(
            "restored_database",
            "the media directory knows passes that the database does not",
            "a ledger at least as new as the disk",
            "the database was put back to an earlier day: nothing is purged, and what rows bear comes back; "
            f"put the newer database back, or go on with this one: {way_on(target)}",
        )
    )


def _not_ours(found: str, target: str) -> RefusedError:
    return RefusedError(
        Refusal(
            "another_store",
            found,
            "the mark that this database's ledger made",
            "check that the right disk is mounted at the media directory and that `database` is the right one; "
            f"nothing was touched; if both are right: {way_on(target)}",
        )
    )
