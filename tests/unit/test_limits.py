"""Limits tell an accident from growth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from retentiond.model.limits import Counts, growth_starts, judge_limits
from retentiond.model.match import Match
from retentiond.model.policy import Policy

_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class _Limits:
    max_share: float = 0.5
    max_items: int = 1_000
    max_missing_files: float = 0.05


def _refused(counts: Counts, **limits: float) -> tuple[str, object] | None:
    refusal = judge_limits("media", replace(_Limits(), **limits), counts, first=False)  # type: ignore[arg-type]
    return None if refusal is None else (refusal.limit, refusal.value)


@pytest.mark.parametrize(
    ("counts", "refused"),
    [
        (Counts(rows=0, due=0), None),
        (Counts(rows=10, due=5), None),
        (Counts(rows=10, due=6), ("max_share", 0.6)),
        # A stranger brought nine times what was there.
        (Counts(rows=100, due=95, growth=90), None),
        # The same, and more than half of the rest is due besides.
        (Counts(rows=100, due=96, growth=90), ("max_share", 0.6)),
        # Growth does not make room for an accident, either.
        (Counts(rows=1_000, due=906, growth=900), None),
        (Counts(rows=1_000, due=960, growth=900), ("max_share", 0.6)),
        (Counts(rows=10, due=10, growth=10), None),
    ],
)
def test_growth_counts_on_neither_side_of_the_share(
    counts: Counts, refused: tuple[str, object] | None
) -> None:
    assert _refused(counts) == refused


def test_the_number_of_rows_that_may_be_due_includes_growth() -> None:
    assert _refused(Counts(rows=9_000, due=1_001, growth=1_001)) == ("max_items", 1_001)


def test_files_that_are_missing_refuse_before_anything_else() -> None:
    assert _refused(Counts(rows=10, due=10, missing=1, sampled=10)) == ("max_missing_files", 0.1)


def test_growth_begins_a_policy_s_keep_and_the_window_before_now() -> None:
    def policy(keep: timedelta | None) -> Policy:
        return Policy("name", Match(origin="remote"), keep)

    policies = [policy(30 * _DAY), policy(None), policy(timedelta.max - 7 * _DAY), policy(1 * _DAY)]
    starts = growth_starts(policies, _NOW, 7 * _DAY)
    assert starts == {
        0: int((_NOW - 37 * _DAY).timestamp() * 1000),
        2: 0,
        3: int((_NOW - 8 * _DAY).timestamp() * 1000),
    }


def test_a_refusal_names_the_servers_in_one_sentence_as_text() -> None:
    counts = Counts(100, 80, growth=20, origins=(("evil\u202e.test", 0.75), ("b.test", 0.2)))
    refusal = judge_limits("media", _Limits(), counts, first=False)
    assert refusal is not None
    assert refusal.hint.startswith(
        "80 of 100 rows would go (75% from evil\\u{202E}.test, 20% from b.test), of which 20 remote ones that came due "
        "lately do not count (`growth_within`); look with `retentiond plan media`"
    )
