from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retentiond.config.units import (
    LARGEST,
    LONGEST,
    UnitError,
    format_duration,
    parse_duration,
    parse_size,
)

UNHURRIED = settings(deadline=None)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30d", timedelta(days=30)),
        ("24h", timedelta(days=1)),
        ("10m", timedelta(minutes=10)),
        ("0s", timedelta(0)),
        ("3y", timedelta(days=3 * 365)),
        ("1w", timedelta(days=7)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("1y2w3d4h5m6s", timedelta(days=382, hours=4, minutes=5, seconds=6)),
    ],
)
def test_a_duration_is_whole_numbers_with_units(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("value", [30, "30"])
def test_a_number_alone_is_refused_with_what_to_write(value: object) -> None:
    with pytest.raises(UnitError, match="write 30d, 30h or 30m"):
        parse_duration(value)
    with pytest.raises(UnitError, match="write 30MiB, 30MB or 30B"):
        parse_size(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "d",
        "500ms",
        "30 d",
        " 30d",
        "30d\n",
        "30D",
        "1h1h",
        "1m1h",
        "1.5d",
        "+3d",
        "٣d",
        "1d12",
        True,
        None,
        [],
        1.5,
        "inf",
    ],
)
def test_nothing_else_is_a_duration(value: object) -> None:
    with pytest.raises(UnitError, match="write"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["-30d", -30, "-0s", timedelta(seconds=-1)])
def test_a_negative_duration_is_refused_as_such(value: object) -> None:
    with pytest.raises(UnitError, match="negative"):
        parse_duration(value)


@pytest.mark.parametrize("text", ["1001y", "9" * 17 + "d", "9" * 5000 + "s", "9" * 5000])
def test_a_duration_that_no_date_could_follow_is_refused(text: str) -> None:
    with pytest.raises(UnitError):
        parse_duration(text)


def test_the_longest_duration_is_just_taken() -> None:
    assert parse_duration("1000y") == LONGEST
    with pytest.raises(UnitError, match="too long"):
        parse_duration("1000y1s")


@UNHURRIED
@given(st.integers(0, LONGEST // timedelta(seconds=1)))
def test_a_duration_is_read_as_it_was_written(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["24h", "30d", "36h", "10m", "365d", "0s", "2d12h", "90m"])
def test_a_duration_is_written_as_people_say_it(text: str) -> None:
    expected = {"90m": "1h30m"}.get(text, text)
    assert format_duration(parse_duration(text)) == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20MiB", 20 * 1024**2),
        ("50GiB", 50 * 1024**3),
        ("1MB", 10**6),
        ("20B", 20),
        ("0B", 0),
        ("1kb", 1000),
        ("3tib", 3 * 1024**4),
        ("9007199254740993B", 9007199254740993),
    ],
)
def test_a_size_is_a_whole_number_with_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value", ["", "MiB", "1.5GiB", "20 MiB", "20M", "20Mbit", "20MiB of", "-1MB", True, None, 1.5]
)
def test_nothing_else_is_a_size(value: object) -> None:
    with pytest.raises(UnitError, match="write"):
        parse_size(value)


def test_a_size_beyond_the_databases_numbers_is_refused() -> None:
    assert parse_size(f"{LARGEST}B") == LARGEST
    with pytest.raises(UnitError, match="too large"):
        parse_size("8EiB")
