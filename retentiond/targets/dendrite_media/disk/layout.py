"""The names below the media directory: dendrite's and our own. Every path is made here, from safe parts.

dendrite keeps a blob in `<h0>/<h1>/<rest>/file`, from its base64hash, and its thumbnails beside it as
`thumbnail-<width>x<height>-<method>`. Our files are below `.retentiond`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from retentiond.model.media import Hash, valid_hash

OWN: Final = ".retentiond"
PROBE: Final = f"{OWN}-probe"
"""A directory of ours beside dendrite's own, for the moment of the test whether directories can be renamed."""
QUARANTINE: Final = "quarantine"
PURGING: Final = "purging"
STAGING: Final = "staging"
MARK: Final = "store"
FILE: Final = "file"

_THUMBNAIL = re.compile(r"thumbnail-(\d{1,9})x(\d{1,9})-(crop|scale)", re.ASCII)
_ENTRY = re.compile(r"([A-Za-z0-9_-]{43})\.(\d{1,18})", re.ASCII)


class Thumbnail(NamedTuple):
    """The properties that name a thumbnail file of a blob."""

    width: int
    height: int
    method: str

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"thumbnail-{self.width}x{self.height}-{self.method}"


_A_SHELF: Final = 1000


class EntryPath(NamedTuple):
    """The path of an entry in quarantine: `quarantine/<pass>/from-<first entry>/<hash>.<entry>`.

    A shelf has a thousand entries by their numbers, about a batch: a few directories are made, opened and synced for
    it. Up to version 3 of the ledger shelves were `<h0h1>`, as dendrite's own two levels.
    """

    pass_id: int
    hash: Hash
    entry_id: int

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.hash}.{self.entry_id}"

    @property
    def shelf(self) -> tuple[str, str, str]:
        """Its parent directory, below `.retentiond`."""
        return QUARANTINE, str(self.pass_id), f"from-{self.entry_id // _A_SHELF * _A_SHELF}"

    @property
    def older_shelf(self) -> tuple[str, str, str]:
        """Its parent directory if an older version moved it."""
        return QUARANTINE, str(self.pass_id), self.hash[:2]

    @property
    def purging_name(self) -> str:
        """Its name below `purging`, which the entries of all passes share."""
        return f"{self.pass_id}.{self.name}"


def blob_parts(blob: Hash) -> tuple[str, str, str]:
    """Return the three directories of a blob."""
    return blob[0], blob[1], blob[2:]


@lru_cache(maxsize=256)
def parse_thumbnail(name: str) -> Thumbnail | None:
    """Parse a thumbnail file's name; None for any other, also for one that dendrite would write differently."""
    found = _THUMBNAIL.fullmatch(name)
    if found is None:
        return None
    thumbnail = Thumbnail(int(found[1]), int(found[2]), found[3])
    return thumbnail if thumbnail.name == name else None


def parse_entry(pass_name: str, name: str) -> EntryPath | None:
    """Parse an entry's path in quarantine; None for a name that we never make."""
    found = _ENTRY.fullmatch(name)
    if found is None or not pass_name.isascii() or not pass_name.isdigit():
        return None
    blob = valid_hash(found[1])
    path = EntryPath(int(pass_name), blob, int(found[2])) if blob else None
    return path if path and str(path.pass_id) == pass_name and path.name == name else None
