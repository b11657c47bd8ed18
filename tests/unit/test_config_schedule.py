from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from retentiond.config.schedule import Schedule, cron_trigger

# A Monday.
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def next_time(expression: str) -> datetime:
    found = cron_trigger(expression, UTC).get_next_fire_time(None, MONDAY)
    assert isinstance(found, datetime)
    return found


@pytest.mark.parametrize(
    ("weekday", "day"),
    [("0", "Sun"), ("7", "Sun"), ("sun", "Sun"), ("1", "Mon"), ("SAT", "Sat"), ("6", "Sat"), ("3", "Wed")],
)
def test_the_weekdays_are_those_of_crontab(weekday: str, day: str) -> None:
    assert next_time(f"0 4 * * {weekday}").strftime("%a") == day


@pytest.mark.parametrize(
    ("weekdays", "days"),
    [
        ("*", "Mon Tue Wed Thu Fri Sat Sun"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("5-7", "Fri Sat Sun"),
        ("fri-mon", "Mon Fri Sat Sun"),
        ("0-6/2", "Tue Thu Sat Sun"),
        ("*/3", "Wed Sat Sun"),
        ("1,wed", "Mon Wed"),
    ],
)
def test_ranges_and_lists_of_weekdays_are_those_of_crontab(weekdays: str, days: str) -> None:
    trigger = cron_trigger(f"0 0 * * {weekdays}", UTC)
    week = [MONDAY + timedelta(days=day) for day in range(7)]
    fires = [day for day in week if trigger.get_next_fire_time(None, day) == day]
    assert " ".join(day.strftime("%a") for day in fires) == days


def test_the_time_is_of_the_zone_that_is_said() -> None:
    trigger = cron_trigger("30 3 * * *", ZoneInfo("Europe/Berlin"))
    assert trigger.get_next_fire_time(None, MONDAY).astimezone(UTC) == MONDAY.replace(hour=2, minute=30)


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
        "30 3 * * 5/2",
        "x 3 * * *",
        "30 3 0 * *",
        "30 3 * 13 *",
        "30 3 1 * 1",
        "0 0 31 2 *",
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
