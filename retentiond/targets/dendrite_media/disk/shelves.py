"""Shelves: the directories of the quarantine that hold entries, opened once each for a run of work in one thread.

An entry is moved to the shelf of its number. One that an older version moved stays on the shelf of its hash until it
is restored or purged, so every search asks both; which passes have such shelves is read once a run.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from retentiond.targets.dendrite_media.disk.layout import OWN, QUARANTINE, EntryPath
from retentiond.targets.dendrite_media.disk.tree import DIRECTORY, DirectoryCache, MediaTree

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shelves(DirectoryCache):
    """The shelves of a run of entries; with `changes` they are synced at its end."""

    def __init__(self, tree: MediaTree, *, changes: bool = False) -> None:
        super().__init__(tree, changes=changes)
        self._older: dict[int, frozenset[str]] = {}

    def make(self, entry: EntryPath) -> int:
        """Return the shelf of an entry, made if it is missing; raise OSError."""
        return self.get(*entry.shelf, own=True)

    def older(self, entry: EntryPath) -> int | None:
        """Return the older shelf that has an entry; None if it has not. Raise OSError."""
        if entry.older_shelf[-1] in self._older_of(entry.pass_id):
            with suppress(FileNotFoundError):
                shelf = self.get(OWN, *entry.older_shelf)
                return shelf if stands(shelf, entry.name) else None
        return None

    def search(self, entry: EntryPath) -> Iterator[int]:
        """Return the existing shelves that may have an entry, today's first; raise OSError."""
        candidates = [entry.shelf]
        if entry.older_shelf[-1] in self._older_of(entry.pass_id):
            candidates.append(entry.older_shelf)
        for parts in candidates:
            try:
                shelf = self.get(OWN, *parts)
            except FileNotFoundError:
                continue
            yield shelf

    def holding(self, entry: EntryPath) -> int | None:
        """Return the shelf that has an entry; None if it is in neither. Raise OSError."""
        for shelf in self.search(entry):
            if stands(shelf, entry.name):
                return shelf
        return None

    @contextmanager
    def inside(self, entry: EntryPath) -> Iterator[int]:
        """Open the directory of an entry, through no link; raise OSError, FileNotFoundError without one."""
        for shelf in self.search(entry):
            try:
                descriptor = os.open(entry.name, DIRECTORY, dir_fd=shelf)
            except FileNotFoundError:
                continue
            try:
                yield descriptor
            finally:
                os.close(descriptor)
            return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), entry.name)

    def _older_of(self, pass_id: int) -> frozenset[str]:
        if pass_id not in self._older:
            try:
                names = os.listdir(self.get(OWN, QUARANTINE, str(pass_id)))
            except FileNotFoundError:
                names = []
            self._older[pass_id] = frozenset(names)
        return self._older[pass_id]


def stands(parent: int, name: str) -> bool:
    """Return whether a directory has a name; raise OSError."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
