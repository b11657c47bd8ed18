"""The survey of thumbnails that policies remove while their media stay: its criteria, and the media that are due."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.facts import facts_of_policy
from retentiond.model.limits import Counts
from retentiond.model.policy import FIRST_BELIEVABLE_MS, Remove, decide
from retentiond.targets.dendrite_media.surveys.criteria import PolicyCriteria, over_limit
from retentiond.targets.dendrite_media.surveys.gone import leave_out_gone
from retentiond.targets.dendrite_media.surveys.survey import Surveyor

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.errors import Refusal
    from retentiond.model.facts import Facts
    from retentiond.model.media import MediaRow
    from retentiond.model.policy import Rules
    from retentiond.model.report import Item, PassReport
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.asked import Mentions
    from retentiond.targets.dendrite_media.surveys.survey import Due, Survey


SQL: Final = named_queries(__package__, "thumbnails.sql")


def newest_dates(rules: Rules, now: datetime) -> list[int]:
    """Return the newest thumbnail date, in milliseconds, that each policy removes; 0 for other policies."""
    return [
        int(now.timestamp() * 1000) - policy.keep // timedelta(milliseconds=1)
        if policy.removes == "thumbnails" and policy.keep is not None
        else 0
        for policy in rules.policies
    ]


class ThumbnailSurveyor(Surveyor):
    """Finds the media that lose their thumbnails.

    The media themselves stay and are counted elsewhere; here only the number of rows is counted.
    """

    _removes = "thumbnails"

    async def judge(
        self, now: datetime, progress: Progress, listen: Callable[[Item], None] | None = None
    ) -> Survey:
        """Judge every row; due are only media with a thumbnail of that age: one that was made yesterday is in use."""
        survey = await super().judge(now, progress, listen)
        await leave_out_gone(self._connection)
        dates = newest_dates(self._rules, now)
        await self._connection.execute(
            SQL["keep_with_old_thumbnails"], FIRST_BELIEVABLE_MS, int(now.timestamp() * 1000), dates
        )
        return survey


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

    async def over_limit(
        self, survey: Survey, report: PassReport, *, first: bool, missing: tuple[int, int] = (0, 0)
    ) -> Refusal | None:
        """Compare the due rows with the limits, as a share of all rows at the beginning of the pass, or plan."""
        del missing
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
