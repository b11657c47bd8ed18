"""Ineffective purges: if a purge does not raise the free space, no more media are removed for its sake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.quota import SpaceReading, purged_in_vain
from retentiond.targets.dendrite_media.quotas.survey import SQL

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.adapters.postgres import Conn
    from retentiond.model.quota import Quota


async def ineffective_since(connection: Conn, target: str, quota: Quota, now: SpaceReading) -> bool:
    """Return whether the purges since this quota last evicted for free disk space freed nothing."""
    last = await connection.fetchrow(SQL["last_eviction"], target, quota.name)
    if last is None:
        return False
    stored = await connection.fetchval(SQL["stored_bytes"], last["at"])
    return purged_in_vain(SpaceReading(last["free"], last["purged"]), now, stored)


def ineffective_remark(quota: Quota, media_path: Path) -> str:
    """Return a remark that purges free nothing, with the things to check."""
    return (
        f"{quota.name}: purging did not raise the free space of {media_path}, so no media are evicted for it; look "
        "for snapshots, and for other data on the disk"
    )
