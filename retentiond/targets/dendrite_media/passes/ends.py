"""The two ends of a pass or repair.

At the beginning a store that is safe, and a number in the ledger; at the end a record in the ledger and the log, and a
last sweep if no daemon runs.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.ledger.clocks import check_clocks, look_at_clock
from retentiond.ledger.leadership import has_daemon
from retentiond.model.errors import Refusal
from retentiond.targets.dendrite_media.store.mark import Mark, refuse_ahead, write_mark
from retentiond.targets.dendrite_media.store.safety import check_directory, check_tables
from retentiond.targets.dendrite_media.sweeps.sweep import note_store_clock, sweep, sweep_store

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import AuditOptions, PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.ledger.ledger import PassHeader
    from retentiond.model.errors import UnreachableError
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext

LAST_SWEEP_AFTER: Final = timedelta(seconds=60)
"""Without a daemon, a pass by hand sweeps once more after this time: dendrite's uploads may take as long."""


async def make_safe(session: StoreSession, connection: Conn) -> None:
    """Check the store's identity, its clock and its directory; make the quarantine's directories."""
    tree, context = session.tree, session.context
    if session.fit == "ahead":
        # Files whose rows are in the database are restored all the same.
        await sweep(session, everything=True)
        raise refuse_ahead(context.name)
    check_clocks(session.state, await look_at_clock(connection, context.name))
    await check_tables(connection)
    await check_directory(context, connection, tree)
    await context.disk.call(tree.prepare)
    await context.disk.call(tree.probe)
    if session.fit == "new":
        mark = Mark(session.state.store_id, session.state.last_pass)
        await context.disk.call(lambda: write_mark(tree, mark))
    await note_store_clock(context)


async def begin(session: StoreSession, connection: Conn, lease: Lease, header: PassHeader) -> int:
    """Give a pass its number, in the ledger and then on the disk."""
    async with connection.transaction():
        await lease.check(connection)
        pass_id = await session.context.ledger.begin_pass(connection, header)
    mark = Mark(session.state.store_id, pass_id)
    await session.context.disk.call(lambda: write_mark(session.tree, mark))
    get_logger(target=session.context.name).info("pass_started", pass_id=pass_id, command=header.command)
    return pass_id


async def note_unreachable(context: TargetContext, error: UnreachableError) -> None:
    """Record, for `status`, that a pass could not begin; without the database nothing can be recorded."""
    found, _, hint = str(error).partition("; ")
    with suppress(*LOST):
        await context.ledger.save_refusal(
            context.pool, context.name, Refusal("unreachable", found, "reachable", hint)
        )


async def end_by_hand(context: TargetContext, options: PassOptions | AuditOptions, *, removed: bool) -> None:
    """Sweep once more if no daemon will: after a removal, once dendrite's time-outs are over.

    A grace or a settle may have ended during the run: a daily job begins just before the grace of the day before is
    over. Without a settle the released files are purged now. The sweep at the beginning has listed the disk.
    """
    if context.config.settle == timedelta(0):
        # Files that a dead pass had released are purged as well.
        await sweep_store(context, everything=True, fresh=True, stock=False)
        return
    if await has_daemon(context.pool):
        return
    if removed and context.config.settle >= LAST_SWEEP_AFTER:
        options.progress.stage("wait", None)
        await options.stop.wait(LAST_SWEEP_AFTER.total_seconds())
    await sweep_store(context, everything=True, stock=False)
