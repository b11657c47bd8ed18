"""The survey of thumbnails: due by the policies that delete thumbnails and keep the media."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.policy import FIRST_BELIEVABLE_MS, decide
from retentiond.targets.dendrite_media.surveys.survey import Surveyor

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from retentiond.model.media import MediaRow
    from retentiond.model.policy import Keep, Remove, Rules
    from retentiond.model.report import Item
    from retentiond.targets.dendrite_media.surveys.survey import Survey

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
    """Finds the media that lose their thumbnails; call `narrow` after `judge`.

    The media themselves stay and are counted elsewhere; here only the number of rows is counted.
    """

    def _decide(self, row: MediaRow, now: datetime, mentions: frozenset[str] | None) -> Keep | Remove:
        return decide(row, self._rules, now, mentions, removes="thumbnails")

    def _count(
        self, survey: Survey, row: MediaRow, verdict: Keep | Remove, listen: Callable[[Item], None] | None
    ) -> None:
        del row, verdict, listen
        survey.rows += 1

    async def narrow(self, now: datetime) -> None:
        """Leave due only the media with a thumbnail of that age: one that was made yesterday is in use."""
        dates = newest_dates(self._rules, now)
        await self._connection.execute(
            SQL["keep_with_old_thumbnails"], FIRST_BELIEVABLE_MS, int(now.timestamp() * 1000), dates
        )
