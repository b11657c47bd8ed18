"""Space: free bytes of the disk, bytes in quarantine, and a quick check whether all quotas fit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from retentiond.model.quota import SpaceReading, disk_shortage
from retentiond.targets.dendrite_media.quotas.survey import SQL
from retentiond.targets.dendrite_media.store.fresh import open_media

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db
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
