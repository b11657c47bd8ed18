"""One run over a store under its lease: opened, run, and its end on record whatever came between."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from asyncpg import PostgresError

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, connection_to
from retentiond.adapters.postgres_errors import describe
from retentiond.engine.passes import conclude
from retentiond.ledger.lease import Lease, hold_lease
from retentiond.ledger.past import clear_refusal
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.targets.dendrite_media.passes.ending import note_unreachable, record_end
from retentiond.targets.dendrite_media.passes.steps import MediaSteps
from retentiond.targets.dendrite_media.store.context import open_workplace
from retentiond.targets.dendrite_media.store.fresh import no_media_yet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retentiond.engine.target import PassOptions
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.store.context import TargetContext


async def under_lease(
    context: TargetContext,
    order: PassOptions,
    report: PassReport,
    run: Callable[[MediaSteps], Awaitable[None]],
) -> None:
    """Run what is to be run on the store's steps under its lease; a refusal is the report's, and on record."""
    try:
        await context.make_ledger()
        async with hold_lease(context.settings.database, order.command, patience=order.patience) as lease:
            await _work(context, order, lease, report, run)
    except RefusedError as error:
        # A server that nothing can be written to, a pooler: there is nothing to record it in.
        report.refused = error.refusal
        conclude(report)
        get_logger(target=context.name).warning("pass_refused", **asdict(error.refusal))


async def _work(
    context: TargetContext,
    order: PassOptions,
    lease: Lease,
    report: PassReport,
    run: Callable[[MediaSteps], Awaitable[None]],
) -> None:
    async with connection_to(context.settings.database) as connection:
        report.started_at = now = await connection.fetchval("SELECT clock_timestamp()")
        try:
            async with open_workplace(context) as session:
                await _run_steps(MediaSteps(session, connection, lease, order, now), context, report, run)
        except RefusedError as error:
            # The store is not the one: there is nothing to take steps on.
            report.refused = error.refusal
            conclude(report)
            await record_end(context, report)
        except UnreachableError as error:
            sentence = await no_media_yet(context, connection, error)
            if sentence is None:
                await note_unreachable(context, error)
                raise
            report.remarks.append(sentence)
            await clear_refusal(context.pool, context.name)
            conclude(report)
            await record_end(context, report)


async def _run_steps(
    steps: MediaSteps,
    context: TargetContext,
    report: PassReport,
    run: Callable[[MediaSteps], Awaitable[None]],
) -> None:
    try:
        await run(steps)
    except (*LOST, PostgresError) as error:
        # The batch under way was rolled back, or its intents stand: the next pass goes on from there.
        report.state, report.error = "interrupted", f"the database {describe(error)}"
        conclude(report)
        await record_end(context, report)
