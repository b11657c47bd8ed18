"""The step of a purge that sees to orphans: counted in each purge, and deleted where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.errors import Refusal, StoreLimit
from retentiond.targets.chat_database.orphan_removal import OrphanRemoval
from retentiond.targets.chat_database.orphans import search_orphans

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.targets.chat_database.account import AccountPurge


async def survey_orphans(connection: Conn, purge: AccountPurge, *, limited: bool) -> None:
    """Count the orphans before anything is deleted, and refuse those that look like the rows of a lost table of chats.

    `limited`: the limits of scheduled purges hold.
    """
    report = purge.report.orphans
    report.requested = purge.wish.orphans
    search = await search_orphans(connection, purge)
    report.found = await search.find()
    if report.requested and report.found.due.total():
        report.refused = await _refuse(search.database_has_chats, purge, limited=limited)


async def purge_orphans(
    purge: AccountPurge, lease: Lease, order: PassOptions, pass_id: int, connection: Conn
) -> None:
    """Delete the orphans that are due, where that is asked for and not refused; count those that are there after it."""
    if purge.request is not None:
        # A request for one visitor does not report on the rest of the account.
        return
    report = purge.report.orphans
    search = await search_orphans(connection, purge)
    if report.requested and report.refused is None and report.found is not None and report.found.due.total():
        await OrphanRemoval(purge.context, search, lease, order, pass_id).run(purge.report)
    if purge.report.state == "interrupted" or order.stop.asked:
        return
    now = await order.stop.unless_asked(search.find())
    if report.requested:
        report.left = now
    else:
        report.found = now


async def _refuse(
    database_has_chats: Callable[[], Awaitable[bool]], purge: AccountPurge, *, limited: bool
) -> Refusal | None:
    """Refuse where the table of chats looks emptied, detached or not filled yet: then orphans are not orphans."""
    missing, chats = purge.report.orphans.chats_due, purge.report.all_chats
    if not await database_has_chats():
        return Refusal(
            StoreLimit("orphans_without_chats"),
            "no chats",
            "at least one chat",
            "the table of chats is empty, and every row looks like one of a missing chat: restore it, or attach its "
            "partitions, then run it again",
        )
    limits, share = purge.context.config.limits, missing / max(1, missing + chats)
    told = f"rows of {missing} missing chats of {purge.wish.account} would be deleted, beside {chats} chats that are there"
    way_on = f"look with `retentiond plan {purge.context.name}`, and if it is right, run `retentiond once {purge.context.name} --yes`"
    if limited and share > limits.max_share:
        return Refusal("max_share", round(share, 4), limits.max_share, f"{told}; {way_on}")
    if limited and missing > limits.max_items:
        return Refusal("max_items", missing, limits.max_items, f"{told}; {way_on}")
    return None
