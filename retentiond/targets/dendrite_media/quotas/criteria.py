"""The criteria of a quota: rows that no policy removes, but that are the oldest or least recently accessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.facts import facts_of_quota
from retentiond.model.limits import Counts
from retentiond.model.policy import KEEP_REASONS
from retentiond.model.quota import decide_eviction
from retentiond.targets.dendrite_media.quotas.survey import QuotaSurveyor
from retentiond.targets.dendrite_media.surveys.criteria import PolicyCriteria
from retentiond.targets.dendrite_media.surveys.limits import over_limit

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.model.errors import Refusal
    from retentiond.model.facts import Facts
    from retentiond.model.media import MediaRow
    from retentiond.model.quota import Quota
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.store.context import TargetContext
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
