"""`quarantine accept` of a room target: the way on after trouble with dendrite, or a wrong clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.ledger.acceptance import look_at_ledger, save_acceptance
from retentiond.ledger.lease import hold_lease
from retentiond.model.acceptance import Acceptance
from retentiond.targets.dendrite_rooms.purges.trouble import accept_trouble, find_stop

if TYPE_CHECKING:
    from retentiond.targets.dendrite_rooms.context import RoomContext

_PATIENCE: Final = 10.0


async def accept(context: RoomContext, *, yes: bool) -> Acceptance:
    """Report what stops the target; with `yes` accept it, with the user and the time in the records."""
    acceptance = Acceptance(context.name)
    if not await context.ledger.exists(context.pool):
        return acceptance
    await context.make_ledger()
    await look_at_ledger(context.pool, context.ledger, await context.ledger.store(context.pool), acceptance)
    stopped = await find_stop(context.pool, context.name)
    if stopped is not None:
        acceptance.refused.append(stopped)
    if not yes:
        return acceptance
    async with (
        hold_lease(context.settings.database, "quarantine accept", patience=_PATIENCE) as lease,
        context.pool.acquire() as connection,
        connection.transaction(),
    ):
        await lease.check(connection)
        await accept_trouble(connection, context.name)
        await save_acceptance(connection, context.ledger, acceptance, last_pass=0)
    acceptance.accepted = True
    return acceptance
