"""Look at blobs on the disk: which files exist, their sizes, and whether dendrite could have made them.

Nothing here changes anything; threads run it by the batch.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.disk.kernel import all_names
from retentiond.targets.dendrite_media.disk.layout import FILE, Thumbnail, blob_parts, parse_thumbnail
from retentiond.targets.dendrite_media.disk.tree import DIRECTORY, ODD, DirectoryCache, MediaTree, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from retentiond.model.media import Hash

LookResult = Literal["present", "missing", "unsafe", "failed"]
_OWNERS: Final = stat.S_IWUSR | stat.S_IXUSR
_NOTHING: Final[Mapping[Hash, Collection[Thumbnail]]] = {}


@dataclass(frozen=True, slots=True)
class BlobLook:
    """The result of one look at a blob's directory; sizes in bytes.

    `missing`: the directory does not exist. `unsafe`: a link, a special file, a name that dendrite never makes,
    another device. `failed`: we cannot read or rename it. `problem` is the reason in words. `accessed` is when any of
    its files was last read, in seconds since the epoch.
    """

    blob: Hash
    result: LookResult
    file_size: int | None = None
    thumbnails: tuple[tuple[Thumbnail, int], ...] = ()
    problem: str = ""
    accessed: float | None = None

    @property
    def has_file(self) -> bool:
        """Whether the file of the blob itself exists."""
        return self.file_size is not None

    @property
    def files(self) -> int:
        """The number of files in the directory."""
        return len(self.thumbnails) + self.has_file

    @property
    def bytes(self) -> int:
        """The total size of the directory's files."""
        return (self.file_size or 0) + sum(size for _, size in self.thumbnails)


def look_at_blobs(
    tree: MediaTree, freed: Mapping[Hash, Collection[Thumbnail]] = _NOTHING
) -> Callable[[Sequence[Hash]], list[BlobLook]]:
    """Return the look for a thread's share of hashes; sorted hashes share their parent directories.

    Thumbnails in `freed` are ignored: a plan has counted their removal already.
    """

    def look_at(blobs: Sequence[Hash]) -> list[BlobLook]:
        with Parents(tree) as parents:
            return [_look_at_blob(tree, parents, blob, freed.get(blob, ())) for blob in blobs]

    return look_at


class Parents(DirectoryCache):
    """dendrite's second-level directories, with whether this user may rename their entries."""

    def __init__(self, tree: MediaTree) -> None:
        super().__init__(tree)
        self.user = os.geteuid()
        self._changeable: dict[int, bool] = {}

    def changeable(self, parent: int) -> bool:
        """Return whether this user may change an open parent directory."""
        if parent not in self._changeable:
            self._changeable[parent] = _may_change(parent, ".")
        return self._changeable[parent]

    def close(self) -> None:
        """Close all directories."""
        super().close()
        # Their numbers are given anew.
        self._changeable.clear()


def _look_at_blob(tree: MediaTree, parents: Parents, blob: Hash, freed: Collection[Thumbnail]) -> BlobLook:
    """Look at one blob: first at its path, then at each name in it."""
    first, second, rest = blob_parts(blob)
    try:
        parent = parents.get(first, second)
        descriptor = os.open(rest, DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return BlobLook(blob, "missing")
    except OSError as error:
        if error.errno in ODD:
            return BlobLook(blob, "unsafe", problem="a link or a file is in its path")
        return BlobLook(blob, "failed", problem=f"its directory cannot be read: {disk_error(error)}")
    try:
        about = os.fstat(descriptor)
        look = _look_inside(tree, about, blob, descriptor, freed)
        # To its owner the kernel's answer is these bits; a directory that cannot be changed for another reason, by an
        # attribute of the file system, is shown by its rename.
        ours = about.st_uid == parents.user and about.st_mode & _OWNERS == _OWNERS
        if look.result == "present" and not (
            parents.changeable(parent) and (ours or _may_change(parent, rest))
        ):
            return BlobLook(blob, "failed", problem="this user may not move its directory")
        return look
    except OSError as error:
        return BlobLook(blob, "failed", problem=f"its directory cannot be read: {disk_error(error)}")
    finally:
        os.close(descriptor)


def _look_inside(
    tree: MediaTree, directory: os.stat_result, blob: Hash, descriptor: int, freed: Collection[Thumbnail]
) -> BlobLook:
    file_size: int | None = None
    thumbnails: list[tuple[Thumbnail, int]] = []
    accessed: float | None = None
    # Of the directory itself: in an overlay its files may have other device numbers.
    if directory.st_dev != tree.device:
        return BlobLook(blob, "unsafe", problem="its directory is on another device")
    for name in all_names(descriptor):
        about = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        thumbnail = parse_thumbnail(name)
        if not stat.S_ISREG(about.st_mode) or (thumbnail is None and name != FILE):
            return BlobLook(blob, "unsafe", problem="it contains a file that dendrite does not make")
        if thumbnail in freed:
            continue
        accessed = max(accessed or about.st_atime, about.st_atime)
        if thumbnail is None:
            file_size = about.st_size
        else:
            thumbnails.append((thumbnail, about.st_size))
    return BlobLook(blob, "present", file_size, tuple(sorted(thumbnails)), accessed=accessed)


def _may_change(parent: int, name: str) -> bool:
    return os.access(name, os.W_OK | os.X_OK, dir_fd=parent, effective_ids=True)


def file_missing(tree: MediaTree) -> Callable[[Sequence[Hash]], list[bool]]:
    """Return, for a thread's share of hashes, whether the blob's file is missing; only ENOENT counts as missing."""

    def missing(blobs: Sequence[Hash]) -> list[bool]:
        with DirectoryCache(tree) as parents:
            return [_file_missing(parents, blob) for blob in blobs]

    return missing


def _file_missing(parents: DirectoryCache, blob: Hash) -> bool:
    first, second, rest = blob_parts(blob)
    try:
        with inside(parents.get(first, second), rest) as directory:
            os.stat(FILE, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
