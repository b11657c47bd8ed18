"""The close look at blobs: each file in a blob's directory with its size and times, and unexpected files."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.audit.scan import OddPath, odd_entry
from retentiond.targets.dendrite_media.disk.layout import FILE, Thumbnail, blob_parts, parse_thumbnail
from retentiond.targets.dendrite_media.disk.tree import ODD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.tree import MediaTree


class FileSeen(NamedTuple):
    """A regular file: bytes, and seconds since the epoch. `changed` is the newer of mtime and ctime."""

    size: int
    modified: float
    changed: float


@dataclass(slots=True)
class ContentOnDisk:
    """The files of a blob on the disk.

    `file_missing` only if nothing exists there (ENOENT). `unreadable` is the reason why nothing is known.
    """

    blob: Hash
    file: FileSeen | None = None
    file_missing: bool = False
    thumbnails: dict[Thumbnail, FileSeen] = field(default_factory=dict)
    odd: list[OddPath] = field(default_factory=list)
    unreadable: str = ""
    directory_changed: float = 0.0

    @property
    def path(self) -> str:
        """Its directory below the media directory."""
        return blob_path(self.blob)

    def files(self) -> Iterator[FileSeen]:
        """Yield all files that dendrite makes."""
        if self.file is not None:
            yield self.file
        yield from self.thumbnails.values()

    @property
    def changed(self) -> float:
        """When any of its files, or its directory, last changed."""
        return max([self.directory_changed, *(file.changed for file in self.files())])

    @property
    def bytes(self) -> int:
        """The total size of the files."""
        return sum(file.size for file in self.files())


def blob_path(blob: Hash) -> str:
    """Return a blob's directory below the media directory."""
    return "/".join(blob_parts(blob))


def look_at_contents(tree: MediaTree) -> Callable[[Sequence[Hash]], list[ContentOnDisk]]:
    """Return the look for a thread's share of hashes."""

    def look(blobs: Sequence[Hash]) -> list[ContentOnDisk]:
        return [look_at_content(tree, blob) for blob in blobs]

    return look


def look_at_content(tree: MediaTree, blob: Hash) -> ContentOnDisk:
    """Look at one blob."""
    seen = ContentOnDisk(blob)
    try:
        with tree.directory(*blob_parts(blob)) as directory:
            _look_inside(seen, directory)
    except FileNotFoundError:
        return ContentOnDisk(blob, file_missing=True)
    except OSError as error:
        if error.errno in ODD:
            return ContentOnDisk(blob, odd=[OddPath(blob_path(blob), 0)])
        return ContentOnDisk(blob, unreadable=disk_error(error))
    return seen


def _look_inside(seen: ContentOnDisk, directory: int) -> None:
    about = os.fstat(directory)
    seen.directory_changed = max(about.st_mtime, about.st_ctime)
    file_named = False
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda found: found.name):
            about = entry.stat(follow_symlinks=False)
            thumbnail = parse_thumbnail(entry.name)
            file_named = file_named or entry.name == FILE
            if not stat.S_ISREG(about.st_mode) or (thumbnail is None and entry.name != FILE):
                seen.odd.append(odd_entry(seen.path, entry))
                continue
            file = FileSeen(about.st_size, about.st_mtime, max(about.st_mtime, about.st_ctime))
            if thumbnail is None:
                seen.file = file
            else:
                seen.thumbnails[thumbnail] = file
    seen.file_missing = not file_named
