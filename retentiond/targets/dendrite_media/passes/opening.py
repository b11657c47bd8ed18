"""The opening of a pass: lease, connection, store and claims, with the record of its end for each way it may fail."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from asyncpg import PostgresError

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, connection_to
from retentiond.adapters.postgres_errors import describe
from retentiond.engine.passes import conclude
from retentiond.ledger.lease import hold_lease
from retentiond.ledger.past import clear_refusal
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.targets.dendrite_media.passes.ending import note_unreachable, record_end
from retentiond.targets.dendrite_media.passes.steps import MediaSteps
from retentiond.targets.dendrite_media.store.context import no_media_yet, open_workplace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AsyncExitStack

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.store.context import TargetContext


async def open_pass(
    opened: AsyncExitStack, context: TargetContext, order: PassOptions, report: PassReport
) -> MediaSteps:
    """Open a pass on a stack, and return its steps.

    The stack closes it: an error, here or in a step, reaches the handlers pushed before it. They put a refusal
    or a lost database into the report and into the ledger while the lease is still held, and end the error.
    """
    opened.enter_context(_refusal_reported(context, report))
    await context.make_ledger()
    lease = await opened.enter_async_context(
        hold_lease(context.settings.database, order.command, patience=order.patience, stop=order.stop)
    )
    connection = await opened.enter_async_context(connection_to(context.settings.database))
    report.started_at = now = await connection.fetchval("SELECT clock_timestamp()")
    await opened.enter_async_context(_unopened_recorded(context, connection, report))
    session = await opened.enter_async_context(open_workplace(context))
    await opened.enter_async_context(_interruption_recorded(context, report))
    return MediaSteps(session, connection, lease, order, now)


@contextmanager
def _refusal_reported(context: TargetContext, report: PassReport) -> Iterator[None]:
    """Report a refusal of the server (a standby, a pooler); no ledger can be written to record it."""
    try:
        yield
    except RefusedError as error:
        report.refused = error.refusal
        conclude(report)
        get_logger(target=context.name).warning("pass_refused", **asdict(error.refusal))


@asynccontextmanager
async def _unopened_recorded(
    context: TargetContext, connection: Conn, report: PassReport
) -> AsyncIterator[None]:
    """Record a directory of another store, or one that cannot be reached; without media yet, the pass has ended well."""
    try:
        yield
    except RefusedError as error:
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


@asynccontextmanager
async def _interruption_recorded(context: TargetContext, report: PassReport) -> AsyncIterator[None]:
    """Record a pass that lost its database.

    Its batch was rolled back, or the batch's intents are in the ledger: the next pass continues from there.
    """
    try:
        yield
    except (*LOST, PostgresError) as error:
        report.state, report.error = "interrupted", f"the database {describe(error)}"
        conclude(report)
        await record_end(context, report)
