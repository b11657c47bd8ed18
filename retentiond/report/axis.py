"""The day axis of a plot, with a place for each day, with or without a pass."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from retentiond.model.statistics import Freed

_FEWEST_DAYS: Final = 30
_MOST_TICKS: Final = 3
_GAP: Final = 0.2  # of a day, between two bars
_LEAST_HEIGHT: Final = 1.0  # a day with a pass that removed nothing is not a day without one


@dataclass(frozen=True, slots=True)
class Bar:
    """One day with passes; `x`, `width` and `height` are percentages of the plot."""

    freed: Freed
    x: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled day; `x` is the middle of the day, a percentage of the plot."""

    day: date
    x: float


@dataclass(frozen=True, slots=True)
class DayAxis:
    """The days from `first` to `last`, all of the same width."""

    first: date
    last: date
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def day_axis(freed: Sequence[Freed], today: date) -> DayAxis:
    """Return an axis that ends today, with a bar for each day with passes (in ascending order).

    The height of a bar is its bytes, or its items if no day has bytes, as with chats.
    """
    # The clock of the database may be ahead.
    last = max([today, *(part.day for part in freed)])
    first = min([last - timedelta(days=_FEWEST_DAYS - 1), *(part.day for part in freed)])
    width = 100 / ((last - first).days + 1)
    sizes = [part.bytes for part in freed]
    if not any(sizes):
        sizes = [part.items for part in freed]
    most = max(sizes, default=0) or 1
    bars = tuple(
        Bar(
            part,
            (part.day - first).days * width + width * _GAP / 2,
            width * (1 - _GAP),
            max(100 * size / most, _LEAST_HEIGHT),
        )
        for part, size in zip(freed, sizes, strict=True)
    )
    return DayAxis(first, last, bars, _ticks(first, last, width))


def _ticks(first: date, last: date, width: float) -> tuple[Tick, ...]:
    """Return labelled days, the last one and whole weeks before it."""
    weeks = -(-((last - first).days + 1) // (7 * _MOST_TICKS))
    step = timedelta(weeks=weeks)
    days = [last - step * number for number in range(_MOST_TICKS) if last - step * number >= first]
    return tuple(Tick(day, ((day - first).days + 0.5) * width) for day in reversed(days))
