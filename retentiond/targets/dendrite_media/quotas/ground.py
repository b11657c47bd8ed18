"""Why rows go that no policy takes: there is a quota, and they are the oldest, or the least recently accessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retentiond.model.quota import decide_eviction
from retentiond.targets.dendrite_media.mentioned import mentions_of
from retentiond.targets.dendrite_media.quotas.survey import REASONS, QuotaSurveyor
from retentiond.targets.dendrite_media.safety import judge_limits

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.model.errors import Refusal
    from retentiond.model.media import MediaKey, MediaRow
    from retentiond.model.quota import Quota
    from retentiond.targets.dendrite_media.mentioned import Mentions
    from retentiond.targets.dendrite_media.survey import Due, Survey
    from retentiond.targets.dendrite_media.workplace import Place


class QuotaGround:
    """One quota, at the time its check began."""

    even_protected = False
    by_access = False

    def __init__(self, place: Place, connection: Conn, quota: Quota, now: datetime) -> None:
        self._place = place
        self._quota = quota
        self._now = now
        self._connection = connection
        self.surveyor = QuotaSurveyor(connection, place, quota)
        self.references = place.references

    def name_of(self, due: Due) -> str:
        """Return the quota's name."""
        del due
        return self._quota.name

    def stayed(self, due: Due) -> str | None:
        """Return the reason for which the policies let it stay."""
        return REASONS[due.policy]

    async def mentions_again(self, keys: Collection[MediaKey], copy: int | None) -> Mentions:
        """Ask the copy for what quotas and policies ask about."""
        return await mentions_of(self._connection, keys, copy, self.references.asked)

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Tell whether the quota may still take it."""
        del due
        rules = self._place.settings.rules
        return decide_eviction(row, self._quota, rules, self._now, mentions.get(row.key)) is not None

    def over_limit(self, survey: Survey, missing: int, sampled: int, *, first: bool) -> Refusal | None:
        """Hold what it would take against what no pass may go over by itself."""
        return judge_limits(
            self._place.name,
            self._place.config.limits,
            rows=survey.rows,
            due=survey.due,
            missing=missing,
            sampled=sampled,
            first=first,
        )

    def rules(self) -> dict[str, Any]:
        """Return the quotas of the target."""
        quotas = [quota.model_dump(mode="json", exclude_none=True) for quota in self._place.config.quota]
        return {"quota": quotas}

    def cutoffs(self) -> dict[str, str]:
        """Return when a row must have been created to be old enough by now."""
        return {self._quota.name: (self._now - self._quota.min_age).isoformat()}
