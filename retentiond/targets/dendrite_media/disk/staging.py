"""Staging: a directory to build restored files before they are renamed into place, and to delete files for good.

Each name there has the number of its claim owner. The remains of a crash are removed once their owner is found dead.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from typing import TYPE_CHECKING, Final, Self

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.disk.layout import OWN, STAGING
from retentiond.targets.dendrite_media.disk.plain import make_plain, open_plain
from retentiond.targets.dendrite_media.disk.tree import inside

if TYPE_CHECKING:
    from collections.abc import Callable

    from retentiond.targets.dendrite_media.disk.tree import MediaTree

_NO_SECOND_NAME: Final = frozenset({errno.EPERM, errno.EMLINK})
"""protected_hardlinks forbids links to files of another owner, and the number of links of a file is limited."""
_NAME: Final = re.compile(r"(\d{1,10})\.[0-9a-f]{16}", re.ASCII)


class Staging:
    """One thread's use of the staging directory, under the number of its claim owner."""

    def __init__(self, tree: MediaTree, claimant_id: int) -> None:
        self.tree = tree
        self.descriptor = tree.own_directory(STAGING)
        self._claimant_id = claimant_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self.descriptor)

    def directory_like(self, like: os.stat_result) -> str:
        """Make an empty directory with the owner and mode of another, and return its name."""
        name = self._new_name()
        os.mkdir(name, 0o700, dir_fd=self.descriptor)
        with inside(self.descriptor, name) as descriptor:
            self.tree.adopt(descriptor, (like.st_uid, like.st_gid), stat.S_IMODE(like.st_mode))
        return name

    def move_or_drop(self, made: str, parent: int, name: str) -> bool:
        """Rename a directory to a path that is free or an empty directory; delete it if the path is in use."""
        try:
            os.rename(made, name, src_dir_fd=self.descriptor, dst_dir_fd=parent)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            _remove(self.descriptor, made)
            return False
        return True

    def take_apart(self, parent: int, name: str) -> None:
        """Delete a directory of files for good.

        Renamed away first, as a whole, so that it is never seen half deleted.
        """
        aside = self._new_name()
        os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=self.descriptor)
        _remove(self.descriptor, aside)

    def link(self, source: int, name: str, target: int) -> None:
        """Give a file a second name in another directory. It never replaces a file, and is whole when it appears."""
        aside = self._second_name(source, name)
        try:
            os.link(aside, name, src_dir_fd=self.descriptor, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.unlink(aside, dir_fd=self.descriptor)

    def link_unseen(self, source: int, name: str, target: int) -> None:
        """Give a file a second name in a directory of ours that is not in place yet."""
        try:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_SECOND_NAME:
                raise
            self.link(source, name, target)

    def replace(self, source: int, name: str, target: int) -> None:
        """Give a file a second name in another directory, in place of a file of that name."""
        aside = self._second_name(source, name)
        os.rename(aside, name, src_dir_fd=self.descriptor, dst_dir_fd=target)

    def _second_name(self, source: int, name: str) -> str:
        aside = self._new_name()
        try:
            os.link(name, aside, src_dir_fd=source, dst_dir_fd=self.descriptor, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_SECOND_NAME:
                raise
            self._copy(source, name, aside)
        return aside

    def _copy(self, source: int, name: str, new_name: str) -> None:
        with open(open_plain(name, source), "rb") as ours:
            about = os.fstat(ours.fileno())
            with open(make_plain(new_name, self.descriptor), "wb") as copied:
                shutil.copyfileobj(ours, copied)
                copied.flush()
                self.tree.adopt(copied.fileno(), (about.st_uid, about.st_gid), stat.S_IMODE(about.st_mode))
                os.utime(copied.fileno(), ns=(about.st_atime_ns, about.st_mtime_ns))
                os.fsync(copied.fileno())

    def _new_name(self) -> str:
        return f"{self._claimant_id}.{secrets.token_hex(8)}"


def staged(tree: MediaTree) -> dict[str, int]:
    """Return the files in staging by name, each with the number of its claim owner."""
    try:
        with tree.directory(OWN, STAGING) as descriptor:
            names = os.listdir(descriptor)
    except FileNotFoundError:
        return {}
    return {name: int(found[1]) for name in names if (found := _NAME.fullmatch(name))}


def remove_staged(tree: MediaTree, names: list[str]) -> Callable[[], dict[str, str]]:
    """Return the removal of the files that dead claim owners left in staging: links, copies, and half-deleted files.

    It returns, by name, why a file could not be removed.
    """

    def remove() -> dict[str, str]:
        failed = {}
        with tree.directory(OWN, STAGING) as descriptor:
            for name in names:
                try:
                    _remove(descriptor, name)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    failed[name] = disk_error(error)
        return failed

    return remove


def _remove(parent: int, name: str) -> None:
    try:
        with inside(parent, name) as directory:
            for inner in os.listdir(directory):
                os.unlink(inner, dir_fd=directory)
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent)
    else:
        os.rmdir(name, dir_fd=parent)
