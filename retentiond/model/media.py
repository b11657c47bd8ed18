"""Rows of dendrite's media table as the decisions see them, and their keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, NewType

Hash = NewType("Hash", str)
"""A base64hash that `valid_hash` accepted: no other text may become a path."""

_HASH = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class MediaKey(NamedTuple):
    """The key of one row: the media ID alone is not enough, since two servers may have chosen the same."""

    media_id: str
    media_origin: str

    @property
    def uri(self) -> str:
        """The `mxc://` URI; the ID and the origin in it are untrusted text."""
        return f"mxc://{self.media_origin}/{self.media_id}"


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A row of `mediaapi_media_repository`: sizes in bytes, times in milliseconds since the epoch."""

    media_id: str
    media_origin: str
    content_type: str
    file_size_bytes: int
    creation_ts: int
    upload_name: str
    base64hash: str
    user_id: str

    @property
    def key(self) -> MediaKey:
        """The pair that names this row."""
        return MediaKey(self.media_id, self.media_origin)


def valid_hash(text: str) -> Hash | None:
    """Return the hash when it is 43 characters of unpadded URL-safe base64, else None: it becomes no path."""
    return Hash(text) if _HASH.fullmatch(text) else None


def parse_media_uri(text: str) -> MediaKey | None:
    """Split `mxc://origin/media_id` into its key; None where it is not of that form."""
    scheme, _, rest = text.partition("://")
    origin, slash, media_id = rest.partition("/")
    return MediaKey(media_id, origin) if scheme == "mxc" and slash and origin and media_id else None
