"""Verify blobs: read each file, at a limited rate, and compare its SHA-256 with its name.

Access times show how long media have been unused: reads here do not change them. A read and a hash of a long piece
run without the interpreter's lock, so two threads keep two cores busy.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.disk.layout import FILE, blob_parts
from retentiond.targets.dendrite_media.disk.plain import open_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from retentiond.engine.target import Stop
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.disk.tree import MediaTree

_CHUNK: Final = 1 << 18
"""Bytes read at once: a buffer that stays in the cache of a core, and a piece long enough to hash beside another."""
Verdict = Literal["right", "wrong", "gone", "unreadable"]


class Verified(NamedTuple):
    """The result of a blob's verification; `problem` is why it could not be read."""

    blob: Hash
    verdict: Verdict
    problem: str = ""


class ReadRate:
    """Limits the reads of all threads together to so many bytes a second; a test may pass its own clock and sleep."""

    def __init__(
        self,
        bytes_per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()
        self._lock = threading.Lock()

    def spend(self, size: int) -> None:
        """Count the bytes read, and wait until the next read is allowed."""
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now) + size / self._rate
            wait = self._free_at - now
        self._sleep(wait)


def verify_contents(
    tree: MediaTree, rate: ReadRate, stop: Stop
) -> Callable[[Iterable[Hash]], list[Verified]]:
    """Return the verification of some blobs for one thread; it ends early when a stop is requested.

    Threads that are given one iterator share its blobs.
    """

    def verify(blobs: Iterable[Hash]) -> list[Verified]:
        done = []
        buffer = memoryview(bytearray(_CHUNK))
        for blob in blobs:
            verified = _verify(tree, rate, stop, blob, buffer)
            if stop.asked:
                # The file may be read only in part.
                break
            done.append(verified)
        return done

    return verify


def _verify(tree: MediaTree, rate: ReadRate, stop: Stop, blob: Hash, buffer: memoryview) -> Verified:
    try:
        with tree.directory(*blob_parts(blob)) as directory:
            digest = _digest(directory, rate, stop, buffer)
    except FileNotFoundError:
        return Verified(blob, "gone")
    except OSError as error:
        if error.errno == errno.EPERM:
            return Verified(
                blob, "unreadable", "only its owner may read it without a change of its access time"
            )
        return Verified(blob, "unreadable", disk_error(error))
    name = urlsafe_b64encode(digest).decode().rstrip("=")
    return Verified(blob, "right" if name == blob else "wrong")


def _digest(directory: int, rate: ReadRate, stop: Stop, buffer: memoryview) -> bytes:
    descriptor = open_plain(FILE, directory, os.O_NOATIME)
    try:
        before = os.fstat(descriptor)
        if before.st_size > _CHUNK:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        digest = hashlib.sha256()
        while not stop.asked and (size := os.readv(descriptor, [buffer])):
            digest.update(buffer[:size])
            rate.spend(size)
        after = os.fstat(descriptor)
        if after.st_atime_ns != before.st_atime_ns:
            # Some file systems do not know O_NOATIME.
            os.utime(descriptor, ns=(before.st_atime_ns, after.st_mtime_ns))
        return digest.digest()
    finally:
        os.close(descriptor)
