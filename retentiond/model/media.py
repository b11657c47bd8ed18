"""Rows of dendrite's media table as the decisions see them, their keys, and random samples of their blobs."""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass
from hashlib import blake2b
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


class ContentSample:
    """Keeps the blobs with the smallest keyed digests: each distinct one has the same chance.

    With at most `size` distinct blobs it keeps them all, however often each is added.
    """

    def __init__(self, size: int, seed: bytes) -> None:
        self._size = size
        self._seed = seed
        self._kept: set[Hash] = set()
        self._largest_first: list[tuple[int, Hash]] = []

    def add(self, content: Hash) -> None:
        """Consider one blob for the sample."""
        if content in self._kept:
            return
        digest = blake2b(content.encode(), digest_size=8, key=self._seed).digest()
        ranked = (-int.from_bytes(digest, "big"), content)
        if len(self._kept) < self._size:
            heapq.heappush(self._largest_first, ranked)
        elif ranked <= self._largest_first[0]:
            return
        else:
            self._kept.discard(heapq.heapreplace(self._largest_first, ranked)[1])
        self._kept.add(content)

    def contents(self) -> list[Hash]:
        """Return the sample, sorted."""
        return sorted(self._kept)
