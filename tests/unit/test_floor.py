"""The date of a chat purge: the moment that it means in its time zone, and what the floor says of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retentiond.model.floor import cutoff_of, day_before, judge_date

if TYPE_CHECKING:
    from retentiond.model.floor import DateRule

# Midnight that comes twice, that is left out, a day that never was, half hours.
ZONES = ("UTC", "America/Havana", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kolkata", "Europe/Moscow")
NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("Europe/Berlin", date(2023, 3, 26), "2023-03-25T23:00:00+00:00"),
        # The clock is put back at one in the night, to a second midnight: the day begins with the first.
        ("America/Havana", date(2023, 11, 5), "2023-11-05T04:00:00+00:00"),
        # The clock is put forward at midnight: the day begins at one.
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00:00+00:00"),
        # There was no such day: what is before it is before the next.
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00:00+00:00"),
        ("Asia/Tokyo", date(1, 1, 1), "0001-01-01T00:00:00+00:00"),
    ],
)
def test_a_day_begins_with_its_first_moment_whatever_the_clocks_do(zone: str, day: date, begins: str) -> None:
    assert cutoff_of(day, ZoneInfo(zone)).isoformat() == begins


@given(
    st.integers(1_100_000_000, 1_750_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(ZONES),
)
@example(datetime(2023, 11, 5, 4, 30, tzinfo=UTC), "America/Havana")
@example(datetime(2023, 11, 5, 5, 0, tzinfo=UTC), "America/Havana")
@example(datetime(2018, 11, 4, 2, 59, tzinfo=UTC), "America/Sao_Paulo")
@example(datetime(2011, 12, 30, 9, 59, tzinfo=UTC), "Pacific/Apia")
def test_by_schedule_nothing_goes_a_moment_too_early_and_nothing_stays_a_day_too_long(
    so_long_ago: datetime, zone: str
) -> None:
    keep, place = timedelta(days=400), ZoneInfo(zone)
    day = day_before(so_long_ago + keep, keep, place)
    assert cutoff_of(day, place) <= so_long_ago < cutoff_of(day + timedelta(days=1), place)


@pytest.mark.parametrize("rule", ["floor", "within"])
@pytest.mark.parametrize("floor", [0, 365])
@pytest.mark.parametrize("day", [date(2026, 3, 5), date(2027, 1, 1), date(9999, 12, 31)])
def test_a_date_in_the_future_is_refused_whatever_the_rule_and_the_floor(
    rule: DateRule, floor: int, day: date
) -> None:
    refusal = judge_date(day, NOW, ZoneInfo("UTC"), timedelta(days=floor), rule)
    assert refusal is not None
    assert refusal.value == str(day)


@given(
    st.integers(1_100_000_000, 1_750_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(ZONES),
    st.sampled_from(["floor", "within"]),
)
def test_by_either_rule_a_keep_that_is_as_long_as_the_floor_has_a_date_that_will_do(
    now: datetime, zone: str, rule: DateRule
) -> None:
    year, place = timedelta(days=365), ZoneInfo(zone)
    assert judge_date(day_before(now, year, place), now, place, year, rule) is None


def test_by_the_other_rule_a_day_before_the_floor_is_refused_with_the_earliest_that_would_do() -> None:
    year, utc = timedelta(days=365), ZoneInfo("UTC")
    assert judge_date(date(2025, 3, 4), NOW, utc, year, "within") is None
    refusal = judge_date(date(2025, 3, 3), NOW, utc, year, "within")
    assert refusal is not None
    assert refusal.allowed == "2025-03-04 to 2026-03-04"
