"""The start of a pass or repair before its first removal: a store that is safe, and a number in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.ledger.clocks import check_clocks
from retentiond.ledger.host import read_clock
from retentiond.targets.dendrite_media.database.rows import SQL
from retentiond.targets.dendrite_media.store.mark import Mark, refuse_ahead, write_mark
from retentiond.targets.dendrite_media.store.safety import check_directory, check_tables
from retentiond.targets.dendrite_media.sweeps.sweep import sweep

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.ledger.lease import Lease
    from retentiond.ledger.ledger import PassHeader
    from retentiond.targets.dendrite_media.store.context import StoreSession


async def make_safe(session: StoreSession, connection: Conn) -> None:
    """Check the store's identity, its clock and its directory; make the quarantine's directories."""
    tree, context = session.tree, session.context
    if session.fit == "ahead":
        # Files whose rows are in the database are restored all the same.
        await sweep(session, everything=True)
        raise refuse_ahead(context.name)
    check_clocks(session.state, session.leap, context.name)
    await check_tables(connection)
    has_rows = await connection.fetchval(SQL["has_media"])
    await context.disk.call(lambda: check_directory(tree, has_rows=has_rows))
    await context.disk.call(tree.prepare)
    await context.disk.call(tree.probe)
    if session.fit == "new":
        mark = Mark(session.state.store_id, session.state.last_pass)
        await context.disk.call(lambda: write_mark(tree, mark))
    await context.ledger.note_clock(connection, read_clock())


async def begin(session: StoreSession, connection: Conn, lease: Lease, header: PassHeader) -> int:
    """Give a pass its number, in the ledger and then on the disk."""
    async with connection.transaction():
        await lease.check(connection)
        pass_id = await session.context.ledger.begin_pass(connection, header)
    mark = Mark(session.state.store_id, pass_id)
    await session.context.disk.call(lambda: write_mark(session.tree, mark))
    get_logger(target=session.context.name).info("pass_started", pass_id=pass_id, command=header.command)
    return pass_id
