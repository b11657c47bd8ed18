"""The algorithm of cleanmedia, written from its description: one row at a time, its files, then one DELETE.

    python -m tests.benchmark.peer DSN MEDIA_PATH

It has no quarantine, no protections and no way back; an interruption leaves a row without its file.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import asyncpg


async def clean(dsn: str, media_path: Path) -> None:
    """Delete all media from elsewhere."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT media_id, media_origin, base64hash FROM mediaapi_media_repository"
        )
        for media_id, origin, blob in rows:
            shutil.rmtree(media_path / blob[0] / blob[1] / blob[2:], ignore_errors=True)
            for table in ("mediaapi_thumbnail", "mediaapi_media_repository"):
                statement = f"DELETE FROM {table} WHERE media_id = $1 AND media_origin = $2"
                await connection.execute(statement, media_id, origin)
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(clean(sys.argv[1], Path(sys.argv[2])))
