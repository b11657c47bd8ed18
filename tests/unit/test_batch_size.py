"""The number of chats in a batch: larger while batches are quick, never past what the configuration says."""

from __future__ import annotations

from typing import Any

import pytest

from retentiond.config.chats import ChatPace
from retentiond.targets.chat_database.batches import BatchSize

FAST: dict[str, Any] = {"max_rows_per_second": 10**9}


def sizes(pace: dict[str, Any], *batches: tuple[int, float]) -> list[int]:
    """The numbers of chats after batches of so many rows, each in so many seconds."""
    size = BatchSize(ChatPace.model_validate(pace))
    chosen = []
    for rows, seconds in batches:
        size.learn(size.chats, rows, seconds)
        chosen.append(size.chats)
    return chosen


def test_quick_batches_grow_to_four_times_the_default_and_slow_ones_shrink_back_to_it() -> None:
    quick, slow = (100, 0.1), (100, 1.5)
    assert sizes(FAST, quick, quick, quick) == [2000, 4000, 4000]
    assert sizes(FAST, quick, quick, slow, slow, slow) == [2000, 4000, 2000, 1000, 1000]
    assert sizes(FAST, (100, 0.5)) == [1000]


def test_a_number_that_is_configured_stays() -> None:
    assert sizes(FAST | {"batch": 1000}, (100, 0.01)) == [1000]


@pytest.mark.parametrize(("rows", "size"), [(12_500, 2000), (12_501, 1000)])
def test_a_batch_takes_no_more_than_a_quarter_of_the_rows_that_may_go_in_a_second(
    rows: int, size: int
) -> None:
    assert sizes({"max_rows_per_second": 100_000}, (rows, 0.1)) == [size]
    # Of later chats more hangs: the size goes back.
    assert sizes({"max_rows_per_second": 100_000}, (rows, 0.1), (25_001, 0.1)) == [size, 1000]


def test_the_default_pace_leaves_an_ordinary_chat_database_at_the_default_size() -> None:
    # A thousand chats of ten messages are some seventeen thousand rows.
    assert sizes({}, (17_000, 0.05), (17_000, 0.05)) == [1000, 1000]


def test_a_last_batch_of_few_chats_tells_nothing() -> None:
    size = BatchSize(ChatPace.model_validate(FAST))
    size.learn(10, 100, 0.001)
    assert size.chats == 1000


@pytest.mark.parametrize(
    ("pace", "rows", "two"),
    [
        ({}, 4_999, True),
        ({}, 5_000, False),
        ({"max_rows_per_second": 1_000}, 100, False),
        (FAST, 10**6, True),
    ],
)
def test_two_batches_run_at_once_only_where_one_alone_is_slower_than_the_pace(
    pace: dict[str, Any], rows: int, *, two: bool
) -> None:
    size = BatchSize(ChatPace.model_validate(pace))
    assert not size.two_at_once
    size.learn(1000, rows, 0.1)
    assert size.two_at_once is two


def test_a_configured_number_is_all_the_work_that_there_is_at_a_time() -> None:
    size = BatchSize(ChatPace.model_validate(FAST | {"batch": 1000}))
    size.learn(1000, 1, 1.0)
    assert not size.two_at_once
