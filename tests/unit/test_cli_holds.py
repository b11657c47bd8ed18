"""`hold` at the prompt: what is put on and released, what is said of it, and what is refused."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from retentiond.model.holds import Coverage, HeldMembers
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


def test_a_hold_says_what_it_covers(line: CommandLine, target: FakeTarget) -> None:
    outcome = line.type("hold", "add", "--media", "mxc://a/b", "--until", "2026-06-30", "--reason", "case 17")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "hold 1 on media mxc://a/b covers 2 items now, and 1 in quarantine" in outcome.stdout
    [hold] = target.holds_on_record
    assert (hold.until, hold.reason) == (date(2026, 6, 30), "case 17")


def test_the_json_of_a_hold_has_all_that_is_on_record_and_what_it_covers(line: CommandLine) -> None:
    [hold] = line.type("hold", "add", "--origin", "Example.ORG", "--json").document["holds"]
    assert hold == {
        "target": "media",
        "hold_id": 1,
        "kind": "origin",
        "subject": "example.org",
        "state": "in_force",
        "until": None,
        "reason": "",
        "added_at": "2026-01-02T03:04:05Z",
        "added_by": "ann@here",
        "released_at": None,
        "released_by": None,
        "release_reason": None,
        "items": 2,
        "in_quarantine": 1,
        "encrypted": False,
        "under_way": [],
    }


@pytest.mark.parametrize(
    ("coverage", "warning"),
    [
        (Coverage(0, 0), "covers nothing now"),
        (Coverage(2, 0, encrypted=True), "the room is encrypted"),
        (Coverage(2, 0, under_way=("clickhouse",)), "a purge is at work in clickhouse, or was left"),
    ],
)
def test_a_hold_that_may_not_keep_what_was_meant_comes_with_a_warning(
    line: CommandLine, target: FakeTarget, coverage: Coverage, warning: str
) -> None:
    target.coverage = coverage
    outcome = line.type("hold", "add", "--room", "!a:b")
    assert outcome.status == 0
    assert warning in outcome.stderr


def test_a_hold_on_an_encrypted_room_names_what_it_covers_and_the_command_that_covers_more(
    line: CommandLine, target: FakeTarget
) -> None:
    target.coverage = Coverage(2, 0, encrypted=True)
    told = line.type("hold", "add", "--room", "!a:b").stderr
    assert "The hold covers the room's state, avatars of members and unencrypted messages" in told
    assert "no pictures and files that were sent encrypted" in told
    assert "hold add media --room '!a:b' --with-members`" in told
    told = line.type("hold", "add", "--room", "!a:b", "--with-members").stderr
    assert "every upload of its local members and all media of its other members' servers" in told
    assert "uploads of further users of this server, and media of further servers" in told


def test_a_hold_on_a_user_of_another_server_names_the_command_that_covers_their_uploads(
    line: CommandLine, target: FakeTarget
) -> None:
    target.coverage = Coverage(2, 0, remote_user=True)
    outcome = line.type("hold", "add", "--user", "@bob:there.test:8448", "--json")
    assert "nothing that was sent encrypted" in outcome.stderr
    assert "hold add media --origin there.test:8448`" in outcome.stderr
    assert outcome.document["holds"][0]["remote_user"] is True


def test_a_room_whose_encryption_cannot_be_read_is_told_as_encrypted(
    line: CommandLine, target: FakeTarget
) -> None:
    target.coverage = Coverage(2, 0, encrypted=True, encryption_known=False)
    outcome = line.type("hold", "add", "--room", "!a:b", "--json")
    assert "so it is treated as encrypted" in outcome.stderr
    [hold] = outcome.document["holds"]
    assert (hold["encrypted"], hold["encryption_known"]) == (True, False)


def test_the_members_of_a_held_room_are_listed_and_released_with_it(
    line: CommandLine, target: FakeTarget
) -> None:
    target.members = HeldMembers(("@ann:here.test", "@[red]b\u202e:here.test"), ("there.test",))
    outcome = line.type("hold", "add", "--room", "!a:b", "--with-members")
    assert "hold 1 on room !a:b with its members covers 2 items now" in outcome.stdout
    for listed in (outcome.stdout, line.type("hold", "list").stdout):
        assert "\n  uploads of @ann:here.test\n" in listed
        assert "\n  uploads of @[red]b\\u{202E}:here.test\n" in listed
        assert "\n  all media of there.test\n" in listed
    [hold] = line.type("hold", "list", "--json").document["holds"]
    assert hold["with_members"] is True
    assert hold["members"]["servers"] == ["there.test"]
    assert line.type("hold", "release", "--room", "!a:b").status == 0
    assert line.type("hold", "list", "--json").document["holds"] == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("add", "use one of --media"),
        ("add --media mxc://a/b --user @a:b", "has one subject"),
        ("add --media b", "write it as mxc://SERVER/ID"),
        ("add --user @a:b --with-members", "--with-members needs --room"),
        ("add --user ann", "as @NAME:SERVER"),
        ("add --room #lobby:a", "write its ID"),
        ("add --origin *.example.org", "without wildcards"),
        ("add --media mxc://a/b --until 2025-12-31", "is in the past"),
        ("add --media mxc://a/b --until tomorrow", "2027-01-31"),
        ("release", "use the numbers"),
        ("release 1 --media mxc://a/b", "use the numbers"),
    ],
)
def test_what_is_no_hold_is_refused_and_says_how_to_write_it(
    line: CommandLine, target: FakeTarget, words: str, why: str
) -> None:
    outcome = line.type("hold", *words.split())
    assert outcome.status == 2
    assert why in outcome.stderr
    assert not target.holds_on_record


def test_a_list_shows_what_is_in_force_and_with_all_what_was(line: CommandLine) -> None:
    line.type("hold", "add", "--media", "mxc://a/b")
    line.type("hold", "add", "--user", "@ann:a", "--reason", "case\u202e 17")
    assert line.type("hold", "release", "1", "--reason", "closed").status == 0
    listed = line.type("hold", "list").stdout
    assert "mxc://a/b" not in listed
    assert r"hold 2 on user @ann:a; since 2026-01-02" in listed
    assert r"case\u{202E} 17" in listed
    assert "by bob@here: closed" in line.type("hold", "list", "--all").stdout
    assert [hold["state"] for hold in line.type("hold", "list", "--all", "--json").document["holds"]] == [
        "released",
        "in_force",
    ]


def test_holds_are_released_by_subject_too(line: CommandLine, target: FakeTarget) -> None:
    line.type("hold", "add", "--user", "@ann:a")
    outcome = line.type("hold", "release", "--user", "@ann:a", "--json")
    assert [hold["release_reason"] for hold in outcome.document["holds"]] == [""]
    assert [hold.state for hold in target.holds_on_record] == ["released"]


def test_releasing_what_is_not_in_force_is_a_failure(line: CommandLine) -> None:
    line.type("hold", "add", "--user", "@ann:a")
    assert line.type("hold", "release", "1", "2").status == 1
    outcome = line.type("hold", "release", "1")
    assert outcome.status == 1
    assert "no such hold is in force" in outcome.stderr


def test_numbers_mean_nothing_where_several_targets_count_their_own(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, (FakeTarget("one"), FakeTarget("two")))
    line.type("hold", "add", "two", "--user", "@ann:a")
    outcome = line.type("hold", "release", "1")
    assert outcome.status == 2
    assert "name the TARGET, one of: one, two" in outcome.stderr
    assert line.type("hold", "release", "two", "1").status == 0
