"""The context that the surveys of one plan share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.targets.dendrite_media.store.check import StoreCheck
    from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes


@dataclass(frozen=True, slots=True)
class PlanContext:
    """The access times, the state of the store, the number of the references' copy, and the time of the plan."""

    accesses: AccessTimes
    belonging: StoreCheck
    copy: int | None
    now: datetime
