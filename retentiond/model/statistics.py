"""Statistics of a store: its composition, the effect of policies at other ages, and the space freed so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.model.report import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from retentiond.model.limits import Headroom
    from retentiond.model.usage import UsageBy, UsageRow

LONGEST_AGE: Final = 3650
"""Days; an older item counts as that old."""
FREED_DAYS: Final = 120
"""The days up to now whose passes a picture shows."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the store: items, and their bytes. `name` is untrusted text."""

    name: str
    items: int
    bytes: int


@dataclass(slots=True)
class AgeCurve:
    """The media that a policy matches, by age in whole days, without those kept for another reason.

    `keep` is the policy's own age in days, None forever.
    """

    policy: str
    keep: int | None
    items: Counter[int] = field(default_factory=Counter)
    bytes: Counter[int] = field(default_factory=Counter)

    def add(self, age: int, items: int, size: int) -> None:
        """Count items of so many days, and their bytes together."""
        day = min(max(age, 0), LONGEST_AGE)
        self.items[day] += items
        self.bytes[day] += size

    def older_than(self, days: int) -> Tally:
        """Return the media to be deleted if the policy kept so many days."""
        aged = [day for day in self.items if day >= days]
        return Tally(sum(self.items[day] for day in aged), sum(self.bytes[day] for day in aged))


@dataclass(frozen=True, slots=True)
class Freed:
    """The deletions of passes on one day, in UTC."""

    day: date
    items: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PassTotals:
    """All passes of a target together: items taken, blobs purged, rows restored."""

    taken: Tally
    purged: Tally
    restored: int


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """The statistics of one target.

    Sizes are the bytes that leave the media tree, as the database records them: of a blob that several rows share, once.
    With an `error`, the reason why the target could not be read, all other fields are empty.
    """

    target: str
    kind: str
    at: datetime
    total: Tally
    by_origin: tuple[Slice, ...] = ()
    by_type: tuple[Slice, ...] = ()
    by_age: tuple[Slice, ...] = ()
    curves: tuple[AgeCurve, ...] = ()
    freed: tuple[Freed, ...] = ()
    kept: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, int] = field(default_factory=dict)
    quarantine: Tally = field(default_factory=Tally)
    totals: PassTotals | None = None
    limits: tuple[Headroom, ...] = ()
    usage: Mapping[UsageBy, Sequence[UsageRow]] = field(default_factory=dict)
    error: str | None = None


def with_others(largest: Sequence[Slice], total: Tally, others: str) -> tuple[Slice, ...]:
    """Return the largest slices, and the rest of the total as one slice with the given name."""
    items = total.items - sum(part.items for part in largest)
    size = total.bytes - sum(part.bytes for part in largest)
    return (*largest, Slice(others, items, max(size, 0))) if items > 0 else tuple(largest)
