"""What `plan` shows, in words and as JSON, and that it asks for nothing but a plan."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING

from retentiond.model.errors import Refusal
from retentiond.model.policy import KEEP_REASONS
from retentiond.model.report import Item
from retentiond.terminal.words import REASONS
from tests.support.command_line import CommandLine, Terminal
from tests.support.fake_target import FakeTarget, make_report

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ITEMS = (
    Item("media", "mxc://a.org/one", "remove", "due", "remote", 2048),
    Item("media", "mxc://a.org/[bold]\x1b[31mtwo", "keep", "no_policy", None, 5),
)


def plan_of(tmp_path: Path, target: FakeTarget, *words: str) -> tuple[int, str, str]:
    outcome = CommandLine(tmp_path, (target,)).type("plan", *words)
    return outcome.status, outcome.stdout, outcome.stderr


def refused_plan() -> FakeTarget:
    report = make_report(state="refused", dry_run=True, pass_id=None)
    report.refused = Refusal("max_share", 0.91, 0.5, "look at [bold]retentiond plan media[/bold]")
    return FakeTarget(report=report)


def test_json_is_one_document_with_the_report_of_each_target(tmp_path: Path) -> None:
    report = make_report("media", "planned", dry_run=True, pass_id=None)
    status, stdout, stderr = plan_of(tmp_path, FakeTarget(report=report), "--json")
    assert (status, stderr) == (0, "")
    assert json.loads(stdout) == {"passes": [report.as_json()]}


def test_a_plan_asks_the_target_for_nothing_else(tmp_path: Path) -> None:
    target = FakeTarget()
    plan_of(tmp_path, target)
    assert target.asked == ["plan"]


def test_a_dry_run_of_once_is_a_plan(tmp_path: Path) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("once", "--dry-run", "--json")
    assert outcome.document["passes"][0]["dry_run"] is True
    assert target.asked == ["plan"]


def test_the_tables_tell_what_goes_by_policy_and_what_stays_and_why(tmp_path: Path) -> None:
    status, stdout, _ = plan_of(tmp_path, FakeTarget())
    assert status == 0
    words = " ".join(stdout.split())
    assert "remote 3 3.0 MiB" in words
    assert f"profile_avatars 1 {REASONS['profile_avatars']}" in words
    assert "Nothing was changed." in words
    assert "`retentiond once media`" in words


def test_the_way_on_names_the_configuration_that_was_given(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    own = line.config.rename(tmp_path / "our own.yaml")
    told = line.type("--config", str(own), "plan").stdout
    assert f"`retentiond --config '{own}' once media`" in told


def test_inconsistencies_failures_and_shared_contents_are_told(tmp_path: Path) -> None:
    report = make_report(state="planned", dry_run=True)
    report.missing_file, report.orphan_thumbnail_row, report.shared_blobs = 2, 1, 4
    report.failed.update(not_writable=3)
    words = " ".join(plan_of(tmp_path, FakeTarget(report=report))[1].split())
    assert "Warning: 2 expired entries have no file on disk" in words
    assert "1 thumbnail row without a media item" in words
    assert "4 files are still used by other uploads" in words
    assert "not_writable 3" in words


def test_a_plan_never_exits_3_and_shows_what_would_be_refused_with_its_hint(tmp_path: Path) -> None:
    status, stdout, _ = plan_of(tmp_path, refused_plan())
    assert status == 0
    assert "A pass would be refused" in stdout
    assert "max_share: 0.91 (allowed: 0.5)" in stdout
    assert "look at [bold]retentiond plan media[/bold]" in stdout


def test_the_refusal_is_in_the_json_and_noted_beside_it(tmp_path: Path) -> None:
    status, stdout, stderr = plan_of(tmp_path, refused_plan(), "--json")
    assert status == 0
    assert json.loads(stdout)["passes"][0]["refused"]["limit"] == "max_share"
    assert stderr == "retentiond: media: a pass would be refused by max_share\n"


def test_a_json_list_is_a_line_an_item_and_nothing_else(tmp_path: Path) -> None:
    status, stdout, stderr = plan_of(tmp_path, FakeTarget(items=ITEMS), "--list", "--json")
    assert (status, stderr) == (0, "")
    assert [json.loads(text) for text in stdout.splitlines()] == [item.as_json() for item in ITEMS]


def test_a_list_shows_strangers_text_escaped_and_never_as_markup(tmp_path: Path) -> None:
    _, stdout, _ = plan_of(tmp_path, FakeTarget(items=ITEMS), "--list")
    first, second = stdout.splitlines()
    assert first.split() == ["remove", "due", "remote", "2.0", "KiB", "mxc://a.org/one"]
    assert second.split() == ["keep", "no_policy", "-", "5", "B", r"mxc://a.org/[bold]\u{1B}[31mtwo"]


def test_the_account_below_a_list_is_on_standard_error(tmp_path: Path) -> None:
    assert "Nothing was changed." in plan_of(tmp_path, FakeTarget(items=ITEMS), "--list")[2]


def test_a_list_of_several_targets_names_them(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, (FakeTarget("media", items=ITEMS[:1]), FakeTarget("pictures")))
    assert line.type("plan", "--list").stdout.split()[0] == "media"


def test_an_item_of_a_list_is_written_before_the_next_is_looked_at(tmp_path: Path) -> None:
    stdout = io.StringIO()
    seen: list[int] = []

    class Watching(FakeTarget):
        async def plan(self, listen: object, progress: object) -> object:  # type: ignore[override]
            assert callable(listen)
            for item in ITEMS:
                listen(item)
                seen.append(len(stdout.getvalue().splitlines()))
            return make_report(state="planned", dry_run=True)

    CommandLine(tmp_path, (Watching(),)).type("plan", "--list", "--json", stdout=stdout)
    assert seen == [1, 2]


def test_without_a_terminal_there_are_no_colours_and_no_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, stdout, stderr = plan_of(tmp_path, refused_plan())
    assert "\x1b" not in stdout
    assert stderr == ""


def test_on_a_terminal_there_are_colours_and_a_bar_with_the_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stdout, stderr = Terminal(), Terminal()
    CommandLine(tmp_path, (FakeTarget(items=ITEMS),)).type("plan", stdout=stdout, stderr=stderr)
    assert "\x1b[1m" in stdout.getvalue()
    assert "judging" in stderr.getvalue()
    assert "2/2" in stderr.getvalue()


def test_quiet_shows_no_bar(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("--quiet", "plan", stdout=Terminal(), stderr=Terminal())
    assert outcome.stderr == ""


def test_every_reason_to_stay_has_words(tmp_path: Path) -> None:
    assert set(REASONS) == set(KEEP_REASONS)


def test_a_reader_that_has_enough_ends_a_list_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    many = FakeTarget(items=ITEMS * 50_000)
    with os.fdopen(writing, "w", encoding="utf-8") as stdout:
        outcome = CommandLine(tmp_path, (many,)).type("plan", "--list", "--json", stdout=stdout)
    assert (outcome.status, outcome.stderr) == (141, "")


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as stdout:
        outcome = CommandLine(tmp_path).type("plan", stdout=stdout)
    assert outcome.status == 4
    assert "standard output cannot be written" in outcome.stderr
