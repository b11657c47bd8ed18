"""A forecast gives no date that its samples cannot carry, and its interval has the truth in it."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retentiond.model.forecast import find_trend, forecast_full, forecast_shorter
from retentiond.model.statistics import AgeCurve

if TYPE_CHECKING:
    from collections.abc import Sequence

_START = date(2026, 1, 1)
_GIB = 2**30


def series(values: Sequence[float], *, every: int = 1) -> list[tuple[date, int]]:
    return [(_START + timedelta(days=every * number), int(value)) for number, value in enumerate(values)]


def test_a_steady_loss_is_full_on_its_day() -> None:
    free = series([(200 - number) * _GIB for number in range(90)])
    forecast = forecast_full(free, free[-1][0])
    assert forecast
    assert {forecast.earliest, forecast.about, forecast.latest} == {_START + timedelta(days=200)}


@pytest.mark.parametrize("count", [0, 1, 6])
def test_few_samples_make_no_forecast(count: int) -> None:
    assert forecast_full(series([100 - number for number in range(count)]), _START) is None


def test_seven_samples_of_one_day_make_no_forecast() -> None:
    assert forecast_full([(_START, 100 - number) for number in range(7)], _START) is None


def test_no_date_lies_beyond_a_few_times_the_samples() -> None:
    free = series([(1000 - number) * _GIB for number in range(30)])
    forecast = forecast_full(free, free[-1][0])
    assert forecast
    assert (forecast.earliest, forecast.about, forecast.latest) == (None, None, None)
    assert forecast.horizon == _START + timedelta(days=29 + 4 * 29)


def test_free_space_that_grows_or_stands_is_never_used_up() -> None:
    for step in (0, 1):
        forecast = forecast_full(series([(100 + step * number) * _GIB for number in range(90)]), _START)
        assert forecast
        assert (forecast.earliest, forecast.about, forecast.latest) == (None, None, None)


def test_a_trend_that_noise_may_have_made_has_an_earliest_day_and_no_other() -> None:
    chance = Random(7)
    free = series([100 * _GIB - number * _GIB / 50 + chance.gauss(0, 8 * _GIB) for number in range(60)])
    forecast = forecast_full(free, free[-1][0])
    assert forecast
    assert forecast.about is None
    assert forecast.latest is None


def test_a_disk_that_is_full_is_full_today() -> None:
    forecast = forecast_full(series([max(30 - number, 0) for number in range(40)]), _START)
    assert forecast
    assert forecast.about == forecast.earliest == _START + timedelta(days=39)


def test_one_odd_day_and_missing_days_do_not_bend_the_trend() -> None:
    free = series([(200 - number) * _GIB for number in range(60)])
    free[20] = (free[20][0], 5 * _GIB)
    del free[30:40]
    trend = find_trend(free)
    assert trend
    assert trend.per_day == pytest.approx(-_GIB)


def test_the_interval_has_the_true_slope_in_it_in_most_cases_also_where_days_depend_on_each_other() -> None:
    """Of independent noise at least 90 of 100, and nearly as many of noise that lasts for days."""
    for lasting, least in ((0.0, 90), (0.7, 85)):
        chance, hits = Random(18), 0
        for _ in range(100):
            noise, values = 0.0, []
            for day in range(60):
                noise = lasting * noise + chance.gauss(0, 5)
                values.append((1000 - 2 * day + noise) * 1000)
            trend = find_trend(series(values))
            assert trend
            hits += trend.low <= -2000 <= trend.high
        assert hits >= least, lasting


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 2**50)), max_size=60, unique_by=lambda pair: pair[0]
    )
)
def test_dates_are_in_order_and_none_is_before_the_last_sample_or_beyond_the_horizon(
    pairs: list[tuple[int, int]],
) -> None:
    free = [(_START + timedelta(days=day), value) for day, value in sorted(pairs)]
    forecast = forecast_full(free, max((day for day, _ in free), default=_START))
    if forecast is None:
        return
    dates = [day for day in (forecast.earliest, forecast.about, forecast.latest) if day is not None]
    assert dates == sorted(dates)
    assert all(free[-1][0] <= day <= forecast.horizon for day in dates)
    if forecast.about is not None:
        assert forecast.earliest is not None


def test_a_store_that_began_to_grow_two_weeks_ago_is_full_by_its_new_pace_and_not_by_its_past() -> None:
    chance = Random(1)
    for before in (0, 2):
        grown = 300 + before * 90
        values = [300 + before * number + chance.gauss(0, 0.5) for number in range(90)]
        free = series([value * _GIB for value in (*values, *(grown - 10 * number for number in range(14)))])
        forecast = forecast_full(free, free[-1][0])
        assert forecast
        assert forecast.earliest
        assert forecast.earliest <= free[-1][0] + timedelta(days=grown // 10)


def test_old_samples_carry_no_date_and_none_lies_in_the_past() -> None:
    free = series([(40 - number) * _GIB for number in range(30)])
    last = free[-1][0]
    forecast = forecast_full(free, last + timedelta(days=20))
    assert forecast
    assert forecast.earliest == forecast.about == last + timedelta(days=20)
    assert forecast_full(free, last + timedelta(days=32)) is None
    assert forecast_full(free[:7], free[6][0] + timedelta(days=25)) is None


def test_a_shorter_keep_gains_what_is_between_the_two_ages() -> None:
    curve = AgeCurve("remote", 30)
    for days, size in ((5, 10), (10, 20), (20, 40), (40, 80)):
        curve.add(days, 1, size * _GIB)
    free = series([(100 - number) * _GIB for number in range(90)])
    shorter = forecast_shorter(free, free[-1][0], [curve, AgeCurve("local", None)])
    assert [(one.policy, one.keep, one.bytes // _GIB) for one in shorter] == [
        ("remote", 14, 40),
        ("remote", 7, 60),
    ]
    assert [one.forecast.about for one in shorter] == [
        _START + timedelta(days=140),
        _START + timedelta(days=160),
    ]


def test_a_policy_that_keeps_for_ever_is_not_offered_shorter() -> None:
    curve = AgeCurve("local", None)
    curve.add(400, 1, _GIB)
    assert forecast_shorter(series([(100 - number) * _GIB for number in range(90)]), _START, [curve]) == ()
