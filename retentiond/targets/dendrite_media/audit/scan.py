"""Walk the media directory in the order of the hashes, as fast as possible: the files of each blob as one line of text.

A blob whose line differs from the database is compared closely afterwards. Threads scan one `<h0>/<h1>` directory at
a time; nothing here changes anything.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.model.media import valid_hash
from retentiond.targets.dendrite_media.disk.layout import OWN, PROBE
from retentiond.targets.dendrite_media.disk.tree import DIRECTORY, ODD, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
class ScannedShelf:
    """The contents of one `<h0>/<h1>` directory.

    Blobs with their files (None: unreadable), sorted, and odd or unreadable paths.
    """

    shelf: Shelf
    blobs: list[tuple[Hash, str | None]] = field(default_factory=list)
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


def scan_shelves(tree: MediaTree) -> Callable[[Sequence[Shelf]], list[ScannedShelf]]:
    """Return the scan of some shelves for a thread."""

    def scan(shelves: Sequence[Shelf]) -> list[ScannedShelf]:
        return [_scan_shelf(tree, shelf) for shelf in shelves]

    return scan


def _scan_shelf(tree: MediaTree, shelf: Shelf) -> ScannedShelf:
    scanned = ScannedShelf(shelf)
    path = f"{shelf.first}/{shelf.second}"
    try:
        with tree.directory(*shelf) as parent:
            for entry in _sorted_entries(parent):
                blob = valid_hash(shelf.prefix + entry.name)
                if blob is None or not entry.is_dir(follow_symlinks=False):
                    scanned.odd.append(odd_entry(path, entry))
                    continue
                try:
                    scanned.blobs.append((blob, _contents(parent, entry.name)))
                except FileNotFoundError:
                    continue  # a pass, or dendrite, has just removed it
                except OSError as error:
                    if error.errno in ODD:
                        scanned.odd.append(odd_entry(path, entry))
                    else:
                        scanned.blobs.append((blob, None))
    except FileNotFoundError:
        pass
    except OSError:
        scanned.unreadable.append(path)
    return scanned


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
