"""What went wrong with other retention tools: time, configuration, and pace. Each test is named for the symptom.

Some symptoms are shown elsewhere already: a shortened policy that purges at once, by
`test_a_shortened_policy_waits_for_a_day`; a duplicate key at each level, by
`test_duplicate_keys_are_a_problem_at_each_level`; a match that is empty, by
`test_a_match_without_a_condition_is_refused`.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retentiond.adapters.disk import DiskWorkers
from retentiond.config.load import load_config
from retentiond.config.problems import ConfigError
from retentiond.engine.passes import Pace
from retentiond.model.match import Match
from retentiond.model.media import MediaRow
from retentiond.model.policy import Keep, Policy, Remove, Rules, decide
from tests.support.command_line import CommandLine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY_MS = 86_400_000
REMOTE = Rules((Policy("remote", Match(origin="remote"), timedelta(days=30)),), frozenset({"here.test"}))

CONFIG = """\
targets:
  media:
    kind: dendrite_media
    dendrite_config: /etc/dendrite/dendrite.yaml
    policies:
      - {name: remote, match: {origin: remote%s}, keep: 30d%s}
"""


def row(created_ms: int, *, origin: str = "there.test", user_id: str = "") -> MediaRow:
    return MediaRow("id", origin, "image/png", 1, created_ms, "", "A" * 43, user_id)


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    return str(caught.value)


def test_milliseconds_are_not_taken_for_seconds() -> None:
    assert decide(row(NOW_MS - 29 * DAY_MS), REMOTE, NOW) == Keep("not_due", "remote")
    assert decide(row(NOW_MS - 31 * DAY_MS), REMOTE, NOW) == Remove("remote", 0)


def test_a_date_in_seconds_makes_no_row_the_oldest() -> None:
    assert decide(row(NOW_MS // 1000), REMOTE, NOW) == Keep("undated", "remote")


@pytest.mark.parametrize("created_ms", [0, -1, 1, -(2**63), 2**63 - 1])
def test_a_missing_date_is_not_the_oldest(created_ms: int) -> None:
    assert decide(row(created_ms), REMOTE, NOW) == Keep("undated", "remote")


@given(age_ms=st.integers(0, 9 * 365 * DAY_MS), keep_ms=st.integers(0, 9 * 365 * DAY_MS))
def test_no_comparison_is_turned_round(age_ms: int, keep_ms: int) -> None:
    rules = Rules((Policy("remote", Match(origin="remote"), timedelta(milliseconds=keep_ms)),))
    assert isinstance(decide(row(NOW_MS - age_ms), rules, NOW), Remove) == (age_ms >= keep_ms)


@given(
    age_ms=st.integers(0, 9 * 365 * DAY_MS),
    origin=st.text(min_size=1, max_size=20),
    user_id=st.text(max_size=20),
)
def test_without_a_policy_nothing_matches(age_ms: int, origin: str, user_id: str) -> None:
    verdict = decide(row(NOW_MS - age_ms, origin=origin, user_id=user_id), Rules(()), NOW)
    assert verdict == Keep("no_policy")


def test_no_default_matches_everything(tmp_path: Path) -> None:
    text = CONFIG.replace("{origin: remote%s}", "{}") % ""
    assert "would match everything" in problems(tmp_path, text)
    assert "match" in problems(tmp_path, CONFIG.replace("match: {origin: remote%s}, ", "") % "")


def test_a_duplicate_key_drops_no_filter(tmp_path: Path) -> None:
    said = problems(tmp_path, CONFIG % (', origin: "*"', ""))
    assert "origin" in said
    assert "twice" in said or "duplicate" in said


def test_an_unknown_key_is_not_a_filter_that_is_ignored(tmp_path: Path) -> None:
    assert "unknown key" in problems(tmp_path, CONFIG % (", larger: 20MiB", ""))


def test_what_no_version_obeys_yet_is_refused_so_that_no_upgrade_wakes_it(tmp_path: Path) -> None:
    assert "unknown key `purge_after`" in problems(tmp_path, CONFIG % ("", ", purge_after: 1d"))


@pytest.mark.parametrize(
    "words",
    [
        "plan --yes",
        "once --list",
        "once --what-if 7d",
        "once --days 3",
        "status --dry-run",
        "delete --media mxc://a/b --dry-run --for 3d",
        "quarantine purge --yes --media mxc://a/b",
        "quarantine list --all",
        "records verify --yes",
        "records export --since 2025-01-01",
        "check-config --yes",
        "example-config --json",
    ],
)
def test_no_flag_is_accepted_and_ignored(tmp_path: Path, words: str) -> None:
    line = CommandLine(tmp_path)
    outcome = line.type(*words.split())
    assert outcome.status == 2
    assert not line.targets[0].asked


async def test_purges_do_not_starve_the_server_beside_them() -> None:
    """A rate in items, and a bound on the calls to the file system at one time."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    pace = Pace(100, clock=lambda: 0.0, sleep=sleep)
    for _ in range(3):
        await pace.take(50)
    assert waited == [0.5, 1.0]

    at_once, most = 0, 0
    lock, full = threading.Lock(), threading.Barrier(2)

    def work(items: Sequence[int]) -> list[int]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        # Two are let in; a third could only make the count larger.
        if len(items) > 1:
            full.wait(timeout=60)
        with lock:
            at_once -= 1
        return list(items)

    # By this clock the disk is slow, and a batch is shared.
    disk = DiskWorkers(2, clock=count().__next__)
    try:
        await disk.share(work, [0])
        assert await disk.share(work, range(4 * 256)) == list(range(4 * 256))
    finally:
        disk.close()
    assert most == 2
