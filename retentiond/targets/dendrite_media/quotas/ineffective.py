"""Purging in vain: where it does not raise the free space, media must not go for the sake of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.quota import SpaceReading, purged_in_vain
from retentiond.targets.dendrite_media.quotas.survey import SQL

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.adapters.postgres import Conn
    from retentiond.model.quota import Quota


async def ineffective_since(connection: Conn, target: str, quota: Quota, now: SpaceReading) -> bool:
    """Tell whether what was purged since this quota last evicted for the disk's sake freed nothing."""
    last = await connection.fetchrow(SQL["last_eviction"], target, quota.name)
    if last is None:
        return False
    stored = await connection.fetchval(SQL["stored_bytes"], last["at"])
    return purged_in_vain(SpaceReading(last["free"], last["purged"]), now, stored)


def ineffective_remark(quota: Quota, media_path: Path) -> str:
    """Say so, and what to look for."""
    return (
        f"{quota.name}: purging did not raise the free space of {media_path}, so nothing is evicted for its sake; look "
        "for snapshots, and for what else fills the disk"
    )
