"""A random sample of distinct contents from a stream, in bounded memory."""

from __future__ import annotations

import heapq
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retentiond.model.media import Hash


class ContentSample:
    """Keeps the contents whose keyed digests are the smallest: each distinct one has the same chance.

    With at most `size` distinct contents it holds them all, however often each comes by.
    """

    def __init__(self, size: int, seed: bytes) -> None:
        self._size = size
        self._seed = seed
        self._kept: set[Hash] = set()
        self._largest_first: list[tuple[int, Hash]] = []

    def add(self, content: Hash) -> None:
        """Let one content come by."""
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
