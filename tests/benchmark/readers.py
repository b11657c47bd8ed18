"""Readers as dendrite is one: a row by SELECT, its file by path, a stat, and the content.

    python -m tests.benchmark.readers DSN MEDIA_PATH MEDIA

They ask at a steady pace until standard input ends, and then print the 99th percentile of their latencies, in seconds.
A medium of every two is theirs: those with odd numbers.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
from typing import Final

import asyncpg

_READERS: Final = 4
_EVERY: Final = 0.02  # seconds between two requests of a reader


async def read(dsn: str, media_path: str, media: int) -> list[float]:
    """Read until standard input ends; return the latencies."""
    loop = asyncio.get_running_loop()
    end = loop.run_in_executor(None, sys.stdin.read)
    latencies: list[float] = []
    pool = await asyncpg.create_pool(dsn, min_size=_READERS, max_size=_READERS)

    async def reader(due: float) -> None:
        while not end.done():
            due += _EVERY
            await asyncio.sleep(due - loop.time())
            await _request(pool, media_path, f"media{random.randrange(1, media, 2):08d}")
            # From the time at which it was due: a request that waits for the one before it is late as well.
            latencies.append(loop.time() - due)

    print("ready", flush=True)
    await asyncio.gather(*(reader(loop.time() + _EVERY * number / _READERS) for number in range(_READERS)))
    await pool.close()
    return latencies


async def _request(pool: asyncpg.Pool[asyncpg.Record], media_path: str, media_id: str) -> None:
    row = await pool.fetchrow(
        "SELECT base64hash, file_size_bytes FROM mediaapi_media_repository WHERE media_id = $1 AND media_origin = $2",
        media_id,
        "there.test",
    )
    assert row is not None
    blob, size = row
    with open(f"{media_path}/{blob[0]}/{blob[1]}/{blob[2:]}/file", "rb") as file:  # noqa: ASYNC230 - its wait is what is measured
        assert os.fstat(file.fileno()).st_size == len(file.read()) == size


if __name__ == "__main__":
    print(statistics.quantiles(asyncio.run(read(sys.argv[1], sys.argv[2], int(sys.argv[3]))), n=100)[98])
