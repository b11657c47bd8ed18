"""The data of the report's plots: series over days with true gaps, and policies over ages."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.forecast import find_trend, forecast_full
from retentiond.model.report import Tally
from retentiond.model.statistics import LONGEST_AGE, AgeCurve
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from retentiond.model.statistics import Freed
    from retentiond.model.usage import Sample

_EPOCH: Final = date(1970, 1, 1)
MOST_DAYS: Final = 200
"""Days that a plot shows one by one."""
_LABEL_LIMIT: Final = 40
AGES: Final = (7, 14, 30, 60, 90, 180, 365, 730)
"""The ages of the table, in days."""
_MOST_CURVES: Final = 6


@dataclass(frozen=True, slots=True)
class Series:
    """A line or the bars of a plot; None is a gap. `unit` is bytes or the noun of a count."""

    label: str
    unit: str
    values: list[int | None]
    look: str = "line"
    """line, bars, or dashed (a forecast)."""
    more: list[int | None] | None = None
    """Items that go with the bytes."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its series over days (since 1970) or ages in days, and the ages at which policies are set."""

    kind: str
    title: str
    x: list[int]
    series: list[Series]
    marks: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of series and age."""
    band: bool = False
    """Whether the last two series bound the one before them."""

    def as_json(self) -> dict[str, Any]:
        """Return the plot for the page's script."""
        return {
            "kind": self.kind,
            "title": self.title,
            "x": self.x,
            "marks": self.marks,
            "band": self.band,
            "series": [
                {
                    "label": printable(one.label, _LABEL_LIMIT) or "(no name)",
                    "unit": one.unit,
                    "look": one.look,
                    "values": one.values,
                }
                | ({"more": one.more} if one.more is not None else {})
                for one in self.series
            ],
        }


def number_of(day: date) -> int:
    """Return the days since 1970."""
    return (day - _EPOCH).days


def _thin(days: Sequence[date], most: int) -> dict[date, bool]:
    """Return the days that a plot shows, and between two of them where samples are missing one more, with False.

    The newest `most` days are all shown, of older ones one a week, of those older than five times that one in four weeks.
    """
    if not days:
        return {}
    newest = days[-1]

    def step(day: date) -> int:
        age = (newest - day).days
        return 1 if age < most else 7 if age < 5 * most else 28

    # The newest sample of each step.
    kept = sorted({((newest - day).days // step(day), step(day)): day for day in days}.values())
    shown: dict[date, bool] = {}
    for earlier, later in pairwise(kept):
        shown[earlier] = True
        if (later - earlier).days >= 2 * step(earlier):
            shown[earlier + timedelta(days=1)] = False
    return shown | {newest: True}


def plot_stored(samples: Sequence[Sample], noun: str, most: int = MOST_DAYS) -> Plot | None:
    """Return the stored bytes over time, or the items of a store whose items have no sizes."""
    days = _thin([sample.day for sample in samples], most)
    if not days:
        return None
    by_day = {sample.day: sample for sample in samples if days.get(sample.day)}
    sized = any(sample.stored.bytes for sample in samples)

    def values(tally_of: Any) -> list[int | None]:
        found = [by_day.get(day) for day in days]
        return [None if sample is None else tally_of(sample) for sample in found]

    items = values(lambda sample: sample.stored.items)
    if not sized:
        return Plot("time", f"Stored {noun}s", [*map(number_of, days)], [Series("stored", noun, items)])
    series = [Series("stored", "bytes", values(lambda sample: sample.stored.bytes), more=items)]
    for name in sorted({name for sample in samples for name in sample.classes}):
        classes = values(lambda sample, name=name: sample.classes.get(name, Tally()).bytes)
        series.append(Series(name, "bytes", classes))
    return Plot("time", "Stored", [*map(number_of, days)], series)


def free_series(samples: Sequence[Sample]) -> list[tuple[date, int]]:
    """Return the free bytes of the days that have them."""
    return [(sample.day, sample.free_bytes) for sample in samples if sample.free_bytes is not None]


def plot_free(samples: Sequence[Sample], today: date, most: int = MOST_DAYS) -> Plot | None:
    """Return the free bytes over time with the forecast and its bounds."""
    free = free_series(samples)
    days = _thin([day for day, _ in free], most)
    if not days:
        return None
    by_day = {day: size for day, size in free if days.get(day)}
    x = [*map(number_of, days)]
    past: list[int | None] = [by_day.get(day) for day in days]
    trend, forecast = find_trend(free), forecast_full(free, today)
    if trend is None or forecast is None:
        return Plot("time", "Free on the disk", x, [Series("free", "bytes", past)])
    last, level = free[-1]
    # As long again as the samples, or until the disk is full.
    end = min(
        max(forecast.latest or forecast.about or last, last + (trend.until - trend.since)), forecast.horizon
    )
    ahead = [last + timedelta(days=number) for number in range((end - last).days + 1)]
    ahead = ahead[:: max(len(ahead) // 60, 1)]
    x += [number_of(day) for day in ahead[1:]]
    none: list[int | None] = [None] * (len(days) - 1)

    def line(slope: float) -> list[int | None]:
        return [*none, *(max(level + round(slope * (day - last).days), 0) for day in ahead)]

    past += [None] * (len(ahead) - 1)
    return Plot(
        "time",
        "Free on the disk, with the forecast",
        x,
        [
            Series("free", "bytes", past),
            Series("forecast", "bytes", line(trend.per_day), "dashed"),
            Series("at most", "bytes", line(trend.high), "bound"),
            Series("at least", "bytes", line(trend.low), "bound"),
        ],
        band=True,
    )


@dataclass(frozen=True, slots=True)
class Day:
    """What left on one day: taken by passes, purged for good, and restored rows; None where it is not known."""

    day: date
    taken: Tally
    purged: Tally | None = None
    restored: int | None = None


def days_of(freed: Sequence[Freed], samples: Sequence[Sample]) -> list[Day]:
    """Return the days with something to show, in order. Takings come from the passes, all else from the samples."""
    taken = {part.day: Tally(part.items, part.bytes) for part in freed}
    first = min([*taken, *(sample.day for sample in samples[-120:])], default=None)
    by_day = {sample.day: sample for sample in samples if first is not None and sample.day >= first}
    days = []
    for day in sorted(taken.keys() | by_day.keys()):
        sample = by_day.get(day)
        one = Day(
            day,
            taken.get(day, Tally()),
            sample.purged if sample else None,
            sample.restored if sample else None,
        )
        if day in taken or one.purged != Tally() or one.restored:
            days.append(one)
    return days


def plot_days(days: Sequence[Day], today: date, noun: str, *, quarantine: bool) -> Plot | None:
    """Return the bars of deletions by day, up to today: days without a pass are empty.

    Only what went through a quarantine is freed later than it is deleted.
    """
    if not days:
        return None
    # The clock of the database may be ahead.
    last = max(today, days[-1].day)
    first = min(last - timedelta(days=29), days[0].day)
    every = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    by_day = {one.day: one for one in days}
    sized = any(one.taken.bytes or (one.purged and one.purged.bytes) for one in days)

    def values(tally_of: Any) -> list[int | None]:
        return [None if day not in by_day else tally_of(by_day[day]) for day in every]

    x = [*map(number_of, every)]
    if not sized:
        return Plot(
            "bars", "Deleted", x, [Series("deleted", noun, values(lambda one: one.taken.items), "bars")]
        )
    taken = values(lambda one: one.taken.bytes)
    items = values(lambda one: one.taken.items)
    series = [Series("moved to quarantine" if quarantine else "deleted", "bytes", taken, "bars", items)]
    if quarantine and any(one.purged is not None and one.purged != Tally() for one in days):
        purged = values(lambda one: one.purged.bytes if one.purged else None)
        series.append(Series("freed for good", "bytes", purged))
    return Plot("bars", "Deleted", x, series)


def together(curves: Iterable[AgeCurve]) -> AgeCurve:
    """Return all policies as one: each item belongs to one of them."""
    everything = AgeCurve("all policies", None)
    for curve in curves:
        everything.items.update(curve.items)
        everything.bytes.update(curve.bytes)
    return everything


def plot_ages(curves: Sequence[AgeCurve], noun: str) -> Plot | None:
    """Return what each policy would delete at each age, and all of them at the same age."""
    if not any(curve.items.total() for curve in curves):
        return None
    shown = sorted(curves, key=lambda curve: (-curve.bytes.total(), -curve.items.total()))[:_MOST_CURVES]
    shown = [curve for curve in curves if curve in shown]
    oldest = max(day for curve in curves for day in curve.items)
    last = min(max(oldest + 1, 365, *(curve.keep or 0 for curve in curves)), LONGEST_AGE)
    ages = {*range(15), *AGES, *(curve.keep for curve in shown if curve.keep is not None)}
    step = 14.0
    while step < last:
        step *= 1.08
        ages.add(int(step))
    x = sorted(age for age in ages if age <= last)
    series = []
    lines = [*shown, together(curves)] if len(curves) > 1 else shown
    sized = any(curve.bytes.total() for curve in curves)
    for curve in lines:
        items = _sums(curve.items, x)
        values = _sums(curve.bytes, x) if sized else items
        series.append(Series(curve.policy, "bytes" if sized else noun, values, more=items if sized else None))
    marks = [
        (number, curve.keep)
        for number, curve in enumerate(shown)
        if curve.keep is not None and curve.keep <= last
    ]
    return Plot("ages", "To be deleted at each age", x, series, marks)


def _sums(counts: Mapping[int, int], ages: Sequence[int]) -> list[int | None]:
    """Return for each of these ages, ascending, the sum of that age and all above it."""
    counts = Counter(counts)
    days, found, total = sorted(counts, reverse=True), [], 0
    place = 0
    for age in reversed(ages):
        while place < len(days) and days[place] >= age:
            total += counts[days[place]]
            place += 1
        found.append(total)
    return [*reversed(found)]
