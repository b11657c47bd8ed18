"""The date of a chat purge: the moment it means, and whether the floor allows it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Literal

from retentiond.model.errors import Refusal

if TYPE_CHECKING:
    from datetime import timedelta
    from zoneinfo import ZoneInfo

DateRule = Literal["floor", "within"]
"""`floor`: the date must be at least the floor ago. `within`: at most so long ago."""


def cutoff_of(day: date, zone: ZoneInfo) -> datetime:
    """Return the first moment of a day in a time zone, in UTC: earlier data are deleted, the day itself is kept."""
    try:
        return datetime.combine(day, time(), zone).astimezone(UTC)
    except OverflowError:
        # East of Greenwich the first of all days begins before there are any.
        return datetime.min.replace(tzinfo=UTC)


def in_zone(cutoff: datetime, zone: ZoneInfo) -> datetime:
    """Return the same moment as that zone has it, and so with the zone's own day."""
    try:
        return cutoff.astimezone(zone)
    except OverflowError:
        # West of Greenwich the first moment of all is a day before there are any.
        return cutoff


def day_before(now: datetime, age: timedelta, zone: ZoneInfo) -> date:
    """Return the latest day whose beginning is at least so long ago."""
    return (now - age).astimezone(zone).date()


def judge_date(day: date, now: datetime, zone: ZoneInfo, floor: timedelta, rule: DateRule) -> Refusal | None:
    """Return the reason why a date is refused, and an allowed date."""
    if rule == "within":
        return _judge_within(day, now, zone, floor)
    latest = day_before(now, floor, zone)
    if day <= latest:
        return None
    return Refusal(
        "floor",
        day.isoformat(),
        latest.isoformat(),
        f"data younger than {floor.days} days is never purged; the latest allowed date is {latest}",
    )


def _judge_within(day: date, now: datetime, zone: ZoneInfo, floor: timedelta) -> Refusal | None:
    # By days, as the floor: the one that begins so long ago is the day of a `keep` that is as long.
    earliest, today = day_before(now, floor, zone), now.astimezone(zone).date()
    if earliest <= day <= today:
        return None
    return Refusal(
        "date_rule",
        day.isoformat(),
        f"{earliest} to {today}",
        f"the rule allows a date within the last {floor.days} days; the earliest allowed date is {earliest}, "
        f"the latest {today}",
    )
