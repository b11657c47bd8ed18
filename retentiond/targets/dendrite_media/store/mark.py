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

from retentiond.ledger.clocks import next_step
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
            raise _not_ours(f"{OWN}/{MARK} is not a regular file", target) from error
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
        raise _not_ours("an invalid store ID file", target) from error
    if not 0 <= mark.last_pass < _PASSES:
        raise _not_ours("an invalid store ID file", target)
    return mark


def _unreadable(tree: MediaTree, error: OSError) -> UnreachableError:
    return UnreachableError(f"the store ID file {tree.path}/{OWN}/{MARK} cannot be read: {disk_error(error)}")


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
            raise _not_ours("a store ID file, although this database has no ledger", target)
        return "new"
    if mark is None:
        if state.last_pass:
            raise _not_ours("no store ID file, although the ledger has passes", target)
        return "new"
    if mark.store_id != state.store_id:
        raise _not_ours("the store ID of another store", target)
    return "ahead" if mark.last_pass > state.last_pass else "fits"


def refuse_ahead(target: str) -> RefusedError:
    """Return the refusal that the database is older than the disk."""
    return RefusedError(
        Refusal(
            "restored_database",
            "the media directory has passes that are not in the database",
            "a ledger at least as new as the disk",
            "the database was restored from a backup: nothing is purged, and files that its rows need are restored; "
            f"restore the newer database, or continue with this one: {next_step(target)}",
        )
    )


def _not_ours(found: str, target: str) -> RefusedError:
    return RefusedError(
        Refusal(
            "another_store",
            found,
            "the store ID of this database's ledger",
            "check that the right disk is mounted at the media directory and that `database` is the right one; "
            f"nothing was changed; if both are right: {next_step(target)}",
        )
    )
