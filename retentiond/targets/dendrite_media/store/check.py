"""Check whether database and directory belong together, for read-only commands: nothing is made, nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retentiond.ledger.clocks import check_clocks
from retentiond.ledger.host import read_clock
from retentiond.ledger.ledger import NO_STORE, StoreState, refuse_standby
from retentiond.targets.dendrite_media.database.rows import SQL
from retentiond.targets.dendrite_media.store.mark import compare, read_mark, refuse_ahead
from retentiond.targets.dendrite_media.store.safety import check_directory, check_tables

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """The state of the store: whether a ledger exists, whether it has had a pass, and whether there are rows."""

    ledger: bool
    first: bool
    has_rows: bool


async def check_belonging(context: TargetContext, connection: Conn, tree: MediaTree) -> StoreCheck:
    """Make the checks of a pass that need no lock; raise RefusedError if one fails."""
    await refuse_standby(connection)
    await check_tables(connection)
    has_rows = await connection.fetchval(SQL["has_media"])
    await context.disk.call(lambda: check_directory(tree, has_rows=has_rows))
    ledger = await context.ledger.exists(connection)
    if ledger:
        await context.ledger.check_version(connection)
    state = await context.ledger.store(connection) if ledger else None
    mark = await context.disk.call(lambda: read_mark(tree, context.name))
    if compare(mark, state, context.name) == "ahead":
        raise refuse_ahead(context.name)
    if state is not None:
        check_clocks(state, await context.ledger.clock_leap(connection, read_clock()), context.name)
        return StoreCheck(ledger, state.first, has_rows)
    # Without a ledger only the server's clock can be compared with ours.
    now = await connection.fetchval("SELECT clock_timestamp()")
    check_clocks(StoreState(NO_STORE, 0, None, now), 0.0, context.name)
    return StoreCheck(ledger, True, has_rows)
