"""The media directory, reached through one descriptor: a jail that no name and no link leads out of.

It is opened anew for each piece of work, checked, and from then on all access is through that descriptor: a disk that
is unmounted or exchanged meanwhile is never mistaken for the checked one.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final, Self

from retentiond.config.rights import beside_owner
from retentiond.model.disk_errors import disk_error
from retentiond.model.errors import UnreachableError
from retentiond.targets.dendrite_media.disk import kernel
from retentiond.targets.dendrite_media.disk.layout import OWN, PROBE, PURGING, QUARANTINE, STAGING
from retentiond.targets.dendrite_media.disk.mounts import LOCAL, mount_of, mounts_below, read_mounts
from retentiond.targets.dendrite_media.disk.plain import make_plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
ODD: Final = (errno.ELOOP, errno.ENOTDIR)


@contextmanager
def inside(parent: int, name: str) -> Iterator[int]:
    """Open a directory of a directory, through no link; raise OSError."""
    descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _owner(path: Path, error: OSError) -> str:
    return beside_owner(path) if error.errno == errno.EACCES else ""


class NoMediaDirectoryError(UnreachableError):
    """The media directory does not exist in its parent, which does: dendrite makes it at its first upload."""


class MediaTree:
    """An open media directory. `device` is compared within a moment, never stored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # The last component of the configured path may be a link: the administrator chose it.
            self.root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = isinstance(error, FileNotFoundError) and path.parent.is_dir()
            raise (NoMediaDirectoryError if missing else UnreachableError)(
                f"the media directory {path} cannot be opened: {error.strerror}; "
                "check that it is mounted, and that `media_path` (or base_path in dendrite.yaml) names it"
            ) from error
        except OSError as error:
            raise UnreachableError(
                f"the media directory {path} cannot be opened: {disk_error(error)}{_owner(path, error)}"
            ) from error
        about = os.fstat(self.root)
        self.device = about.st_dev
        self.owner = (about.st_uid, about.st_gid)
        self.mode = stat.S_IMODE(about.st_mode)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.root)

    @cached_property
    def synced_whole(self) -> bool:
        """Whether one sync of the whole file system makes a batch durable.

        Network file systems and FUSE may answer that call without doing anything, and an overlay has two file systems:
        there each changed directory is synced on its own.
        """
        try:
            mount = mount_of(self.root, read_mounts())
        except OSError:
            return False
        return mount is not None and mount.kind in LOCAL

    def sync_alone(self, descriptor: int) -> None:
        """Sync one directory, unless the file system is synced whole at the end of the batch."""
        if not self.synced_whole:
            os.fsync(descriptor)

    def free_bytes(self) -> int:
        """Return the bytes that dendrite, without superuser rights, may still write; a slow disk may block."""
        about = os.fstatvfs(self.root)
        return about.f_bavail * about.f_frsize

    @contextmanager
    def synced(self) -> Iterator[None]:
        """Write the changes of a thread's share to the disk at its end, where the file system is synced whole.

        Raise OSError. The kernel reports an error of the disk once for each opened file, so every share opens its own
        before its first change: no other share can take its error. Before Linux 5.17 a sync of the whole file system
        did not report that the journal had failed; the sync of one directory always did.
        """
        if not self.synced_whole:
            yield
            return
        own = os.open(".", DIRECTORY, dir_fd=self.root)
        try:
            yield
            kernel.sync_file_system(own)
            os.fsync(own)
        finally:
            os.close(own)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @contextmanager
    def directory(self, *parts: str) -> Iterator[int]:
        """Open a directory below the root, level by level and through no link; raise OSError."""
        opened = self.open_directory(*parts)
        try:
            yield opened
        finally:
            os.close(opened)

    def open_directory(self, *parts: str) -> int:
        """Return a descriptor of a directory below the root; the caller closes it. Raise OSError."""
        current = self.root
        try:
            for part in parts:
                deeper = os.open(part, DIRECTORY, dir_fd=current)
                if current != self.root:
                    os.close(current)
                current = deeper
        except OSError:
            if current != self.root:
                os.close(current)
            raise
        return current if parts else os.dup(self.root)

    def own_directory(self, *parts: str) -> int:
        """Return a descriptor of a directory below `.retentiond`, made if missing; the caller syncs its parents.

        Our directories belong to the owner of the media directory, also when retentiond runs as root.
        """
        current = os.dup(self.root)
        try:
            for part in (OWN, *parts):
                current = self._enter_own(current, part)
        except OSError:
            os.close(current)
            raise
        return current

    def _enter_own(self, parent: int, name: str) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
            with inside(parent, name) as made:
                self.adopt(made, self.owner, 0o700)
        opened = os.open(name, DIRECTORY, dir_fd=parent)
        os.close(parent)
        return opened

    def adopt(self, descriptor: int, owner: tuple[int, int], mode: int) -> None:
        """Give a directory or file of ours this owner and mode; the owner, and the bit of the group, only if permitted."""
        about = os.fstat(descriptor)
        if (about.st_uid, about.st_gid) != owner:
            try:
                os.fchown(descriptor, *owner)
            except OSError as error:
                # A namespace of users that lacks an owner shows another number, which cannot be set.
                if error.errno not in {errno.EPERM, errno.EACCES, errno.EINVAL}:
                    raise
        try:
            os.fchmod(descriptor, mode)
        except PermissionError:
            # RestrictSUIDSGID= refuses these bits, even to a directory's own owner.
            if not mode & (stat.S_ISUID | stat.S_ISGID):
                raise
            os.fchmod(descriptor, mode & ~(stat.S_ISUID | stat.S_ISGID))

    def prepare(self) -> None:
        """Make `.retentiond` and its directories; raise UnreachableError if nothing can be written."""
        try:
            for name in (QUARANTINE, PURGING, STAGING):
                os.close(self.own_directory(name))
            with self.directory(OWN) as own:
                os.fsync(own)
            os.fsync(self.root)
        except OSError as error:
            raise self.unwritable(error) from error

    def probe(self) -> None:
        """Rename a directory from the root into the quarantine and back; raise UnreachableError.

        A bind mount answers EXDEV although the device numbers are equal, and only a test can tell.
        """
        with self._own(QUARANTINE) as quarantine:
            try:
                # A directory that a crash left behind serves as well.
                with suppress(FileExistsError):
                    os.mkdir(PROBE, 0o700, dir_fd=self.root)
                try:
                    os.rename(PROBE, PROBE, src_dir_fd=self.root, dst_dir_fd=quarantine)
                    os.rename(PROBE, PROBE, src_dir_fd=quarantine, dst_dir_fd=self.root)
                finally:
                    for context in (self.root, quarantine):
                        with suppress(FileNotFoundError):
                            os.rmdir(PROBE, dir_fd=context)
            except OSError as error:
                raise self.unwritable(error) from error

        self._probe_links()

    def _probe_links(self) -> None:
        """Give a file of ours a second name: without links nothing can be restored from the quarantine."""
        one, two = f"{PROBE}.one", f"{PROBE}.two"
        with self._own(STAGING) as staging:
            try:
                os.close(make_plain(one, staging))
                # Another program that cleans up there may have come first; that proves nothing.
                with suppress(FileExistsError, FileNotFoundError):
                    os.link(one, two, src_dir_fd=staging, dst_dir_fd=staging, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise self.unwritable(error) from error
                raise UnreachableError(
                    f"hard links cannot be made in {self.path}: {error.strerror}; restores from the quarantine "
                    "need them: move the media to a file system with hard links"
                ) from error
            finally:
                for name in (one, two):
                    with suppress(OSError):
                        os.unlink(name, dir_fd=staging)

    @contextmanager
    def _own(self, *parts: str) -> Iterator[int]:
        opened = self.own_directory(*parts)
        try:
            yield opened
        finally:
            os.close(opened)

    def unwritable(self, error: OSError) -> UnreachableError:
        """Return the error that directories cannot be made and renamed here, with the things to check."""
        return UnreachableError(
            f"directories cannot be made and renamed in {self.path}: {disk_error(error)}{_owner(self.path, error)}"
        )

    def first_level(self) -> list[tuple[str, int]]:
        """Return dendrite's `<h0>` directories with their device numbers."""
        with os.scandir(self.root) as entries:
            found = [
                (entry.name, entry.stat(follow_symlinks=False).st_dev)
                for entry in entries
                if len(entry.name) == 1 and entry.is_dir(follow_symlinks=False)
            ]
        return sorted(found)

    def folds_case(self, there: Collection[str]) -> bool:
        """Return whether names that differ in case alone are the same here, as on macOS, Windows and SMB."""
        for name in there:
            other = name.swapcase()
            if other not in there:
                with suppress(FileNotFoundError):
                    os.stat(other, dir_fd=self.root)
                    # dendrite may have made it just now: then it is on the list.
                    return other not in os.listdir(self.root)
        return False

    def own_device(self) -> int | None:
        """Return the device of `.retentiond`, None if it does not exist yet; raise OSError for a link."""
        try:
            about = os.stat(OWN, dir_fd=self.root, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(about.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), OWN)
        return about.st_dev

    def mounts_below(self) -> list[str]:
        """Return the mount points below the media directory, as the kernel lists them."""
        return mounts_below(self.root)


class DirectoryCache:
    """Directories that a run of sorted work keeps opening, opened once each, for one thread; at most `limit` of them.

    `changes`: the work changes them, and each is synced before it is closed, unless the file system is synced whole.
    """

    def __init__(self, tree: MediaTree, limit: int = 64, *, changes: bool = False) -> None:
        self._tree = tree
        self._open: dict[tuple[str, ...], int] = {}
        self._limit = limit
        self._changes = changes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def get(self, *parts: str, own: bool = False) -> int:
        """Return the descriptor of a directory of dendrite's (or of our own, made if missing); raise OSError."""
        key = (OWN, *parts) if own else parts
        opened = self._open.get(key)
        if opened is None:
            if len(self._open) >= self._limit:
                self.begin_anew()
            if own:
                opened = self._tree.own_directory(*parts)
            elif len(parts) > 1:
                # Sorted work has its upper levels in common.
                opened = os.open(parts[-1], DIRECTORY, dir_fd=self.get(*parts[:-1]))
            else:
                opened = self._tree.open_directory(*parts)
            self._open[key] = opened
        return opened

    def begin_anew(self) -> None:
        """Close all directories, with the sync that their changes need; the next ones are opened anew."""
        if self._changes:
            self.sync()
        self.close()

    def sync(self) -> None:
        """Sync the open directories, unless the file system is synced whole."""
        for descriptor in self._open.values():
            self._tree.sync_alone(descriptor)

    def close(self) -> None:
        """Close all directories without a sync."""
        while self._open:
            os.close(self._open.popitem()[1])
