"""Space: free bytes of the disk, bytes in quarantine, a quick check of all quotas, and purges that free nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from retentiond.model.quota import SpaceReading, disk_shortage, purged_in_vain
from retentiond.targets.dendrite_media.quotas.survey import SQL
from retentiond.targets.dendrite_media.store.context import open_media

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.quota import Quota
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext


def free_bytes(tree: MediaTree) -> int:
    """Return the bytes that dendrite, without superuser rights, may still write on the media's file system."""
    about = os.fstatvfs(tree.root)
    return about.f_bavail * about.f_frsize


async def free_now(context: TargetContext, tree: MediaTree) -> int:
    """Read the free bytes in a thread: a file system may be slow to answer."""
    return await context.disk.call(lambda: free_bytes(tree))


async def read_space(context: TargetContext, tree: MediaTree, connection: Conn) -> SpaceReading:
    """Read the free bytes, and the bytes ever purged."""
    return SpaceReading(await free_now(context, tree), await connection.fetchval(SQL["purged_bytes"]))


async def fits_at_a_glance(context: TargetContext, connection: Conn | Db) -> bool:
    """Return whether every quota fits by the free space and the sum of all recorded sizes; no row is read."""
    opened = await open_media(context, connection)
    if isinstance(opened, str):
        return True
    with opened as tree:
        free = await free_now(context, tree)
    quotas = context.settings.quotas
    if any(disk_shortage(quota, free) for quota in quotas):
        return False
    smallest = min((quota.max_size for quota in quotas if quota.max_size is not None), default=None)
    return smallest is None or await connection.fetchval(SQL["size_bound"]) <= smallest


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
