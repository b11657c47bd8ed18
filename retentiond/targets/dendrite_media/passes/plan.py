"""The plan: removals by policies or a request, then of thumbnails alone, then for quotas, each within limits.

Each removal is a survey, whose candidates have verdicts, and the limits for it. A dry run (views/plan.py) counts the
candidates, and a pass (passes/steps.py) releases them; the order, the surveys, the limits and the counts are here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.engine.target import STOPPED
from retentiond.model.errors import RefusedError
from retentiond.targets.dendrite_media.disk.look import file_missing
from retentiond.targets.dendrite_media.quarantine.removal import Removal
from retentiond.targets.dendrite_media.quotas.survey import QuotaCriteria
from retentiond.targets.dendrite_media.references.copies import LARGEST_AGE
from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
from retentiond.targets.dendrite_media.surveys.criteria import criteria_of
from retentiond.targets.dendrite_media.surveys.gone import make_gone
from retentiond.targets.dendrite_media.surveys.survey import Survey
from retentiond.targets.dendrite_media.surveys.thumbnails import ThumbnailCriteria

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from retentiond.model.errors import Refusal
    from retentiond.model.quota import Quota
    from retentiond.model.report import Item, PassReport
    from retentiond.model.request import Request
    from retentiond.targets.dendrite_media.quarantine.release import BatchReleaser
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.store.context import PlanContext
    from retentiond.targets.dendrite_media.surveys.criteria import SurveyCriteria

SQL: Final = named_queries(__package__, "plan.sql")


class Plan(ABC):
    """The removals of one pass or request; each counts its items in the report."""

    def __init__(self, plan: PlanContext, request: Request | None) -> None:
        self._plan = plan
        self._context = plan.target
        self._connection = plan.connection
        self._request = request
        self._criteria = criteria_of(plan.target, plan.connection, request, plan.now)
        self._accesses = AccessTimes(plan.target, plan.tree, plan.connection, plan.now)
        self._survey = Survey()
        # Of an item that a quota may still remove, the verdict is not known yet.
        self._listen = None if plan.target.settings.quotas and request is None else plan.listen

    @abstractmethod
    def _references(
        self, references: References, begun_after: datetime
    ) -> AbstractAsyncContextManager[int | None]:
        """Yield the number of a copy of the references, for as long as it is used."""

    @abstractmethod
    async def _read_holds(self, begun_after: datetime) -> None:
        """Make sure that the references of holds were read after that time."""

    @abstractmethod
    async def _releaser(self, criteria: SurveyCriteria, report: PassReport) -> BatchReleaser:
        """Return the releaser of the batches of a removal; in a dry run it counts them."""

    @abstractmethod
    def _refuse(self, refusal: Refusal | None, report: PassReport) -> None:
        """Report a limit that a removal after the first would exceed; raise RefusedError if that ends it."""

    @abstractmethod
    async def _shortage(self, quota: Quota, report: PassReport) -> int | None:
        """Return by how many bytes the disk is too full for a quota; None if the quota fits for certain."""

    @abstractmethod
    async def _begin_eviction(self, quota: Quota, short: int, report: PassReport) -> None:
        """Prepare the removal for a quota."""

    @abstractmethod
    async def _note_backlog(self) -> None:
        """Record how much of the survey is due and not removed."""

    async def survey(self, report: PassReport) -> Refusal | None:
        """Judge every row, mark the kept rows, and compare the counts with the limits."""
        criteria, plan = self._criteria, self._plan
        # An unreadable source refuses the pass before the long survey of every row.
        if criteria.by_access:
            await self._accesses.prepare(report, plan=plan.dry, ledger=plan.ledger)
        return await self._survey_first(report)

    async def _survey_first(self, report: PassReport) -> Refusal | None:
        criteria, plan = self._criteria, self._plan
        survey = self._survey = await self._judge(criteria, "survey", report, self._listen)
        report.remarks += criteria.surveyor.encryption.remarks()
        report.kept.update(survey.kept + survey.kept_due)
        report.await_turn(survey.due, survey.due_bytes)
        # `fetch` reads to the end, which lets the server use its workers.
        (orphans,) = await self._connection.fetch(SQL["orphan_thumbnail_rows"])
        report.orphan_thumbnail_row = orphans[0]
        sample = await criteria.surveyor.sample(survey)
        missing = await self._context.disk.share(file_missing(plan.tree), sample)
        counts = (sum(missing), len(sample))
        return await criteria.over_limit(survey, report, first=plan.first, missing=counts)

    async def remove(self, report: PassReport) -> None:
        """Remove the rows that the survey found due, then thumbnails alone, then the excess of quotas."""
        removal = await self._removal(self._criteria, self._survey, report, self._accesses, self._listen)
        await removal.run()
        if self._request is not None:
            return
        # The following removals make surveys of their own. If the first failed, the rows that it left are still
        # visible.
        await self._note_backlog()
        settings = self._context.settings
        if self._plan.stop.asked:
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
        plan = self._plan
        if not self._context.settings.rules.thumbnail_policies:
            return
        criteria = ThumbnailCriteria(plan.target, plan.connection, plan.now)
        await make_gone(plan.connection)
        survey = await self._judge(criteria, "thumbnails", report, None)
        self._refuse(await criteria.over_limit(survey, report, first=plan.first), report)
        report.await_turn(survey.due, survey.due_bytes)
        removal = await self._removal(criteria, survey, report, self._accesses, plan.listen)
        await removal.run()

    async def evict(self, report: PassReport) -> None:
        """Enforce the quotas; raise RefusedError if a removal would exceed the limits."""
        for quota in self._context.settings.quotas:
            if self._plan.stop.asked:
                return
            short = await self._shortage(quota, report)
            if short is not None:
                await self._evict(quota, short, report)

    async def _evict(self, quota: Quota, short: int, report: PassReport) -> None:
        plan, connection = self._plan, self._connection
        now = await connection.fetchval("SELECT clock_timestamp()")
        criteria = QuotaCriteria(plan.target, connection, quota, now)
        oldest = now - LARGEST_AGE
        # An unreadable source refuses the quota before the long survey of every row.
        await self._learn(criteria, oldest)
        await make_gone(connection)
        keep = partial(self._keep, criteria, oldest)
        survey = await criteria.choose(plan, self._accesses, short, keep, report)
        if plan.dry:
            report.count_policies(criteria.surveyor.matched, {})
        if survey is None:
            return
        self._refuse(await criteria.over_limit(survey, report, first=plan.first), report)
        await self._begin_eviction(quota, short, report)
        removal = await self._removal(criteria, survey, report, None, plan.listen)
        await removal.run()

    async def _removal(
        self,
        criteria: SurveyCriteria,
        survey: Survey,
        report: PassReport,
        accesses: AccessTimes | None,
        listen: Callable[[Item], None] | None,
    ) -> Removal:
        stage = "look" if self._plan.dry else "remove"
        self._plan.progress.stage(stage, survey.due + survey.kept_due.total())
        releaser = await self._releaser(criteria, report)
        return Removal(self._plan, criteria, releaser, accesses, report, listen)

    async def _judge(
        self,
        criteria: SurveyCriteria,
        stage: str,
        report: PassReport,
        listen: Callable[[Item], None] | None,
    ) -> Survey:
        """Survey every row by these criteria, and mark the rows that accesses, holds, marks or protections keep."""
        plan = self._plan
        await self._learn(criteria, plan.now)
        plan.progress.stage(stage, None)
        survey = await criteria.surveyor.judge(plan.now, plan.progress, listen)
        await self._accesses.drop_accessed(survey, plan.progress, listen)
        await self._keep(criteria, plan.now, survey)
        if plan.dry:
            report.count_policies(criteria.surveyor.matched, await criteria.surveyor.due_by())
        return survey

    async def _learn(self, criteria: SurveyCriteria, begun_after: datetime) -> None:
        references = criteria.references
        async with self._references(references, begun_after) as copy:
            await criteria.surveyor.learn(copy, references.asked, plan=self._plan.dry)
        await self._read_holds(begun_after)

    async def _keep(self, criteria: SurveyCriteria, begun_after: datetime, survey: Survey) -> None:
        references = criteria.references
        async with self._references(references, begun_after) as copy:
            await criteria.surveyor.keep(
                survey,
                ledger=self._plan.ledger,
                copy=copy,
                protections=references.protections,
                plan=self._plan.dry,
            )
