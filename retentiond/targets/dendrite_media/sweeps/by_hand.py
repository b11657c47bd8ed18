"""Requests on the quarantine by hand, each with its sweep: restore, and the end of grace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.ledger.host import actor
from retentiond.ledger.lease import hold_lease
from retentiond.ledger.past import read_pass_state
from retentiond.ledger.records import Record, add_record
from retentiond.model.errors import UsageError
from retentiond.targets.dendrite_media.quarantine import entry_table, released_rows
from retentiond.targets.dendrite_media.restore.selected import restore
from retentiond.targets.dendrite_media.store.context import open_store
from retentiond.targets.dendrite_media.store.mark import refuse_ahead
from retentiond.targets.dendrite_media.sweeps.sweep import note_store_clock, sweep

if TYPE_CHECKING:
    from retentiond.engine.target import Selection
    from retentiond.model.report import CancelledPurge, RestoreReport, SweepReport
    from retentiond.targets.dendrite_media.store.context import TargetContext


async def restore_by_hand(context: TargetContext, selection: Selection) -> RestoreReport:
    """Restore the selected items; items of a running pass are left to it."""
    await _existing_ledger(context)
    async with open_store(context) as session:
        await _refuse_running(context, selection)
        # No purge runs during a restore by hand.
        await sweep(session, everything=True, purging=False)
        return await restore(session, selection)


async def end_grace(context: TargetContext) -> SweepReport:
    """Purge the quarantine, without waiting for its grace; never before its settle."""
    await _existing_ledger(context)
    async with open_store(context) as session:
        if session.fit == "ahead":
            raise refuse_ahead(context.name)
        # Refused before any grace is ended: it could not be undone.
        await note_store_clock(context)
        async with context.pool.acquire() as connection, connection.transaction():
            await entry_table.end_grace(connection)
            await released_rows.end_grace(connection, context.config.settle)
            await add_record(connection, Record("grace_ended", context.name, body={"by": actor()}))
        return await sweep(session, everything=True, fresh=True)


async def cancel_purge(context: TargetContext) -> CancelledPurge:
    """Restore the grace that was ended by hand, for all entries that are not being purged at this moment."""
    await _existing_ledger(context)
    async with context.pool.acquire() as connection, connection.transaction():
        await entry_table.give_back_grace(connection)
        cancelled = await released_rows.give_back_grace(connection)
        body = {"by": actor(), "items": cancelled.items}
        await add_record(connection, Record("grace_given_back", context.name, body=body))
    return cancelled


async def _existing_ledger(context: TargetContext) -> None:
    if not await context.ledger.exists(context.pool):
        raise UsageError("there is no quarantine: no pass has run on this database; see `retentiond status`")
    await context.make_ledger()


async def _refuse_running(context: TargetContext, selection: Selection) -> None:
    if selection.pass_id is None:
        return
    state = await read_pass_state(context.pool, selection.pass_id)
    if state is None:
        raise UsageError(
            f"there was no pass {selection.pass_id}; `retentiond quarantine list` lists the passes"
        )
    if state != "running":
        return
    # It may have died without a record; then its lock is free.
    async with (
        hold_lease(context.settings.database, "quarantine restore", patience=0.0),
        context.pool.acquire() as connection,
        connection.transaction(),
    ):
        await context.ledger.interrupt_passes(connection)
