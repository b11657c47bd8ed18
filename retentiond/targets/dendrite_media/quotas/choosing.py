"""Choose the media that a quota removes: the same for plans and passes, up to the limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retentiond.model.quota import size_shortage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from retentiond.engine.target import Progress
    from retentiond.model.quota import Quota
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.quotas.criteria import QuotaCriteria
    from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
    from retentiond.targets.dendrite_media.surveys.survey import Survey


@dataclass(frozen=True, slots=True)
class Chooser:
    """The chooser's inputs; `keep` marks in a survey the rows that holds, marks and protections keep."""

    tree: MediaTree
    accesses: AccessTimes
    progress: Progress
    keep: Callable[[Survey], Awaitable[None]]

    async def choose(
        self, quota: Quota, ground: QuotaCriteria, now: datetime, short: int, report: PassReport
    ) -> Survey | None:
        """Leave due, on the criteria's surveyor, the rows to remove so that the rest fits; None if there are none.

        `short` is the shortage of free disk space in bytes.
        """
        self.progress.stage("quota", None)
        survey = await ground.surveyor.judge(now, self.progress)
        if not short and not size_shortage(quota, await ground.surveyor.told_bytes()):
            return None
        by_access = quota.evict == "least_recently_accessed" and self.accesses.tell
        live = await ground.surveyor.live_bytes(self.tree, self.accesses, self.progress)
        shortage = max(short, size_shortage(quota, live))
        if not shortage:
            return None
        await self.keep(survey)
        survey.due, size = await ground.surveyor.choose(shortage, by_access=by_access)
        report.remarks += ground.surveyor.encryption.remarks()
        if size < shortage:
            report.remarks.append(
                f"{quota.name}: {shortage:,} bytes too much, and only {size:,} of them may go; the rest is protected, "
                "held, kept forever, shared with media that stay, or too young"
            )
        return survey if survey.due else None
