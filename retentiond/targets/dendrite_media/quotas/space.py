"""Space: the free bytes of the disk for a quota, room that a purge makes, and purges that free nothing.

Under `min_free_disk` the entries whose grace is over are purged first; then, if the quota says so, the grace of the
oldest entries in quarantine is ended. A rename frees nothing by itself, so each check evicts the shortage and no
more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.records import Record, add_record
from retentiond.model.quota import SpaceReading, disk_shortage, purged_in_vain, size_shortage
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.store.context import open_media

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.quota import Quota
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext

SQL: Final = named_queries(__package__, "space.sql")


async def _read_space(context: TargetContext, tree: MediaTree, connection: Conn) -> SpaceReading:
    """Read the free bytes, and the bytes ever purged."""
    return SpaceReading(
        await context.disk.call(tree.free_bytes), await connection.fetchval(SQL["purged_bytes"])
    )


async def fits_at_a_glance(context: TargetContext, connection: Conn | Db) -> bool:
    """Return whether every quota fits by the free space and the sum of all recorded sizes; no row is read."""
    opened = await open_media(context, connection)
    if isinstance(opened, str):
        return True
    with opened as tree:
        free = await context.disk.call(tree.free_bytes)
    quotas = context.settings.quotas
    if any(disk_shortage(quota, free) for quota in quotas):
        return False
    smallest = min((quota.max_size for quota in quotas if quota.max_size is not None), default=None)
    return smallest is None or await connection.fetchval(SQL["size_bound"]) <= smallest


async def shortage_in_plan(
    context: TargetContext, tree: MediaTree, connection: Conn, quota: Quota, report: PassReport, *, ledger: bool
) -> int:  # fmt: skip
    """Return the shortage of disk space; quarantine, that of the plan too, counts as freed.

    Zero if purging frees nothing, for then a pass evicts nothing for it.
    """
    if not ledger:
        return disk_shortage(quota, await context.disk.call(tree.free_bytes), report.removed_bytes)
    now = await _read_space(context, tree, connection)
    held = await connection.fetchval(SQL["held_bytes"])
    short = disk_shortage(quota, now.free, held + report.removed_bytes)
    if short and await _ineffective_since(connection, context.name, quota, now):
        report.remarks.append(_ineffective_remark(quota, tree))
        return 0
    return short


async def make_room(
    session: StoreSession,
    connection: Conn,
    quota: Quota,
    report: PassReport,
    purge: Callable[[], Awaitable[object]],
) -> int | None:
    """Purge if the disk is short of space; return the shortage that is left once the quarantine is purged, too.

    None if the quota fits for certain. `purge` purges the expired entries, by references that are read from then on.
    """
    short = await _purge_first(session, connection, quota, report, purge)
    if short or quota.max_size is None:
        return short or None
    too_large = size_shortage(quota, await connection.fetchval(SQL["size_bound"]))
    return 0 if too_large else None


async def _purge_first(
    session: StoreSession,
    connection: Conn,
    quota: Quota,
    report: PassReport,
    purge: Callable[[], Awaitable[object]],
) -> int:
    context, tree = session.context, session.tree
    before = await _read_space(context, tree, connection)
    if not disk_shortage(quota, before.free):
        await connection.execute(SQL["forget_eviction"], context.name, quota.name)
        return 0
    await purge()
    after = await _read_space(context, tree, connection)
    still = disk_shortage(quota, after.free)
    if still and quota.shorten_grace:
        await _shorten_grace(context, connection, quota, still, report)
        await purge()
        after = await _read_space(context, tree, connection)
    short = disk_shortage(quota, after.free, await connection.fetchval(SQL["held_bytes"]))
    if short and (
        purged_in_vain(before, after, 0) or await _ineffective_since(connection, context.name, quota, after)
    ):
        remark = _ineffective_remark(quota, tree)
        report.remarks.append(remark)
        get_logger(target=context.name).warning("quota_stopped", quota=quota.name, reason=remark)
        return 0
    return short


async def _shorten_grace(
    context: TargetContext, connection: Conn, quota: Quota, wanted: int, report: PassReport
) -> None:
    async with connection.transaction():
        shortened = await released_rows.shorten_grace(connection, wanted)
        if not shortened:
            return
        body = {"by": quota.name, "contents": shortened}
        await add_record(connection, Record("grace_ended", context.name, report.pass_id, body))
    report.remarks.append(
        f"{quota.name}: the grace of {shortened:,} contents was ended, as the disk is short of {wanted:,} bytes"
    )
    get_logger(target=context.name).warning(
        "grace_shortened", quota=quota.name, contents=shortened, short=wanted
    )


async def note_eviction(session: StoreSession, connection: Conn, quota: Quota) -> None:
    """Record the free and the purged bytes before an eviction for disk space."""
    reading = await _read_space(session.context, session.tree, connection)
    await connection.execute(
        SQL["note_eviction"], session.context.name, quota.name, reading.free, reading.purged
    )


async def forget_evictions(connection: Conn, target: str, quotas: Sequence[Quota]) -> None:
    """Forget the evictions of quotas that are not among these."""
    await connection.execute(SQL["forget_other_evictions"], target, [quota.name for quota in quotas])


async def _ineffective_since(connection: Conn, target: str, quota: Quota, now: SpaceReading) -> bool:
    """Return whether the purges since this quota last evicted for free disk space freed nothing."""
    last = await connection.fetchrow(SQL["last_eviction"], target, quota.name)
    if last is None:
        return False
    stored = await connection.fetchval(SQL["stored_bytes"], last["at"])
    return purged_in_vain(SpaceReading(last["free"], last["purged"]), now, stored)


def _ineffective_remark(quota: Quota, tree: MediaTree) -> str:
    """Return a remark that purges free nothing, with the things to check."""
    return (
        f"{quota.name}: purging did not raise the free space of {tree.path}, so no media are evicted for it; look "
        "for snapshots, and for other data on the disk"
    )
