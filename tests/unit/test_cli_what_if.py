"""`plan --what-if`: other ages beside the configured ones, in a table and in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import CommandLine
from tests.support.fake_target import FakeTarget

if TYPE_CHECKING:
    from pathlib import Path


def test_each_age_has_its_account_by_policy_beside_the_plan(tmp_path: Path) -> None:
    document = CommandLine(tmp_path).type("plan", "--what-if", "7d, 1d", "--json").document
    (plan,) = document["passes"]
    assert plan["removed"]["items"] == 3
    assert [supposed["keep"] for supposed in plan["what_if"]] == ["7d", "1d"]
    assert [supposed["removed"]["by_policy"] for supposed in plan["what_if"]] == [
        {"remote": {"items": 7, "bytes": 7168}},
        {"remote": {"items": 1, "bytes": 1024}},
    ]
    assert all(supposed["refused"] is None for supposed in plan["what_if"])


def test_people_see_a_column_an_age_as_they_wrote_it(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (FakeTarget(), FakeTarget("other"))).type(
        "plan", "other", "--what-if", "24h,90d"
    )
    assert outcome.status == 0
    assert "24h" in outcome.stdout
    assert "90 (90.0 KiB)" in outcome.stdout
    assert "media:" not in outcome.stdout


@pytest.mark.parametrize(
    "ages", ["", "7", "7d,", "7d;8d", "-1d", ",".join(f"{age}d" for age in range(1, 30))]
)
def test_ages_that_cannot_be_are_a_wrong_usage(tmp_path: Path, ages: str) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("plan", f"--what-if={ages}")
    assert (outcome.status, outcome.stdout, target.asked) == (2, "", [])
    assert "--what-if" in outcome.stderr


def test_a_list_of_items_is_of_one_plan(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("plan", "--what-if", "7d", "--list")
    assert outcome.status == 2
    assert "use one of them" in outcome.stderr
