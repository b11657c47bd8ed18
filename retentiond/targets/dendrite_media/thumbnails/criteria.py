"""The criteria for thumbnails: the policies that delete them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.facts import facts_of_policy
from retentiond.model.limits import Counts
from retentiond.model.policy import Remove, decide
from retentiond.targets.dendrite_media.surveys.criteria import PolicyCriteria
from retentiond.targets.dendrite_media.surveys.limits import over_limit
from retentiond.targets.dendrite_media.thumbnails.survey import ThumbnailSurveyor, newest_dates

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.model.errors import Refusal
    from retentiond.model.facts import Facts
    from retentiond.model.media import MediaRow
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.mentioned import Mentions
    from retentiond.targets.dendrite_media.surveys.survey import Due, Survey


class ThumbnailCriteria(PolicyCriteria):
    """The policies with `remove: thumbnails`, at the time the pass began."""

    surveyor: ThumbnailSurveyor

    def __init__(self, context: TargetContext, connection: Conn, now: datetime) -> None:
        super().__init__(context, connection, now)
        self.surveyor = ThumbnailSurveyor(connection, context.name, context.settings.rules)
        self.newest = newest_dates(context.settings.rules, now)

    def stayed(self, due: Due) -> str | None:
        """Return no reason: the media item stays, and is counted elsewhere."""
        del due
        return ""

    async def over_limit_with(self, survey: Survey, report: PassReport, *, first: bool) -> Refusal | None:
        """Compare the due rows with the limits, as a share of all rows at the beginning of the pass, or plan."""
        # In a plan they are still in the table.
        rows = survey.rows if report.dry_run else survey.rows + self.taken(report)
        counts = Counts(rows, survey.due, growth=0 if first else await self.growth())
        return await over_limit(self._context, self._connection, counts, first=first)

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the same policy still removes its thumbnails."""
        verdict = decide(row, self._rules, self._now, mentions.get(row.key), removes="thumbnails")
        return verdict == Remove(self.name_of(due), due.policy)

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return the conditions on references, among the policies for thumbnails."""
        return facts_of_policy(row, self._rules, due.policy, "thumbnails")
