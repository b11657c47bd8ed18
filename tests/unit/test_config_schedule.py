from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from retentiond.config.next_run import following
from retentiond.config.schedule import Schedule

# A Monday.
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def days(weekdays: str) -> str:
    """Return the days of a week from Monday on which a line with these weekdays runs."""
    schedule = Schedule.model_validate({"cron": f"0 0 * * {weekdays}", "timezone": "UTC"})
    week = [MONDAY + timedelta(days=day) for day in range(7)]
    runs = [day for day in week if following(schedule, day - timedelta(seconds=1)) == day]
    return " ".join(day.strftime("%a") for day in runs)


@pytest.mark.parametrize(
    ("weekday", "day"),
    [("0", "Sun"), ("7", "Sun"), ("sun", "Sun"), ("1", "Mon"), ("SAT", "Sat"), ("6", "Sat"), ("3", "Wed")],
)
def test_the_weekdays_are_those_of_crontab(weekday: str, day: str) -> None:
    assert days(weekday) == day


@pytest.mark.parametrize(
    ("weekdays", "expected"),
    [
        ("*", "Mon Tue Wed Thu Fri Sat Sun"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("5-7", "Fri Sat Sun"),
        ("0-6/2", "Tue Thu Sat Sun"),
        ("*/3", "Wed Sat Sun"),
        ("1,wed", "Mon Wed"),
    ],
)
def test_ranges_and_lists_of_weekdays_are_those_of_crontab(weekdays: str, expected: str) -> None:
    assert days(weekdays) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "@daily",
        "30 3 * *",
        "30 3 * * * *",
        "60 3 * * *",
        "30 3 * * 8",
        "30 3 * * mo",
        "30 3 * * fri-mon",
        "x 3 * * *",
        "30 3 0 * *",
        "30 3 * 13 *",
        "30 3 1 * 1",
        "0 0 31 2 *",
        "0 0 30,31 2 *",
        "*/0 * * * *",
        "30 3 * * */0",
    ],
)
def test_what_is_no_crontab_line_or_never_comes_is_refused(expression: str) -> None:
    with pytest.raises(ValidationError):
        Schedule.model_validate({"cron": expression})


def test_a_schedule_is_either_a_crontab_line_or_an_interval() -> None:
    assert Schedule.model_validate({"cron": "30 3 * * *", "jitter": "5m"}).jitter == timedelta(minutes=5)
    assert Schedule.model_validate({"every": "6h"}).every == timedelta(hours=6)
    for given in ({}, {"jitter": "5m"}, {"cron": "30 3 * * *", "every": "6h"}):
        with pytest.raises(ValidationError):
            Schedule.model_validate(given)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="longer than 0s"):
        Schedule.model_validate({"every": "0s"})


def test_a_time_zone_goes_with_a_crontab_line_only() -> None:
    schedule = Schedule.model_validate({"cron": "30 3 * * *", "timezone": "Europe/Berlin"})
    assert schedule.zone == ZoneInfo("Europe/Berlin")
    with pytest.raises(ValidationError, match="without `cron`"):
        Schedule.model_validate({"every": "6h", "timezone": "UTC"})


@pytest.mark.parametrize("name", ["Europe/Berlinn", "", "../etc/passwd", "/etc/localtime", "Europe\0"])
def test_a_time_zone_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not a time zone"):
        Schedule.model_validate({"cron": "30 3 * * *", "timezone": name})


def test_without_a_time_zone_the_machines_own_counts() -> None:
    assert Schedule.model_validate({"cron": "30 3 * * *"}).zone is None
