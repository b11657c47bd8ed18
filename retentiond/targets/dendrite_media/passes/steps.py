"""The steps of a pass over dendrite's media, in the engine's order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.engine.target import STOPPED
from retentiond.ledger import past
from retentiond.ledger.ledger import PassHeader
from retentiond.ledger.records import prune_after
from retentiond.model.errors import Refusal, RefusedError
from retentiond.targets.dendrite_media.database.index import ensure_index
from retentiond.targets.dendrite_media.database.rows import SQL
from retentiond.targets.dendrite_media.disk.look import file_missing
from retentiond.targets.dendrite_media.passes.ending import record_end
from retentiond.targets.dendrite_media.passes.preparing import begin, make_safe
from retentiond.targets.dendrite_media.quarantine.release import Releaser
from retentiond.targets.dendrite_media.quarantine.removal import Removal
from retentiond.targets.dendrite_media.quotas.eviction import Evictions
from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
from retentiond.targets.dendrite_media.surveys.criteria import criteria_of
from retentiond.targets.dendrite_media.surveys.sizes import due_by_age
from retentiond.targets.dendrite_media.surveys.thumbnails import ThumbnailCriteria
from retentiond.targets.dendrite_media.sweeps.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.policy import Policy
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.store.context import StoreSession
    from retentiond.targets.dendrite_media.surveys.survey import Survey


_LARGEST: Final = 2**63 - 1
"""The largest value of the column; the sum of recorded sizes may be any number, and must not end the pass."""


class MediaSteps:
    """One pass: `connection` is its own, for the survey and the releases, one at a time."""

    def __init__(
        self, session: StoreSession, connection: Conn, lease: Lease, order: PassOptions, now: datetime
    ) -> None:
        self._session = session
        self._context = session.context
        self._connection = connection
        self._lease = lease
        self._order = order
        self._now = now
        self._log = get_logger(target=session.context.name)
        self._criteria = criteria_of(session.context, connection, order.request, now)
        self._surveyor = self._criteria.surveyor
        self._accesses = AccessTimes(session.context, session.tree, connection, now)

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
        """Judge every row, mark the kept rows, and compare the counts with the limits."""
        progress = self._order.progress
        references = self._criteria.references
        # An unreadable source refuses the pass before the long survey of every row.
        if self._criteria.by_access:
            await self._accesses.prepare(report)
        async with references.held(self._connection, begun_after=self._now) as copy:
            await self._surveyor.learn(copy, references.asked, plan=False)
        await self._context.hold_references.refresh(self._connection, begun_after=self._now)
        progress.stage("survey", None)
        survey = await self._surveyor.judge(self._now, progress)
        await self._accesses.drop_accessed(survey, progress, listen=None)
        async with references.held(self._connection, begun_after=self._now) as copy:
            await self._surveyor.keep(
                survey, ledger=True, copy=copy, protections=references.protections, plan=False
            )
        report.remarks += self._surveyor.encryption.remarks()
        report.kept.update(survey.kept + survey.kept_due)
        report.await_turn(survey.due, survey.due_bytes)
        report.orphan_thumbnail_row = await self._connection.fetchval(SQL["orphan_thumbnail_rows"])
        if report.orphan_thumbnail_row:
            self._log.warning("inconsistency", kind="orphan_thumbnail_row", items=report.orphan_thumbnail_row)
        if self._order.request is None:
            await self._note_backlog()
        progress.stage("remove", survey.due + survey.kept_due.total())
        return await self._judge(survey, report)

    async def _note_backlog(self) -> None:
        policies = self._context.settings.rules.policies
        await note_backlog(self._connection, self._context.name, policies, self._now)

    async def _judge(self, survey: Survey, report: PassReport) -> Refusal | None:
        sample = survey.sample.contents()
        missing = await self._context.disk.share(file_missing(self._session.tree), sample)
        first = self._session.state.first
        return await self._criteria.over_limit(survey, report, sum(missing), len(sample), first=first)

    async def begin(self, report: PassReport) -> None:
        """Give the pass its number, in the ledger and then on the disk."""
        await self._number(report)

    async def _number(self, report: PassReport) -> int:
        header = PassHeader(
            target=self._context.name,
            kind=report.kind,
            command=self._order.command,
            started_at=report.started_at,
            rules=self._criteria.rules(),
            grace=self._context.config.grace,
            settle=self._context.config.settle,
            cutoffs=self._criteria.cutoffs(),
        )
        pass_id = await begin(self._session, self._connection, self._lease, header)
        report.pass_id = pass_id
        return pass_id

    async def remove(self, report: PassReport) -> None:
        """Remove the rows that the survey found due through the protocol, then thumbnails, then the excess of quotas."""
        if report.pass_id is None:
            return
        releaser = Releaser(self._session, self._connection, self._lease, report.pass_id, self._criteria)
        removal = Removal(self._session, releaser, self._criteria, self._accesses, report, self._order)
        await removal.run()
        if self._order.request is not None:
            return
        # The following steps make surveys of their own. If the removal failed, the rows that it left are still
        # visible.
        await self._note_backlog()
        settings = self._context.settings
        if self._order.stop.asked:
            if settings.rules.thumbnail_policies or settings.quotas:
                report.state, report.error = "interrupted", STOPPED
            return
        for further in (self._remove_thumbnails, self.evict):
            try:
                await further(report)
            except RefusedError as error:
                # The earlier steps are done, and counted; the refusal is reported beside them.
                report.refused = report.refused or error.refusal

    async def _remove_thumbnails(self, report: PassReport) -> None:
        context, connection, now = self._context, self._connection, self._now
        if report.pass_id is None or not context.settings.rules.thumbnail_policies:
            return
        criteria = ThumbnailCriteria(context, connection, now)
        async with context.references.held(connection, begun_after=now) as copy:
            await criteria.surveyor.learn(copy, context.references.asked, plan=False)
        self._order.progress.stage("thumbnails", None)
        survey = await criteria.surveyor.judge(now, self._order.progress)
        await criteria.surveyor.narrow(now)
        await self._accesses.drop_accessed(survey, self._order.progress, listen=None)
        async with context.references.held(connection, begun_after=now) as copy:
            await criteria.surveyor.keep(
                survey, ledger=True, copy=copy, protections=context.references.protections, plan=False
            )
        refusal = await criteria.over_limit_with(survey, report, first=self._session.state.first)
        if refusal is not None and not self._order.over_limits:
            raise RefusedError(refusal)
        report.await_turn(survey.due, survey.due_bytes)
        self._order.progress.stage("remove", survey.due + survey.kept_due.total())
        releaser = Releaser(self._session, connection, self._lease, report.pass_id, criteria)
        await Removal(self._session, releaser, criteria, self._accesses, report, self._order).run()

    async def evict(self, report: PassReport) -> None:
        """Enforce the quotas; raise RefusedError if a removal would exceed the limits."""
        evictions = Evictions(
            self._session, self._connection, self._lease, self._order, self._accesses, self._number
        )
        await evictions.run(report)

    async def prepare_eviction(self, report: PassReport) -> None:
        """Find out whether access times can be read, for a check of the quotas alone."""
        await self._accesses.prepare(report, policies=False)

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
        await record_end(self._context, report)
        await prune_after(self._connection, report, self._order.keep_records)


async def note_backlog(connection: Conn, target: str, policies: Sequence[Policy], now: datetime) -> None:
    """Record how much of this connection's survey is due and not removed, and since when the oldest is due."""
    due = await due_by_age(connection, policies, now)
    since = [part.oldest + keep for part in due if (keep := policies[part.policy].keep) is not None]
    await past.note_backlog(
        connection,
        target,
        sum(part.items for part in due),
        min(sum(part.bytes for part in due), _LARGEST),
        min(since, default=None),
    )
