"""What `quarantine` lists, brings back and purges, and what it asks before."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import Selection
from retentiond.model.errors import BusyError, Refusal, UnreachableError
from retentiond.model.report import (
    CancelledPurge,
    QuarantineSummary,
    Released,
    RestoreReport,
    SweepReport,
    Tally,
    TargetStatus,
)
from tests.support.command_line import CommandLine, Terminal
from tests.support.fake_target import STARTED, FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command_line import Outcome

URI = "mxc://a.org/one"
LATER = datetime(2100, 1, 1, tzinfo=UTC)
RELEASED = Released(
    7,
    URI,
    "remote",
    "image/png",
    "[cat]\x1b[2J.png",
    2048,
    "quarantined",
    STARTED,
    STARTED + timedelta(days=1),
)


def answering(text: str) -> Terminal:
    return Terminal(text)


def type_restore(tmp_path: Path, target: FakeTarget, *words: str) -> Outcome:
    return CommandLine(tmp_path, (target,)).type("quarantine", "restore", *words)


def test_the_list_is_one_json_document_with_the_target_of_each_item(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, (FakeTarget(in_quarantine=(RELEASED, RELEASED)),))
    outcome = line.type("quarantine", "list", "--json")
    assert outcome.status == 0
    assert outcome.document == {"items": [{"target": "media"} | RELEASED.as_json()] * 2}


def test_an_empty_list_is_a_document_too(tmp_path: Path) -> None:
    assert CommandLine(tmp_path).type("quarantine", "list", "--json").document == {"items": []}


def test_the_document_is_whole_though_a_target_failed(tmp_path: Path) -> None:
    line = CommandLine(
        tmp_path,
        (
            FakeTarget("media", in_quarantine=(RELEASED,)),
            FakeTarget("pictures", unreachable=UnreachableError("it does not answer; start it")),
        ),
    )
    outcome = line.type("quarantine", "list", "--json")
    assert outcome.status == 4
    assert len(outcome.document["items"]) == 1


def test_the_list_shows_strangers_names_escaped(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (FakeTarget(in_quarantine=(RELEASED,)),)).type("quarantine", "list")
    heading, row = outcome.stdout.splitlines()
    assert heading.split()[:2] == ["pass", "state"]
    assert URI in row
    assert r"[cat]\u{1B}[2J.png" in row
    assert outcome.stderr == "retentiond: 1 item, 2.0 KiB\n"


def test_a_reader_that_has_enough_ends_the_list_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    line = CommandLine(tmp_path, (FakeTarget(in_quarantine=(RELEASED,) * 10_000),))
    with os.fdopen(writing, "w", encoding="utf-8") as stdout:
        outcome = line.type("quarantine", "list", "--json", stdout=stdout)
    assert (outcome.status, outcome.stderr) == (141, "")


@pytest.mark.parametrize(
    ("words", "selection"),
    [
        (("--pass", "7"), Selection(pass_id=7)),
        (("--media", URI), Selection(media=URI)),
        (("--all",), Selection()),
        (
            ("--all", "--for", "90d", "--reason", "a mistake"),
            Selection(keep_for=timedelta(days=90), reason="a mistake"),
        ),
    ],
)
def test_what_is_restored_is_what_was_said(
    tmp_path: Path, words: tuple[str, ...], selection: Selection
) -> None:
    target = FakeTarget(restored=RestoreReport(restored=[URI]))
    assert type_restore(tmp_path, target, *words).status == 0
    assert target.selections == [selection]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--pass", "7", "--all"),
        ("--pass", "7", "--media", URI),
        ("--pass", "0"),
        ("--media", "https://a.org/one"),
        ("--all", "--for", "90"),
        ("--all", "--for", "soon"),
    ],
)
def test_a_restore_of_nothing_or_of_two_things_is_wrong_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    target = FakeTarget()
    outcome = type_restore(tmp_path, target, *words)
    assert outcome.status == 2
    assert outcome.stderr.startswith("retentiond: ")
    assert target.asked == []


def test_a_pass_number_needs_a_target_where_there_are_several(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, (FakeTarget("media"), FakeTarget("pictures")))
    outcome = line.type("quarantine", "restore", "--pass", "7")
    assert outcome.status == 2
    assert "media, pictures" in outcome.stderr


def test_a_restore_tells_its_counts_as_json(tmp_path: Path) -> None:
    report = RestoreReport(restored=[URI], present=["mxc://a/b"])
    outcome = type_restore(tmp_path, FakeTarget(restored=report), "--all", "--json")
    assert outcome.document == {"restores": [{"target": "media"} | report.as_json()]}


def test_rows_that_had_no_file_of_their_size_are_named(tmp_path: Path) -> None:
    report = RestoreReport(restored=[URI], without_file=["mxc://a/gone\x1b"])
    outcome = type_restore(tmp_path, FakeTarget(restored=report), "--all")
    assert outcome.status == 0
    assert "1 item restored" in outcome.stdout
    assert outcome.stderr == (
        "retentiond: media: mxc://a/gone\\u{1B} has no file, or a file of another size than in its row, "
        "and is not restored\n"
    )


def test_a_restore_that_could_bring_nothing_back_exits_1(tmp_path: Path) -> None:
    report = RestoreReport(without_file=[URI])
    assert type_restore(tmp_path, FakeTarget(restored=report), "--media", URI).status == 1


def test_what_is_being_worked_on_is_named_and_exits_1(tmp_path: Path) -> None:
    outcome = type_restore(tmp_path, FakeTarget(restored=RestoreReport(restored=["x"], busy=[URI])), "--all")
    assert outcome.status == 1
    assert f"{URI} is in use by another run" in outcome.stderr


def test_a_restore_of_what_is_not_there_says_so(tmp_path: Path) -> None:
    outcome = type_restore(tmp_path, FakeTarget(), "--media", URI)
    assert outcome.status == 1
    assert "not in quarantine" in outcome.stderr


@pytest.mark.parametrize("words", [("--all",), ("--pass", "7")])
def test_a_second_restore_has_nothing_to_do_and_is_no_failure(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert type_restore(tmp_path, FakeTarget(), *words).status == 0
    # What had no file stays in the ledger until its grace is over.
    left = FakeTarget(restored=RestoreReport(without_file=[URI]))
    assert type_restore(tmp_path, left, *words).status == 0


def test_a_restore_of_a_pass_under_way_exits_5(tmp_path: Path) -> None:
    busy = FakeTarget(unreachable=BusyError("pass 7 is under way; wait for its end"))
    assert type_restore(tmp_path, busy, "--pass", "7").status == 5


def test_a_purge_without_a_terminal_needs_yes(tmp_path: Path) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("quarantine", "purge")
    assert outcome.status == 2
    assert "--yes" in outcome.stderr
    assert "end_grace" not in target.asked


def test_a_purge_with_yes_asks_nothing(tmp_path: Path) -> None:
    swept = SweepReport(purged=2, purged_bytes=2048)
    target = FakeTarget(swept=swept)
    outcome = CommandLine(tmp_path, (target,)).type("quarantine", "purge", "--yes")
    assert outcome.status == 0
    assert "media: 2 files purged, 2.0 KiB" in outcome.stdout
    assert target.asked == ["end_grace", "status"]


@pytest.mark.parametrize(("answer", "purged"), [("y\n", True), ("yes\n", True), ("\n", False), ("", False)])
def test_on_a_terminal_a_purge_shows_what_would_go_and_asks(
    tmp_path: Path, answer: str, purged: bool
) -> None:
    summary = QuarantineSummary(3, {"quarantined": Tally(2, 2048)}, STARTED)
    standing = TargetStatus("media", "dendrite_media", ledger=True, quarantine=summary)
    target = FakeTarget(standing=standing)
    line = CommandLine(tmp_path, (target,))
    outcome = line.type("quarantine", "purge", stdin=answering(answer))
    assert outcome.status == 0
    assert "media: 3 items can be restored; quarantined: 2 files, 2.0 KiB" in outcome.stderr
    assert ("end_grace" in target.asked) is purged


def test_the_question_does_not_get_into_the_json(tmp_path: Path) -> None:
    swept = SweepReport(purged=1)
    line = CommandLine(tmp_path, (FakeTarget(swept=swept),))
    outcome = line.type("quarantine", "purge", "--json", stdin=answering("y\n"))
    assert outcome.document["purges"][0]["purged"] == 1
    assert outcome.document["purges"][0]["target"] == "media"


def test_a_purge_that_was_not_wanted_is_an_empty_document(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, (FakeTarget(),))
    outcome = line.type("quarantine", "purge", "--json", stdin=answering("n\n"))
    assert (outcome.status, outcome.document) == (0, {"purges": []})


@pytest.mark.parametrize("swept", [SweepReport(failed=1), SweepReport(lost=1)])
def test_a_purge_with_failures_exits_1(tmp_path: Path, swept: SweepReport) -> None:
    outcome = CommandLine(tmp_path, (FakeTarget(swept=swept),)).type("quarantine", "purge", "--yes")
    assert outcome.status == 1
    assert "retentiond: media: 1 file" in outcome.stderr


def test_a_purge_that_is_refused_exits_3_and_prints_no_sum(tmp_path: Path) -> None:
    refusal = Refusal("protection_unreadable", "a table", "readable", "grant the right")
    target = FakeTarget(swept=SweepReport(refused=refusal))
    outcome = CommandLine(tmp_path, (target,)).type("quarantine", "purge", "--yes")
    assert outcome.status == 3
    assert "refused by protection_unreadable" in outcome.stderr
    assert "purged" not in outcome.stdout


@pytest.mark.parametrize("words", [("quarantine", "list"), ("hold", "list"), ("records", "export")])
def test_no_sum_is_printed_where_a_target_is_missing_in_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    target = FakeTarget(unreachable=UnreachableError("the database cannot be reached; start it"))
    outcome = CommandLine(tmp_path, (target,)).type(*words)
    assert outcome.status == 4
    assert "cannot be reached" in outcome.stderr
    assert not re.search(r"\b0 (item|hold|record)", outcome.stderr + outcome.stdout)


SETTLING = QuarantineSummary(3, {"quarantined": Tally(2, 2048)}, STARTED, LATER, LATER)


def settling(summary: QuarantineSummary = SETTLING, daemon: str | None = None) -> FakeTarget:
    status = TargetStatus("media", "dendrite_media", ledger=True, quarantine=summary, daemon=daemon)
    return FakeTarget(standing=status)


@pytest.mark.parametrize(
    ("daemon", "purger"), [("here, pid 1", "the daemon"), (None, "the next `retentiond")]
)
def test_a_purge_within_settle_says_what_goes_when_and_how_to_take_it_back(
    tmp_path: Path, daemon: str | None, purger: str
) -> None:
    """It said "0 contents purged", and had ended the grace of everything."""
    outcome = CommandLine(tmp_path, (settling(daemon=daemon),)).type("quarantine", "purge", "--yes")
    assert "0 files purged" in outcome.stdout
    assert (
        f"media: 3 items, 2.0 KiB: their grace is ended, and they will be purged from {LATER.astimezone():%Y-%m-%d %H:%M %Z} on, "
        f"by {purger}"
    ) in outcome.stdout
    assert "quarantine purge media --cancel` gives them their grace back" in outcome.stdout


def test_a_purge_does_not_announce_the_purge_of_what_has_just_come_back(tmp_path: Path) -> None:
    """It said "0 items, 78.3 KiB: they will be purged" of the spares of restored files."""
    spares = QuarantineSummary(0, {"returned": Tally(5, 80_000)}, None)
    outcome = CommandLine(tmp_path, (settling(spares),)).type("quarantine", "purge", "--yes")
    assert "will be purged" not in outcome.stdout
    outcome = CommandLine(tmp_path, (settling(spares),)).type("quarantine", "purge", "--yes", "--json")
    assert outcome.document["purges"][0]["pending"] == {"items": 0, "bytes": 0, "from": None}


def test_a_purge_within_settle_tells_as_json_what_is_pending_from_when(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (settling(),)).type("quarantine", "purge", "--yes", "--json")
    (purge,) = outcome.document["purges"]
    assert purge["purged"] == 0
    assert purge["pending"] == {"items": 3, "bytes": 2048, "from": f"{LATER:%Y-%m-%dT%H:%M:%SZ}"}


@pytest.mark.parametrize(
    ("first", "last", "plan"),
    [
        (LATER, LATER, "to be purged from"),
        (STARTED, LATER, "to be purged at once, but for newer files"),
        (STARTED, STARTED, "to be purged at once"),
    ],
)
def test_a_purge_without_yes_shows_when_it_would_go(
    tmp_path: Path, first: datetime, last: datetime, plan: str
) -> None:
    target = settling(replace(SETTLING, first_settled=first, last_settled=last))
    for stdin in (answering("n\n"), None):
        keys = {"stdin": stdin} if stdin else {}
        outcome = CommandLine(tmp_path, (target,)).type("quarantine", "purge", **keys)
        assert "media: 3 items can be restored; quarantined: 2 " in outcome.stderr
        assert f"media: {plan}" in outcome.stderr
    assert "end_grace" not in target.asked


def test_a_cancelled_purge_says_until_when_the_grace_is_back(tmp_path: Path) -> None:
    target = FakeTarget(cancelled=CancelledPurge(3, LATER))
    outcome = CommandLine(tmp_path, (target,)).type("quarantine", "purge", "--cancel")
    assert outcome.status == 0
    assert (
        f"media: 3 items with their grace back, the last until {LATER.astimezone():%Y-%m-%d %H:%M}"
        in outcome.stdout
    )
    assert target.asked == ["cancel_purge"]
    outcome = CommandLine(tmp_path, (target,)).type("quarantine", "purge", "--cancel", "--json")
    until = f"{LATER:%Y-%m-%dT%H:%M:%SZ}"
    assert outcome.document == {"cancelled": [{"target": "media", "items": 3, "until": until, "busy": 0}]}


def test_a_purge_that_cannot_be_cancelled_any_more_exits_1(tmp_path: Path) -> None:
    target = FakeTarget(cancelled=CancelledPurge(busy=2))
    outcome = CommandLine(tmp_path, (target,)).type("quarantine", "purge", "--cancel")
    assert outcome.status == 1
    assert "the purge of 2 items has begun" in outcome.stderr


def test_a_cancel_that_is_answered_beforehand_is_wrong_usage(tmp_path: Path) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("quarantine", "purge", "--cancel", "--yes")
    assert (outcome.status, target.asked) == (2, [])
