"""A pass over dendrite's media: the plan, carried out, in the engine's order of steps.

It opens with a lease, a connection, the store and claims, with the record of its end for each way it may fail.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final

from asyncpg import PostgresError

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, connection_to, named_queries
from retentiond.adapters.postgres_errors import describe
from retentiond.engine.passes import conclude
from retentiond.ledger import past
from retentiond.ledger.lease import hold_lease
from retentiond.ledger.ledger import PassHeader
from retentiond.ledger.samples import prune_after
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.targets.dendrite_media.database.index import ensure_index
from retentiond.targets.dendrite_media.passes.ends import begin, make_safe, note_unreachable
from retentiond.targets.dendrite_media.passes.plan import Plan
from retentiond.targets.dendrite_media.quarantine.release import Releaser
from retentiond.targets.dendrite_media.quotas.space import forget_evictions, make_room, note_eviction
from retentiond.targets.dendrite_media.store.context import PlanContext, no_media_yet, open_store
from retentiond.targets.dendrite_media.surveys.sizes import due_by_age
from retentiond.targets.dendrite_media.sweeps.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager, AsyncExitStack
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.errors import Refusal
    from retentiond.model.policy import Policy
    from retentiond.model.quota import Quota
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext
    from retentiond.targets.dendrite_media.surveys.criteria import SurveyCriteria

SQL: Final = named_queries(__package__, "steps.sql")
_LARGEST: Final = 2**63 - 1
"""The largest value of the column; the sum of recorded sizes may be any number, and must not end the pass."""


class MediaSteps(Plan):
    """One pass: the plan, carried out. The connection is its own, for the survey and the releases, one at a time."""

    def __init__(
        self, session: StoreSession, connection: Conn, lease: Lease, options: PassOptions, now: datetime
    ) -> None:
        plan = PlanContext(
            session.context, session.tree, connection, now, options.progress, options.stop, dry=False, ledger=True,
            first=session.state.first,
        )  # fmt: skip
        super().__init__(plan, options.request)
        self._session = session
        self._lease = lease
        self._options = options
        self._log = get_logger(target=session.context.name)

    async def make_safe(self) -> None:
        """Check the store's identity, its clock and its directory; make the quarantine's directories."""
        await make_safe(self._session, self._connection)

    async def sweep(self) -> None:
        """Finish interrupted work, take stock, purge expired entries.

        The index is created first, before any cursor is open.
        """
        if self._context.config.create_index:
            await ensure_index(self._connection, self._context.name)
        await sweep(self._session, everything=True)

    async def survey(self, report: PassReport) -> Refusal | None:
        """Judge every row, and record how much is due."""
        refusal = await super().survey(report)
        if report.orphan_thumbnail_row:
            self._log.warning("inconsistency", kind="orphan_thumbnail_row", items=report.orphan_thumbnail_row)
        if self._options.request is None:
            await self._note_backlog()
        return refusal

    async def _note_backlog(self) -> None:
        policies = self._context.settings.rules.policies
        await save_backlog(self._connection, self._context.name, policies, self._plan.now)

    def _references(
        self, references: References, begun_after: datetime
    ) -> AbstractAsyncContextManager[int | None]:
        return references.held(self._connection, begun_after=begun_after)

    async def _read_holds(self, begun_after: datetime) -> None:
        await self._context.hold_references.refresh(self._connection, begun_after=begun_after)

    def _refuse(self, refusal: Refusal | None, report: PassReport) -> None:
        del report
        if refusal is not None and not self._options.over_limits:
            raise RefusedError(refusal)

    async def _releaser(self, criteria: SurveyCriteria, report: PassReport) -> Releaser:
        pass_id = report.pass_id if report.pass_id is not None else await self._number(report)
        return Releaser(self._session, self._connection, self._lease, pass_id, criteria)

    async def begin(self, report: PassReport) -> None:
        """Give the pass its number, in the ledger and then on the disk."""
        await self._number(report)

    async def _number(self, report: PassReport) -> int:
        header = PassHeader(
            target=self._context.name,
            kind=report.kind,
            command=self._options.command,
            started_at=report.started_at,
            rules=self._criteria.rules(),
            grace=self._context.config.grace,
            settle=self._context.config.settle,
            cutoffs=self._criteria.cutoffs(),
        )
        pass_id = await begin(self._session, self._connection, self._lease, header)
        report.pass_id = pass_id
        return pass_id

    async def prepare_eviction(self, report: PassReport) -> None:
        """Find out whether access times can be read, for a check of the quotas alone."""
        await self._accesses.prepare(report, policies=False)

    async def evict(self, report: PassReport) -> None:
        """Enforce the quotas; raise RefusedError if a removal would exceed the limits."""
        await forget_evictions(self._connection, self._context.name, self._context.settings.quotas)
        await super().evict(report)

    async def _shortage(self, quota: Quota, report: PassReport) -> int | None:
        purge = partial(sweep, self._session, everything=False, fresh=True)
        return await make_room(self._session, self._connection, quota, report, purge)

    async def _begin_eviction(self, quota: Quota, short: int, report: PassReport) -> None:
        if report.pass_id is None:
            await self._number(report)
        if short:
            await note_eviction(self._session, self._connection, quota)

    async def account(self, report: PassReport) -> None:
        """Count the blobs of which some rows were released and some stayed."""
        report.shared_blobs = await self._connection.fetchval(SQL["shared_blobs"], report.pass_id)
        report.ownership = self._criteria.ownership()
        if report.ownership is not None:
            counts = await self._connection.fetch(SQL["released_uploaders"], report.pass_id)
            report.ownership.removed.update({row["user_id"]: row["items"] for row in counts})
        await self._accesses.forget_old()

    async def end(self, report: PassReport) -> None:
        """Record the end, and delete records that are too old."""
        await self._context.ledger.record_end(self._context.pool, report)
        await prune_after(self._connection, report, self._options.keep_records)


async def open_pass(
    opened: AsyncExitStack, context: TargetContext, options: PassOptions, report: PassReport
) -> MediaSteps:
    """Open a pass on a stack, and return its steps.

    The stack closes it: an error, here or in a step, reaches the handlers pushed before it. They put a refusal
    or a lost database into the report and into the ledger while the lease is still held, and end the error.
    """
    opened.enter_context(_refusal_reported(context, report))
    await context.make_ledger()
    lease = await opened.enter_async_context(
        hold_lease(context.settings.database, options.command, patience=options.patience, stop=options.stop)
    )
    connection = await opened.enter_async_context(connection_to(context.settings.database))
    report.started_at = now = await connection.fetchval("SELECT clock_timestamp()")
    await opened.enter_async_context(_unopened_recorded(context, connection, report))
    session = await opened.enter_async_context(open_store(context))
    await opened.enter_async_context(_interruption_recorded(context, report))
    return MediaSteps(session, connection, lease, options, now)


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
        await context.ledger.record_end(context.pool, report)
    except UnreachableError as error:
        sentence = await no_media_yet(context, connection, error)
        if sentence is None:
            await note_unreachable(context, error)
            raise
        report.remarks.append(sentence)
        await context.ledger.clear_refusal(context.pool, context.name)
        conclude(report)
        await context.ledger.record_end(context.pool, report)


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
        await context.ledger.record_end(context.pool, report)


async def save_backlog(connection: Conn, target: str, policies: Sequence[Policy], now: datetime) -> None:
    """Record how much of this connection's survey is due and not removed, and since when the oldest is due."""
    due = await due_by_age(connection, policies, now)
    since = [part.oldest + keep for part in due if (keep := policies[part.policy].keep) is not None]
    await past.save_backlog(
        connection,
        target,
        sum(part.items for part in due),
        min(sum(part.bytes for part in due), _LARGEST),
        min(since, default=None),
    )
