"""The trend of daily samples, and the day on which a disk is full by it: robust, with its uncertainty.

The trend is the median of the slopes between all pairs of samples (Theil and Sen), so that a sawtooth of passes or a
single odd day does not bend it. Its interval of 95 % is that of Kendall's test, widened for samples that depend on the day
before (Yue and Wang). The pace of the newest weeks counts beside it: a store that began to grow is full earlier than its
past says. A forecast reaches a few times as far as its samples go back, and never farther.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations, pairwise
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from retentiond.model.statistics import AgeCurve

FEWEST: Final = 7
"""The fewest days with a sample that make a trend."""
_MOST: Final = 120
"""The newest samples count: an older pace is not the present one."""
_RECENT: Final = timedelta(days=14)
"""The newest days, whose pace counts by itself."""
_STALE: Final = timedelta(days=31)
"""A newest sample that is older carries no forecast."""
_REACH: Final = 4
"""A forecast reaches so many times as far as its samples go back."""
_FARTHEST: Final = timedelta(days=730)
_TWO_SIDED: Final = 1.96  # standard deviations, for 95 %
_MOST_DEPENDENT: Final = 0.95
_STEPS: Final = (365, 180, 90, 60, 30, 14, 7, 3, 1)
_MOST_STEPS: Final = 2


@dataclass(frozen=True, slots=True)
class Trend:
    """Change a day, with the bounds of its interval; `since` and `until` are the first and last day that made it."""

    per_day: float
    low: float
    high: float
    since: date
    until: date


@dataclass(frozen=True, slots=True)
class Forecast:
    """When free space is used up; None for a date that the samples cannot carry.

    `about` is the day by the trend, `earliest` and `latest` those by its bounds. Nothing is known beyond `horizon`.
    """

    about: date | None
    earliest: date | None
    latest: date | None
    horizon: date


@dataclass(frozen=True, slots=True)
class Shorter:
    """A shorter keep of a policy, in days: the bytes it frees once, and the forecast with them."""

    policy: str
    keep: int
    bytes: int
    forecast: Forecast


def find_trend(samples: Sequence[tuple[date, int]]) -> Trend | None:
    """Return the trend of samples in ascending order of days; None for too few.

    Its lower bound is the lower one of all samples and of the newest weeks. Where these two contradict each other, the
    newest weeks are the trend.
    """
    whole = _trend_of(samples[-_MOST:])
    if whole is None:
        return None
    recent = _trend_of([sample for sample in samples[-_MOST:] if whole.until - sample[0] <= _RECENT])
    if recent is None:
        return whole
    base = recent if recent.high < whole.low or recent.low > whole.high else whole
    return replace(base, low=min(whole.low, recent.low))


def _trend_of(newest: Sequence[tuple[date, int]]) -> Trend | None:
    if len(newest) < FEWEST or (newest[-1][0] - newest[0][0]).days < FEWEST - 1:
        return None
    first = newest[0][0]
    points = [((day - first).days, value) for day, value in newest]
    slopes = sorted((y - x) / (b - a) for (a, x), (b, y) in combinations(points, 2) if b != a)
    middle = median(slopes)
    count = len(points)
    variance = count * (count - 1) * (2 * count + 5) / 18 * _inflation(points, middle)
    width = _TWO_SIDED * sqrt(variance)
    low = max(int((len(slopes) - width) / 2), 0)
    high = min(int((len(slopes) + width) / 2) + 1, len(slopes) - 1)
    return Trend(middle, slopes[low], slopes[high], first, newest[-1][0])


def _inflation(points: Sequence[tuple[int, int]], slope: float) -> float:
    """Return the factor by which samples that follow each other are fewer than they seem."""
    rest = [value - slope * day for day, value in points]
    middle = sum(rest) / len(rest)
    rest = [value - middle for value in rest]
    square = sum(value * value for value in rest)
    if not square:
        return 1.0
    dependence = sum(a * b for a, b in pairwise(rest)) / square
    # A short series shows less of its dependence than there is.
    dependence = min(max(dependence + (1 + 4 * dependence) / len(rest), 0.0), _MOST_DEPENDENT)
    return (1 + dependence) / (1 - dependence)


def forecast_full(free: Sequence[tuple[date, int]], today: date, more: int = 0) -> Forecast | None:
    """Return when the free bytes, and `more` that are freed once, are used up; None for too few samples, or old ones.

    No day is before today.
    """
    trend = find_trend(free)
    if trend is None:
        return None
    level = free[-1][1] + more
    reach = min((trend.until - trend.since) * _REACH, _FARTHEST)
    horizon = trend.until + reach
    if today > min(horizon, trend.until + _STALE):
        return None

    def used_up(slope: float) -> date | None:
        days = 0.0 if level <= 0 else level / -slope if slope < 0 else None
        if days is None or days > reach.days:
            return None
        return max(trend.until + timedelta(days=int(days)), today)

    earliest = used_up(trend.low)
    # A trend that may be none has no day of its own.
    about = used_up(trend.per_day) if trend.high < 0 or level <= 0 else None
    return Forecast(about, earliest, used_up(trend.high), horizon)


def forecast_shorter(
    free: Sequence[tuple[date, int]], today: date, curves: Sequence[AgeCurve]
) -> tuple[Shorter, ...]:
    """Return the forecasts with the next shorter keeps of each policy that has one.

    The bytes between the two ages are freed once. The trend stays as it is, though media that are kept for a shorter time
    also grow more slowly: the dates are rather too early.
    """
    found = []
    for curve in curves:
        if curve.keep is None:
            continue
        now = curve.older_than(curve.keep).bytes
        steps = [(days, curve.older_than(days).bytes - now) for days in _STEPS if days < curve.keep]
        for days, more in [step for step in steps if step[1] > 0][:_MOST_STEPS]:
            forecast = forecast_full(free, today, more)
            if forecast is not None:
                found.append(Shorter(curve.policy, days, more, forecast))
    return tuple(found)
