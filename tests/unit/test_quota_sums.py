"""How much a quota takes: no more than is short, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from retentiond.model.match import Match
from retentiond.model.media import MediaRow
from retentiond.model.policy import Policy, Rules
from retentiond.model.quota import (
    Evictable,
    Quota,
    SpaceReading,
    decide_eviction,
    disk_shortage,
    purged_in_vain,
    size_shortage,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
QUOTA = Quota("quota", Match(origin="remote"), max_size=1000, min_free_disk=800, low_water=0.8)


def row(age: timedelta, origin: str = "there.test") -> MediaRow:
    created = int((NOW - age).timestamp() * 1000)
    return MediaRow("abc", origin, "image/png", 10, created, "x", "A" * 43, "")


def test_a_size_within_bounds_lacks_nothing_and_one_above_goes_down_to_the_mark() -> None:
    assert [size_shortage(QUOTA, live) for live in (0, 800, 1000, 1001)] == [0, 0, 0, 201]


def test_a_disk_is_freed_up_to_the_mark_of_what_quarantine_does_not_free_anyway() -> None:
    assert disk_shortage(QUOTA, 800) == 0
    assert disk_shortage(QUOTA, 799) == 201
    assert disk_shortage(QUOTA, 700, held=50) == 250


def test_what_quarantine_will_free_is_enough_once_it_reaches_the_bound() -> None:
    assert disk_shortage(QUOTA, 700, held=100) == 0


def test_a_quota_keeps_to_what_it_names_only() -> None:
    assert size_shortage(replace(QUOTA, max_size=None), 10**12) == 0
    assert disk_shortage(replace(QUOTA, min_free_disk=None), 0) == 0


@pytest.mark.parametrize(
    ("purged", "stored", "free", "vain"),
    [
        (0, 0, 500, False),
        (100, 0, 500, True),
        (100, 0, 501, False),
        (100, 100, 500, False),
        (100, 99, 400, True),
    ],
)
def test_purging_was_in_vain_where_more_was_purged_than_stored_and_no_more_is_free(
    purged: int, stored: int, free: int, vain: bool
) -> None:
    before = SpaceReading(free=500, purged=1000)
    assert purged_in_vain(before, SpaceReading(free, 1000 + purged), stored) is vain


@pytest.mark.parametrize(
    ("keep", "age", "verdict"),
    [
        (timedelta(days=30), timedelta(days=2), Evictable("not_due")),
        (timedelta(days=30), timedelta(hours=23), None),
        (None, timedelta(days=900), None),
        (timedelta(days=30), timedelta(days=5000), None),
        (timedelta(days=30), timedelta(days=40), Evictable("changed")),
    ],
)
def test_a_row_may_go_that_is_old_enough_dated_and_not_kept_for_ever(
    keep: timedelta | None, age: timedelta, verdict: Evictable | None
) -> None:
    rules = Rules((Policy("remote", Match(origin="remote"), keep),), frozenset({"here.test"}))
    assert decide_eviction(row(age), QUOTA, rules, NOW) == verdict


def test_a_row_that_the_quota_does_not_speak_of_stays_and_one_without_a_policy_may_go() -> None:
    rules = Rules((), frozenset({"here.test"}))
    assert decide_eviction(row(timedelta(days=9), "here.test"), QUOTA, rules, NOW) is None
    assert decide_eviction(row(timedelta(days=9)), QUOTA, rules, NOW) == Evictable("no_policy")
