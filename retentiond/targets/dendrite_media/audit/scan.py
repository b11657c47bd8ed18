"""Walk the media directory in the order of the hashes, as fast as possible: the files of each blob as one line of text.

A blob whose line differs from the database is compared closely afterwards. One thread scans a run of whole `<h0>/<h1>`
directories at a time: several threads would hand the interpreter's lock to each other at each call. Nothing here
changes anything.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.model.media import valid_hash
from retentiond.targets.dendrite_media.disk.layout import OWN, PROBE
from retentiond.targets.dendrite_media.disk.tree import DIRECTORY, ODD, inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.tree import MediaTree

UPLOADS: Final = "tmp"
_TYPE: Final = 0o170000
_REGULAR: Final = stat.S_IFREG
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class OddPath(NamedTuple):
    """A path that dendrite does not make; its size in bytes, 0 if it is not a file."""

    path: str
    size: int


class Shelf(NamedTuple):
    """One `<h0>/<h1>` directory."""

    first: str
    second: str

    @property
    def prefix(self) -> str:
        """The first characters of the hashes in it."""
        return self.first + self.second


@dataclass(slots=True)
class Levels:
    """The upper levels of the media directory.

    The `<h0>/<h1>` directories, sorted as the hashes are, and odd or unreadable paths.
    """

    shelves: list[Shelf] = field(default_factory=list)
    odd: list[OddPath] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    has_uploads: bool = False


@dataclass(slots=True)
class ScannedRun:
    """The contents of some `<h0>/<h1>` directories in a row, up to the one with the prefix `last`.

    Blobs with their files (None: unreadable), sorted, and odd or unreadable paths. `shelves` is the number of
    directories.
    """

    shelves: int = 0
    last: str = ""
    blobs: dict[Hash, str | None] = field(default_factory=dict)
    odd: list[OddPath] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def list_levels(tree: MediaTree) -> Levels:
    """List the two upper levels."""
    levels = Levels()
    firsts = []
    for entry in _sorted_entries(tree.root):
        if entry.name in _LETTERS and entry.is_dir(follow_symlinks=False):
            firsts.append(entry.name)
        elif entry.name == UPLOADS and entry.is_dir(follow_symlinks=False):
            levels.has_uploads = True
        elif entry.name not in (OWN, PROBE):
            levels.odd.append(odd_entry("", entry))
    for first in firsts:
        try:
            with inside(tree.root, first) as upper:
                for entry in _sorted_entries(upper):
                    if entry.name in _LETTERS and entry.is_dir(follow_symlinks=False):
                        levels.shelves.append(Shelf(first, entry.name))
                    else:
                        levels.odd.append(odd_entry(first, entry))
        except OSError:
            levels.unreadable.append(first)
    return levels


def _sorted_entries(descriptor: int) -> list[os.DirEntry[str]]:
    with os.scandir(descriptor) as entries:
        found = list(entries)
    # While the descriptor is open, the size of an entry can still be read.
    return sorted(found, key=lambda entry: entry.name)


def odd_entry(parent: str, entry: os.DirEntry[str]) -> OddPath:
    """Return the path, size and kind of a file that dendrite does not make."""
    path = f"{parent}/{entry.name}" if parent else entry.name
    try:
        about = entry.stat(follow_symlinks=False)
    except OSError:
        return OddPath(path, 0)
    return OddPath(path, about.st_size if stat.S_ISREG(about.st_mode) else 0)


def scan_run(tree: MediaTree, shelves: Sequence[Shelf], start: int, most: int) -> ScannedRun:
    """Scan whole directories from the position `start`, until they hold at least `most` blobs."""
    scanned = ScannedRun()
    for shelf in islice(shelves, start, None):
        _scan_shelf(tree, shelf, scanned)
        scanned.shelves += 1
        scanned.last = shelf.prefix
        if len(scanned.blobs) >= most:
            break
    return scanned


def _scan_shelf(tree: MediaTree, shelf: Shelf, scanned: ScannedRun) -> None:
    path = f"{shelf.first}/{shelf.second}"
    try:
        with tree.directory(*shelf) as parent:
            for entry in _sorted_entries(parent):
                blob = valid_hash(shelf.prefix + entry.name)
                if blob is None or not entry.is_dir(follow_symlinks=False):
                    scanned.odd.append(odd_entry(path, entry))
                    continue
                try:
                    scanned.blobs[blob] = _contents(parent, entry.name)
                except FileNotFoundError:
                    continue  # a pass, or dendrite, has just removed it
                except OSError as error:
                    if error.errno in ODD:
                        scanned.odd.append(odd_entry(path, entry))
                    else:
                        scanned.blobs[blob] = None
    except FileNotFoundError:
        pass
    except OSError:
        scanned.unreadable.append(path)


def _contents(parent: int, name: str) -> str:
    """Return the names and sizes of a blob's files: `file:10 thumbnail-32x32-crop:5`.

    It runs for every blob of the store, so it is written for speed.
    """
    descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        found = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                found.append(f"{entry.name}:{about.st_size if about.st_mode & _TYPE == _REGULAR else '?'}")
    finally:
        os.close(descriptor)
    found.sort()
    return " ".join(found)
