"""Whether database and directory belong together, asked by whoever only looks: nothing is made, nothing is changed."""

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
    from retentiond.targets.dendrite_media.store.workplace import Place


@dataclass(frozen=True, slots=True)
class Belonging:
    """What was found: whether there is a ledger, whether it has had a pass, and whether there are rows."""

    ledger: bool
    first: bool
    has_rows: bool


async def check_belonging(place: Place, connection: Conn, tree: MediaTree) -> Belonging:
    """Make the checks of a pass that need no lock; raises RefusedError where something looks wrong."""
    await refuse_standby(connection)
    await check_tables(connection)
    has_rows = await connection.fetchval(SQL["has_media"])
    await place.disk.call(lambda: check_directory(tree, has_rows=has_rows))
    ledger = await place.ledger.exists(connection)
    if ledger:
        await place.ledger.check_version(connection)
    state = await place.ledger.store(connection) if ledger else None
    mark = await place.disk.call(lambda: read_mark(tree, place.name))
    if compare(mark, state, place.name) == "ahead":
        raise refuse_ahead(place.name)
    if state is not None:
        check_clocks(state, await place.ledger.clock_leap(connection, read_clock()), place.name)
        return Belonging(ledger, state.first, has_rows)
    # Without a ledger there is only the server's clock to hold against ours.
    now = await connection.fetchval("SELECT clock_timestamp()")
    check_clocks(StoreState(NO_STORE, 0, None, now), 0.0, place.name)
    return Belonging(ledger, True, has_rows)
