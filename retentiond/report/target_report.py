"""All that a page says about one target, collected by its capabilities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.engine.capabilities import HasRecords, HasSamples, HasStatistics, HasUsage, NamesRooms
from retentiond.model.usage import MOST_ROWS
from retentiond.report.target_state import TargetState, reached

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import Progress, Target
    from retentiond.model.notices import Sent
    from retentiond.model.records import Link
    from retentiond.model.samples import Sample
    from retentiond.model.statistics import StoreStatistics
    from retentiond.model.usage import UsageBy, UsageRow

MOST_KEYS: Final = 10
"""The largest keys of a division that the page shows."""


@dataclass(frozen=True, slots=True)
class TargetReport:
    """A target's state, statistics, samples, and the largest parts of each division; `rooms` are the names of rooms.

    With an error in its state all else is empty.
    """

    state: TargetState
    statistics: StoreStatistics | None = None
    usage: Mapping[UsageBy, Sequence[UsageRow]] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    rooms: Mapping[str, str] = field(default_factory=dict)
    newest_record: Link | None = None
    last_notice: Sent | None = None


async def collect(target: Target, config: TargetConfig, now: datetime, progress: Progress) -> TargetReport:
    """Collect the report of a target, without changes; raise RetentiondError if it cannot be read."""
    rooms: Mapping[str, str] = {}
    state = reached(config, await target.status(), now)
    statistics = await target.statistics(progress) if isinstance(target, HasStatistics) else None
    usage: dict[UsageBy, Sequence[UsageRow]] = dict(statistics.usage) if statistics is not None else {}
    if isinstance(target, HasUsage) and not usage:
        for by in target.divisions:
            usage[by] = await target.usage(by, MOST_ROWS, progress)
    if isinstance(target, NamesRooms) and "room" in usage:
        rooms = await target.room_names([row.key for row in usage["room"][:MOST_KEYS]])
    return TargetReport(
        state,
        statistics,
        usage,
        await target.samples() if isinstance(target, HasSamples) else (),
        rooms,
        await target.newest_record() if isinstance(target, HasRecords) else None,
    )


def unreadable(name: str, config: TargetConfig, error: str) -> TargetReport:
    """Return the report of a target that could not be read, and why."""
    return TargetReport(TargetState(name, config.kind, config.schedule, error=error))
