"""The criteria of a quota, and its choice: rows that no policy removes, the oldest or least recently accessed first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retentiond.model.facts import facts_of_quota
from retentiond.model.limits import Counts
from retentiond.model.policy import KEEP_REASONS
from retentiond.model.quota import decide_eviction, size_shortage
from retentiond.targets.dendrite_media.quotas.survey import QuotaSurveyor
from retentiond.targets.dendrite_media.surveys.criteria import PolicyCriteria
from retentiond.targets.dendrite_media.surveys.limits import over_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.errors import Refusal
    from retentiond.model.facts import Facts
    from retentiond.model.media import MediaRow
    from retentiond.model.quota import Quota
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
    from retentiond.targets.dendrite_media.surveys.mentioned import Mentions
    from retentiond.targets.dendrite_media.surveys.survey import Due, Survey


class QuotaCriteria(PolicyCriteria):
    """One quota, at the time when its check began; limits and protections are those of the policies."""

    by_access = False
    counts_unreached = False
    surveyor: QuotaSurveyor

    def __init__(self, context: TargetContext, connection: Conn, quota: Quota, now: datetime) -> None:
        super().__init__(context, connection, now)
        self._quota = quota
        self.surveyor = QuotaSurveyor(connection, context, quota)

    def name_of(self, due: Due) -> str:
        """Return the quota's name."""
        del due
        return self._quota.name

    def stayed(self, due: Due) -> str | None:
        """Return the reason for which the policies keep the row."""
        return KEEP_REASONS[due.policy]

    async def over_limit_with(self, survey: Survey, report: PassReport) -> Refusal | None:
        """Compare with the limits the due rows together with those that the same pass, or plan, removed before."""
        taken = self.taken(report)
        # In a plan they are still in the table.
        rows = survey.rows if report.dry_run else survey.rows + taken
        # A quota removes by rank, not by age: its rows are never growth.
        counts = Counts(rows, survey.due + taken, growth=min(report.growth, taken))
        return await over_limit(self._context, self._connection, counts, first=False)

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the quota may still remove the row."""
        del due
        return decide_eviction(row, self._quota, self._rules, self._now, mentions.get(row.key)) is not None

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return the quota's conditions on references, and those of the policies with `keep: forever`."""
        del due
        return facts_of_quota(row, self._rules, self._quota)


@dataclass(frozen=True, slots=True)
class Chooser:
    """The chooser's inputs; `keep` marks in a survey the rows that holds, marks and protections keep."""

    tree: MediaTree
    accesses: AccessTimes
    progress: Progress
    keep: Callable[[Survey], Awaitable[None]]

    async def choose(
        self, quota: Quota, criteria: QuotaCriteria, now: datetime, short: int, report: PassReport
    ) -> Survey | None:
        """Leave due, on the criteria's surveyor, the rows to remove so that the rest fits; None if there are none.

        `short` is the shortage of free disk space in bytes.
        """
        self.progress.stage("quota", None)
        survey = await criteria.surveyor.judge(now, self.progress)
        if not short and not size_shortage(quota, await criteria.surveyor.told_bytes()):
            return None
        by_access = quota.evict == "least_recently_accessed" and self.accesses.tell
        live = await criteria.surveyor.live_bytes(self.tree, self.accesses, self.progress)
        shortage = max(short, size_shortage(quota, live))
        if not shortage:
            return None
        await self.keep(survey)
        survey.due, size = await criteria.surveyor.choose(shortage, by_access=by_access)
        report.remarks += criteria.surveyor.encryption.remarks()
        if size < shortage:
            report.remarks.append(
                f"{quota.name}: {shortage:,} bytes too much, and only {size:,} of them may go; the rest is protected, "
                "held, kept forever, shared with media that stay, or too young"
            )
        return survey if survey.due else None
