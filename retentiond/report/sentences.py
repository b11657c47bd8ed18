"""What the report says in sentences: whether a target works, how near its limits are, and when its disk is full."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.config.next_run import following
from retentiond.model.errors import Refusal
from retentiond.model.forecast import FEWEST, find_trend, forecast_full, forecast_shorter
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words, size_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from retentiond.model.forecast import Forecast
    from retentiond.model.limits import Headroom
    from retentiond.model.statistics import StoreStatistics
    from retentiond.report.target_report import TargetReport, TargetState

_LATE: Final = timedelta(hours=1)
"""A pass that is later than this is overdue: its jitter, and the wait for another pass, are shorter."""
_MOST_SHORTER: Final = 8
NEAR: Final = 0.8
"""The part of a limit from which on it is near."""


def find_troubles(report: TargetReport, now: datetime) -> list[str]:
    """Return what needs attention, a sentence each; empty for a target that works."""
    state = report.state
    if state.error is not None:
        return [state.error]
    troubles = list(state.problems)
    last = state.last_pass
    if last is not None and last.state == "refused" and isinstance(last.account.get("refused"), dict):
        refusal = Refusal(**last.account["refused"])
        troubles.append(f"The last pass was refused by {refusal.found}; {refusal.hint}.")
    elif last is not None and last.state == "interrupted":
        troubles.append("The last pass was interrupted; the next one continues.")
    elif last is not None and last.state == "finished_with_failures":
        failed = last.account.get("failed", {}).get("items", 0)
        troubles.append(
            f"The last pass failed for {count_in_words(failed, 'item')}; the next one tries again."
        )
    troubles += _lateness(state, now)
    if report.statistics is not None:
        refused = last is not None and last.state == "refused"
        over = [] if refused else [limit.limit for limit in report.statistics.limits if limit.used > 1]
        troubles += [
            f"A pass that began now would be refused by {limit}; see the limits below." for limit in over
        ]
        findings = sum(report.statistics.findings.values())
        if findings:
            verb = "differs" if findings == 1 else "differ"
            troubles.append(
                f"{count_in_words(findings, 'item')} {verb} between database and disk; see below."
            )
    return troubles


def _lateness(state: TargetState, now: datetime) -> list[str]:
    if state.schedule is None:
        return []
    found = []
    last = state.last_pass
    due = following(state.schedule, last.started_at) if last is not None else None
    if due is not None and now - due > _LATE + (state.schedule.jitter or timedelta()):
        found.append(f"A pass is overdue since {due:%Y-%m-%d %H:%M} UTC.")
    if state.status is not None and state.status.daemon is None:
        found.append(
            "No daemon is running, and scheduled passes do not start; `systemctl start retentiond` starts it."
        )
    return found


def limit_in_words(limit: Headroom) -> tuple[str, str, str]:
    """Return the value of a limit, the allowed value, and a sentence."""
    if limit.limit == "max_items":
        value, allowed = count_in_words(int(limit.value), "item"), count_in_words(int(limit.allowed), "item")
    else:
        value, allowed = f"{limit.value:.1%}", f"{limit.allowed:.0%}"
    state = "above" if limit.used > 1 else "near" if limit.used >= NEAR else "within"
    return value, allowed, state


def day_in_words(day: date) -> str:
    """Format a day of a forecast: `14 March 2027`."""
    return f"{day.day} {day:%B %Y}"


def forecast_in_words(forecast: Forecast | None) -> str:
    """Say in a few words when a disk is full."""
    if forecast is None:
        return "not known yet"
    if forecast.about is not None:
        return f"about {day_in_words(forecast.about)}"
    return f"not before {day_in_words(forecast.earliest or forecast.horizon)}"


def describe_disk(free: Sequence[tuple[date, int]], today: date) -> list[str]:
    """Say in sentences when the disk is full, how certain that is, and what it is based on."""
    trend, forecast = find_trend(free), forecast_full(free, today)
    if trend is None:
        return [
            (
                f"When the disk is full is not known yet: a forecast needs daily samples of at least {FEWEST} days, and "
                f"there {'is' if len(free) == 1 else 'are'} {len(free)}."
            )
        ]
    if forecast is None:
        return [
            (
                f"When the disk is full is not known: the newest sample is of {day_in_words(trend.until)}. The daemon takes "
                "one each day."
            )
        ]
    days = (trend.until - trend.since).days + 1
    if forecast.about is not None:
        first = day_in_words(forecast.earliest or forecast.about)
        last = (
            day_in_words(forecast.latest)
            if forecast.latest
            else f"a day after {day_in_words(forecast.horizon)}"
        )
        between = f", between {first} and {last}" if first != last else ""
        when = f"The disk is full about {day_in_words(forecast.about)}{between}."
    elif forecast.earliest is not None and forecast.earliest <= today:
        when = (
            "The free space changes too unevenly for a date; by its largest changes the disk is full any day."
        )
    elif forecast.earliest is not None:
        when = (
            f"The disk is not full before {day_in_words(forecast.earliest)}. "
            "The free space changes too unevenly for a date."
        )
    else:
        when = (
            f"The disk is not full before {day_in_words(forecast.horizon)}, as far as these samples can show."
        )
    per_day = round(trend.per_day)
    change = (
        f"{'shrinks' if per_day < 0 else 'grows'} by {size_in_words(abs(per_day))}" if per_day else "stays"
    )
    bounds = f"{_pace(trend.low)} to {_pace(trend.high)}"
    return [
        when,
        (
            f"Free space {change}{' a day' if per_day else ' as it is'}: the median trend of the last {days} days, 95 % "
            f"interval {bounds} a day. All that uses this disk is in it, other programs as well."
        ),
    ]


def _pace(change: float) -> str:
    sign = "-" if change < 0 else "+"
    return f"{sign}{size_in_words(abs(round(change)))}"


def describe_shorter(
    free: Sequence[tuple[date, int]], today: date, statistics: StoreStatistics
) -> list[tuple[str, int, str]]:
    """Return for the shorter keeps that free most the setting, the bytes that it frees once, and when the disk is full."""
    found = forecast_shorter(free, today, statistics.curves)
    most = sorted(found, key=lambda one: -one.bytes)[:_MOST_SHORTER]
    return [
        (f"{printable(one.policy, 60)}: {one.keep}d", one.bytes, forecast_in_words(one.forecast))
        for one in found
        if one in most
    ]
