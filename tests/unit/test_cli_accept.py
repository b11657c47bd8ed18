"""`quarantine accept` and `quarantine forget` at the prompt: what is shown, and which way it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retentiond.model.acceptance import Acceptance, Known
from retentiond.model.errors import Refusal
from tests.support.command_line import CommandLine
from tests.support.fake_target import FakeTarget

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def target() -> FakeTarget:
    return FakeTarget()


@pytest.fixture
def line(tmp_path: Path, target: FakeTarget) -> CommandLine:
    return CommandLine(tmp_path, (target,))


def test_accept_shows_what_is_known_and_the_command_that_goes_on(
    line: CommandLine, target: FakeTarget
) -> None:
    target.acceptance = Acceptance(
        "media",
        ledger=Known("one", 3),
        disk=Known("two", 5, "2026-01-02"),
        refused=[Refusal("another_store", "the store ID of another store", "ours", "look")],
        unknown=1200,
        wanted=7,
        gone=2,
    )
    shown = line.type("quarantine", "accept", "media").stdout
    for words in (
        "store one, last pass 3",
        "store two, last pass 5, 2026-01-02",
        "another_store: the store ID of another store",
        "1,200 contents in quarantine, of which rows bear 7",
        "2 contents, whose files are gone",
        "Nothing was changed.",
        "`retentiond quarantine accept media --yes`",
    ):
        assert words in shown
    assert target.asked == ["accept yes=False"]


def test_accept_with_yes_says_what_became_of_it(line: CommandLine, target: FakeTarget) -> None:
    target.acceptance = Acceptance("media", returned=1, taken=2, lost=3)
    shown = line.type("quarantine", "accept", "media", "--yes").stdout
    assert "1 content given back to rows, 2 taken into the ledger, 3 closed as lost" in shown
    assert "`retentiond quarantine purge media --yes`" in shown
    assert target.asked == ["accept yes=True"]


def test_where_all_fits_there_is_nothing_to_accept(line: CommandLine) -> None:
    assert "there is nothing to accept" in line.type("quarantine", "accept", "media").stdout


def test_accept_prints_its_account_as_json_and_fails_where_something_failed(
    line: CommandLine, target: FakeTarget
) -> None:
    target.acceptance = Acceptance("media", failed=1)
    outcome = line.type("quarantine", "accept", "media", "--yes", "--json")
    assert outcome.status == 1
    [told] = outcome.document["accepts"]
    assert (told["target"], told["accepted"], told["failed"]) == ("media", True, 1)


def test_accept_is_for_one_target_that_is_named(line: CommandLine, target: FakeTarget) -> None:
    assert line.type("quarantine", "accept", "--yes").status == 2
    assert not target.asked


def test_forget_ends_the_mark_of_media_or_of_all(line: CommandLine, target: FakeTarget) -> None:
    target.marked = ["mxc://a/1", "mxc://a/2", "mxc://a/3"]
    outcome = line.type("quarantine", "forget", "--media", "mxc://a/1", "--json")
    assert outcome.document == {"forgets": [{"target": "media", "forgotten": ["mxc://a/1"]}]}
    assert "2 items kept no longer" in line.type("quarantine", "forget", "media", "--all").stdout
    assert not target.marked


def test_forgetting_what_bears_no_mark_is_a_failure(line: CommandLine) -> None:
    outcome = line.type("quarantine", "forget", "--media", "mxc://a/1")
    assert outcome.status == 1
    assert "none of these items is protected after a restore" in outcome.stderr
    assert line.type("quarantine", "forget", "--all").status == 0


@pytest.mark.parametrize("words", ["", "--media mxc://a/1 --all", "--media a"])
def test_what_to_forget_must_be_said_once(line: CommandLine, target: FakeTarget, words: str) -> None:
    target.marked = ["mxc://a/1"]
    assert line.type("quarantine", "forget", *words.split()).status == 2
    assert target.marked
