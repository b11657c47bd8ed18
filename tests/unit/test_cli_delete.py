"""`delete`: its plan comes first, it asks, and what stops it is said."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from retentiond.model.errors import Refusal
from retentiond.model.ownership import Ownership
from retentiond.model.report import PassReport
from retentiond.model.request import Request
from tests.support.command_line import CommandLine, Terminal
from tests.support.fake_target import STARTED, FakeTarget, make_report

if TYPE_CHECKING:
    from pathlib import Path

MEDIA = ("--media", "mxc://there.test/abc")


def plan(*, goes: int = 0, kept: dict[str, int] | None = None, failed: int = 0) -> PassReport:
    report = PassReport("media", "dendrite_media", True, STARTED, None, "planned", STARTED)
    if goes:
        report.remove("delete", goes, 1024)
    report.kept.update(kept or {})
    if failed:
        report.failed["not_movable"] = failed
    return report


def test_with_yes_it_plans_and_deletes(tmp_path: Path) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("delete", *MEDIA, "--yes")
    assert outcome.status == 0
    assert target.asked[:2] == ["plan", "run_pass"]
    request = Request("media", "mxc://there.test/abc")
    assert (target.requests, target.orders[0].request) == ([request], request)
    assert outcome.stdout.index("the plan") < outcome.stdout.index("pass finished")
    assert "quarantine restore media --pass 7" in outcome.stdout


def test_its_yes_goes_over_no_limit(tmp_path: Path) -> None:
    target = FakeTarget()
    CommandLine(tmp_path, (target,)).type("delete", *MEDIA, "--yes")
    assert not target.orders[0].over_limits


def test_a_dry_run_deletes_nothing(tmp_path: Path) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("delete", *MEDIA, "--dry-run", "--yes", "--json")
    assert (outcome.status, target.asked) == (0, ["plan"])
    assert outcome.document["passes"][0]["dry_run"] is True


def test_where_nobody_can_be_asked_yes_is_needed(tmp_path: Path) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("delete", *MEDIA)
    assert (outcome.status, target.asked) == (2, [])
    assert "confirm with --yes" in outcome.stderr


@pytest.mark.parametrize(
    ("answer", "asked"), [("y\n", ["plan", "run_pass"]), ("\n", ["plan"]), ("", ["plan"])]
)
def test_on_a_terminal_it_asks_after_the_plan(tmp_path: Path, answer: str, asked: list[str]) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type(
        "delete", *MEDIA, stdin=Terminal(answer), stderr=io.StringIO()
    )
    assert outcome.status == 0
    assert target.asked[: len(asked)] == asked
    assert len([word for word in target.asked if word == "run_pass"]) == asked.count("run_pass")
    assert "Delete 3 items, 3.0 MiB? [y/N]" in outcome.stderr


def test_the_document_is_of_what_was_done_and_the_plan_is_on_standard_error(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("delete", *MEDIA, "--yes", "--json")
    assert [one["pass_id"] for one in outcome.document["passes"]] == [7]
    assert "the plan" in outcome.stderr


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"hold": 1}, "`retentiond hold list` shows the holds"),
        ({"profile_avatars": 1}, "`retentiond plan --explain` shows what refers to an item"),
        ({"restored": 1}, "items that somebody has restored are kept"),
    ],
)
def test_what_is_kept_stops_it_with_3_and_says_what_to_look_at(
    tmp_path: Path, kept: dict[str, int], told: str
) -> None:
    target = FakeTarget(planned=plan(kept=kept))
    outcome = CommandLine(tmp_path, (target,)).type("delete", *MEDIA, "--yes")
    assert (outcome.status, target.asked) == (3, ["plan"])
    assert told in outcome.stderr


@pytest.mark.parametrize("reason", ["hold", "profile_avatars"])
def test_no_message_advises_to_delete_what_is_kept(tmp_path: Path, reason: str) -> None:
    target = FakeTarget(planned=plan(kept={reason: 1}))
    assert "--even-protected" not in CommandLine(tmp_path, (target,)).type("delete", *MEDIA, "--yes").stderr


def test_the_question_names_the_uploaders_and_the_rooms_that_mention_the_items(tmp_path: Path) -> None:
    planned = plan(goes=8)
    planned.ownership = Ownership()
    planned.ownership.removed.update({f"@user{n}:here.test": 1 for n in range(7)} | {"": 1})
    planned.ownership.rooms = {"!a:here.test": 2, "![b]:here.test": 1}
    planned.ownership.rooms_in_all = 2
    outcome = CommandLine(tmp_path, (FakeTarget(planned=planned),)).type(
        "delete", *MEDIA, stdin=Terminal("n\n"), stderr=io.StringIO()
    )
    assert "uploaded by @user0:here.test (1), " in outcome.stderr
    assert "2 more local users, users of other servers (1)" in outcome.stderr
    assert "mentioned in !a:here.test (2), ![b]:here.test (1)? [y/N]" in outcome.stderr
    assert "Mentioned in !a:here.test (2), ![b]:here.test (1)." in outcome.stdout


@pytest.mark.parametrize("words", [("--dry-run",), ("--yes",)])
def test_what_is_left_out_is_told_with_the_command_that_deletes_it(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    planned = plan(kept={"other_uploader": 2, "other_rooms": 1})
    planned.ownership = Ownership()
    planned.ownership.leave_out("other_uploader", "@ann o:here.test", "mxc://here.test/abc")
    planned.ownership.leave_out("other_uploader", "", "mxc://here.test/old")
    planned.ownership.leave_out("other_rooms", "", "mxc://there.test/def")
    outcome = CommandLine(tmp_path, (FakeTarget(planned=planned),)).type("delete", *MEDIA, *words)
    assert (
        "Left out: 2 items of @ann o:here.test (1), unknown uploaders (1), mentioned only by other users"
        in outcome.stdout
    )
    for command in (
        "retentiond delete --media mxc://here.test/abc",
        "retentiond delete --user '@ann o:here.test'",
        "retentiond delete --media mxc://there.test/def",
    ):
        assert f"  {command}\n" in outcome.stdout
    assert "--even-protected" not in outcome.stderr
    if words == ("--yes",):
        assert outcome.status == 3
        assert "`--user` of the uploader, deletes what was left out" in outcome.stderr


def test_the_uploaders_and_rooms_are_in_the_document(tmp_path: Path) -> None:
    planned = plan(goes=1)
    planned.ownership = Ownership(rooms={"!a:here.test": 1}, rooms_in_all=1)
    planned.ownership.removed["@ann:here.test"] = 1
    outcome = CommandLine(tmp_path, (FakeTarget(planned=planned),)).type(
        "delete", *MEDIA, "--dry-run", "--json"
    )
    told = outcome.document["passes"][0]["ownership"]
    assert told["uploaders"] == {"@ann:here.test": {"removed": 1, "left_out": 0}}
    assert told["rooms"] == {"!a:here.test": 1}


def test_what_is_kept_beside_what_goes_is_no_failure(tmp_path: Path) -> None:
    target = FakeTarget(planned=plan(goes=1, kept={"hold": 1}))
    assert CommandLine(tmp_path, (target,)).type("delete", *MEDIA, "--yes").status == 0


def test_a_medium_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (FakeTarget(planned=plan()),)).type("delete", *MEDIA, "--yes")
    assert outcome.status == 1
    assert "no such media item: --media mxc://there.test/abc" in outcome.stderr


def test_a_user_without_media_is_none(tmp_path: Path) -> None:
    target = FakeTarget(planned=plan())
    outcome = CommandLine(tmp_path, (target,)).type("delete", "--user", "@a:here.test", "--yes")
    assert (outcome.status, target.asked) == (0, ["plan"])
    assert "nothing to delete" in outcome.stderr


@pytest.mark.parametrize(
    "words", [("delete", "--json"), ("--quiet", "delete"), ("--quiet", "delete", "--json"), ("delete",)]
)
def test_a_store_that_looks_wrong_refuses_it_and_says_so_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    refused = plan()
    refused.refused = Refusal("another_store", "x", "y", "check the disk")
    refused.state = "refused"
    target = FakeTarget(planned=refused)
    outcome = CommandLine(tmp_path, (target,)).type(*words, *MEDIA, "--yes")
    assert (outcome.status, target.asked) == (3, ["plan"])
    told = outcome.stderr if {"--quiet", "--json"} & set(words) else outcome.stdout
    assert told.count("another_store: x (allowed: y)") == 1


def test_a_delete_that_was_interrupted_says_so(tmp_path: Path) -> None:
    target = FakeTarget(planned=plan(goes=1), report=make_report(state="interrupted"))
    assert CommandLine(tmp_path, (target,)).type("delete", *MEDIA, "--yes").status == 4


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--media mxc://a/b --user @a:b",
        "--media a/b",
        "--user alice",
        "--user @alice",
        "--room #alias:here.test",
        "--room !",
        "--origin *.example.org",
        "--origin mxc://a/b",
        "pictures --media mxc://a/b",
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(tmp_path: Path, words: str) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("delete", *words.split(), "--yes")
    assert (outcome.status, target.asked) == (2, [])
