"""The plots of the report have a true time axis, and the sums of the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from retentiond.model.forecast import forecast_full
from retentiond.model.report import Tally
from retentiond.model.statistics import AgeCurve, Freed
from retentiond.report.plots import (
    Day,
    days_of,
    free_series,
    number_of,
    plot_ages,
    plot_days,
    plot_free,
    plot_stored,
    together,
)
from retentiond.report.sentences import describe_disk, find_troubles
from tests.support.made_up_report import (
    NOW,
    chats_report,
    empty_report,
    lost_report,
    made_up_curve,
    made_up_samples,
    media_report,
)

_TODAY = date(2026, 3, 2)


def test_a_day_without_a_pass_is_a_gap_of_its_own_width() -> None:
    days = [date(2026, 2, 1), date(2026, 2, 2), date(2026, 2, 20)]
    plot = plot_days(days_of([Freed(day, 1, 10) for day in days], ()), _TODAY, "item", quarantine=True)
    assert plot
    assert plot.x == list(range(number_of(days[0]), number_of(_TODAY) + 1))
    shown = [number for number, value in zip(plot.x, plot.series[0].values, strict=True) if value is not None]
    assert shown == [*map(number_of, days)]


def test_passes_that_stopped_leave_the_end_of_the_axis_empty() -> None:
    plot = plot_days(
        days_of([Freed(date(2026, 1, 1), 1, 10)], ()), date(2026, 4, 10), "item", quarantine=True
    )
    assert plot
    assert (plot.x[0], plot.x[-1]) == (number_of(date(2026, 1, 1)), number_of(date(2026, 4, 10)))
    assert plot.series[0].values[1:] == [None] * 99


def test_only_a_target_with_a_quarantine_frees_later_than_it_deletes() -> None:
    days = [Day(date(2026, 2, 1), Tally(1, 10), Tally(1, 10))]
    names = {
        quarantine: [series.label for series in plot.series]
        for quarantine in (True, False)
        if (plot := plot_days(days, _TODAY, "item", quarantine=quarantine))
    }
    assert names == {True: ["moved to quarantine", "freed for good"], False: ["deleted"]}


def test_what_has_no_size_is_shown_by_its_items() -> None:
    chats = [Freed(date(2026, 2, 1), 10, 0), Freed(date(2026, 2, 8), 5, 0)]
    plot = plot_days(days_of(chats, ()), _TODAY, "item", quarantine=True)
    assert plot
    assert [value for value in plot.series[0].values if value] == [10, 5]
    assert plot.series[0].unit == "item"


def test_takings_are_those_of_the_passes_and_purges_those_of_the_samples() -> None:
    samples = made_up_samples(3)
    freed = [Freed(samples[1].day, 7, 700)]
    before, middle, after = days_of(freed, samples)
    assert (before.taken.items, middle.taken.items, after.taken.items) == (0, 7, 0)
    assert [one.purged for one in (before, middle, after)] == [sample.purged for sample in samples]


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=80, unique=True))
def test_every_shown_day_is_a_sample_or_a_gap_and_days_ascend(ages: list[int]) -> None:
    days = {NOW.date() - timedelta(days=age) for age in ages}
    (one,) = made_up_samples(1)
    samples = [replace(one, day=day) for day in sorted(days)]
    plot = plot_stored(samples, "item")
    assert plot
    assert all(earlier < later for earlier, later in pairwise(plot.x))
    values = dict(zip(plot.x, plot.series[0].values, strict=True))
    assert {number for number, value in values.items() if value is not None} <= {*map(number_of, days)}
    # Where samples are missing, the line breaks: between days from the second on, between the oldest after two months.
    shown = sorted(day for day in days if number_of(day) in values)
    for earlier, later in pairwise(shown):
        if (later - earlier).days >= 56:
            assert any(
                values[number] is None for number in values if number_of(earlier) < number < number_of(later)
            )


def test_the_curve_of_all_policies_is_their_sum_at_every_age() -> None:
    curves = [made_up_curve("a", 7, 1, 1), made_up_curve("b", None, 2, 1)]
    plot = plot_ages(curves, "item")
    assert plot
    for age, *values in zip(plot.x, *(series.values for series in plot.series), strict=True):
        assert values == [*(curve.older_than(age).bytes for curve in curves), values[0] + values[1]]
        assert values[2] == together(curves).older_than(age).bytes
    assert plot.marks == [(0, 7)]


def test_todays_setting_is_a_point_of_the_plot_at_any_age() -> None:
    for keep in (0, 1, 33, 1095, 3650):
        curve = AgeCurve("one", keep)
        curve.add(2000, 1, 10)
        plot = plot_ages([curve], "item")
        assert plot
        assert plot.marks == [(0, keep)]
        assert keep in plot.x


def test_the_forecast_starts_at_the_last_sample_and_ends_where_the_disk_is_full() -> None:
    samples = made_up_samples(90)
    free = free_series(samples)
    plot, forecast = plot_free(samples, free[-1][0]), forecast_full(free, free[-1][0])
    assert plot
    assert forecast
    assert forecast.latest
    past, likely, most, least = plot.series
    place = plot.x.index(number_of(samples[-1].day))
    assert past.values[place] == likely.values[place] == free[-1][1]
    assert plot.x[-1] <= number_of(forecast.latest)
    for low, middle, high in zip(
        least.values[place:], likely.values[place:], most.values[place:], strict=True
    ):
        assert low is not None
        assert middle is not None
        assert high is not None
        assert low <= middle <= high


def test_few_samples_draw_no_forecast_and_say_why() -> None:
    samples = made_up_samples(4)
    plot = plot_free(samples, samples[-1].day)
    assert plot
    assert [series.label for series in plot.series] == ["free"]
    (sentence,) = describe_disk(free_series(samples), samples[-1].day)
    assert sentence.endswith("a forecast needs daily samples of at least 7 days, and there are 4.")


def test_a_forecast_names_its_day_its_bounds_and_its_samples() -> None:
    when, why = describe_disk(free_series(made_up_samples(90)), NOW.date())
    assert when == "The disk is full about 8 August 2027, between 10 May 2027 and 17 August 2027."
    assert "the median trend of the last 90 days, 95 % interval" in why


def test_troubles_are_sentences_and_a_target_that_works_has_none() -> None:
    assert find_troubles(media_report(), NOW) == []
    assert find_troubles(empty_report(), NOW) == []
    assert find_troubles(lost_report(error="no way"), NOW) == ["no way"]
    assert find_troubles(chats_report(), NOW) == [
        "The last pass was interrupted; the next one continues.",
        "A pass is overdue since 2026-11-29 04:00 UTC.",
        "No daemon is running, and scheduled passes do not start; `systemctl start retentiond` starts it.",
    ]
    refused = media_report(refused={"limit": "max_share", "value": 0.62, "allowed": 0.5, "hint": "look"})
    assert find_troubles(refused, NOW) == [
        "The last pass was refused by max_share: 0.62 (allowed: 0.5); look."
    ]
