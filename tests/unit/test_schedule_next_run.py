"""When a pass is due, at fixed instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retentiond.config.next_run import following, next_run
from retentiond.config.schedule import Schedule

HALF_PAST_THREE = Schedule(cron="30 3 * * *", timezone="UTC")
SIX_HOURLY = Schedule(every=timedelta(hours=6))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def berlin(cron: str) -> Schedule:
    return Schedule(cron=cron, timezone="Europe/Berlin")


def times(schedule: Schedule, since: str, count: int) -> list[str]:
    found = []
    moment: datetime | None = at(since)
    for _ in range(count):
        assert moment is not None
        moment = following(schedule, moment)
        found.append(f"{moment:%d %H:%M}")
    return found


def test_without_a_last_pass_cron_waits_for_its_time() -> None:
    assert next_run(HALF_PAST_THREE, None, at("2026-01-05T04:00Z")) == at("2026-01-06T03:30Z")


def test_without_a_last_pass_an_interval_waits_its_length() -> None:
    assert next_run(SIX_HOURLY, None, at("2026-01-05T04:00Z")) == at("2026-01-05T10:00Z")


def test_after_this_nights_pass_the_next_is_tomorrows() -> None:
    due = next_run(HALF_PAST_THREE, at("2026-01-05T03:30:00Z"), at("2026-01-05T04:00Z"))
    assert due == at("2026-01-06T03:30Z")


def test_a_night_that_was_missed_is_made_good_at_once() -> None:
    now = at("2026-01-05T04:00Z")
    assert next_run(HALF_PAST_THREE, at("2026-01-04T03:30Z"), now) == now


def test_many_missed_nights_are_made_good_by_one_pass() -> None:
    now = at("2026-01-05T04:00Z")
    assert next_run(HALF_PAST_THREE, at("2025-12-01T03:30Z"), now) == now
    assert next_run(HALF_PAST_THREE, now, now) == at("2026-01-06T03:30Z")


def test_an_interval_counts_from_the_last_pass() -> None:
    due = next_run(SIX_HOURLY, at("2026-01-05T03:00Z"), at("2026-01-05T04:00Z"))
    assert due == at("2026-01-05T09:00Z")


def test_an_interval_that_is_over_is_due_at_once() -> None:
    now = at("2026-01-05T04:00Z")
    assert next_run(SIX_HOURLY, at("2026-01-04T03:00Z"), now) == now


@pytest.mark.parametrize(
    ("schedule", "due"), [(HALF_PAST_THREE, "2026-01-06T03:30Z"), (SIX_HOURLY, "2026-01-05T10:00Z")]
)
def test_a_last_pass_in_the_future_does_not_put_off_the_next(schedule: Schedule, due: str) -> None:
    assert next_run(schedule, at("2030-01-01T00:00Z"), at("2026-01-05T04:00Z")) == at(due)


def test_the_last_pass_may_be_told_in_another_zone() -> None:
    due = next_run(berlin("30 3 * * *"), at("2026-01-05T03:30+01:00"), at("2026-01-05T02:31Z"))
    assert due == at("2026-01-06T02:30Z")


def test_a_time_that_the_clocks_leap_over_comes_an_hour_later_on_the_wall() -> None:
    # 2026-03-29 02:30 does not exist in Berlin: 01:59 is followed by 03:00.
    assert times(berlin("30 2 * * *"), "2026-03-27T12:00Z", 3) == ["28 01:30", "29 01:30", "30 00:30"]


def test_a_time_that_the_clocks_leap_over_is_still_due_right_after_the_leap() -> None:
    assert following(berlin("30 2 * * *"), at("2026-03-29T01:10Z")) == at("2026-03-29T01:30Z")


def test_a_time_that_comes_twice_when_clocks_are_put_back_is_run_once() -> None:
    # 2026-10-25 02:30 is 00:30 and 01:30 in UTC.
    assert times(berlin("30 2 * * *"), "2026-10-24T12:00Z", 3) == ["25 00:30", "26 01:30", "27 01:30"]


def test_the_second_of_two_equal_times_was_not_missed() -> None:
    due = next_run(berlin("30 2 * * *"), at("2026-10-25T00:30Z"), at("2026-10-25T02:00Z"))
    assert due == at("2026-10-26T01:30Z")


def test_what_runs_each_half_hour_runs_through_the_repeated_hour() -> None:
    expected = ["25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00"]
    assert times(berlin("*/30 * * * *"), "2026-10-24T23:30Z", 5) == expected


def test_what_runs_each_half_hour_does_not_run_in_the_hour_that_is_left_out() -> None:
    assert times(berlin("*/30 * * * *"), "2026-03-29T00:00Z", 3) == ["29 00:30", "29 01:00", "29 01:30"]


@pytest.mark.parametrize("night", ["2026-03-29T00:00Z", "2026-10-25T00:00Z"])
def test_an_interval_takes_no_notice_of_the_clock_on_the_wall(night: str) -> None:
    assert following(SIX_HOURLY, at(night)) == at(night) + timedelta(hours=6)


def test_local_time_is_meant_where_no_zone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert next_run(Schedule(cron="30 3 * * *"), None, at("2026-01-05T00:00Z")) == at("2026-01-05T22:00Z")


@pytest.mark.parametrize(
    ("cron", "timezone", "last", "due"),
    [
        ("0 0 * * *", "Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("0 0 * * 1", "Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("0 0 * * *", "America/Santiago", "2026-09-05T04:00Z", "2026-09-06T04:00Z"),
    ],
)
def test_no_midnight_is_left_out_where_clocks_are_put_forward(
    cron: str, timezone: str, last: str, due: str
) -> None:
    assert next_run(Schedule(cron=cron, timezone=timezone), at(last), at(last)) == at(due)
