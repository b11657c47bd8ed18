"""`plan --explain`: a story in words and in JSON."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.model.explanation import Explanation, PolicyExplanation
from retentiond.model.media import MediaRow
from retentiond.model.report import Item
from tests.support.command_line import CommandLine
from tests.support.fake_target import STARTED, FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

URI = "mxc://there.test/abc"


def story() -> Explanation:
    row = MediaRow("abc", "there.test", "image/png", 10, 0, "[red]a\x1b[2J", "h", "")
    return Explanation(
        "media", URI, STARTED, row, STARTED - timedelta(days=40, hours=5),
        policies=[
            PolicyExplanation("video", timedelta(days=7), "created", ("content_type", "larger_than"), False, None),
            PolicyExplanation("remote", timedelta(days=30), "accessed", (), True, True),
            PolicyExplanation("all", None, "created", (), False, None),
        ],
        protections={"profile_avatars": False, "room_state": True},
        holds=["hold 3, on the user @[bold]x:y"],
        bearers=2,
        verdict=Item("media", URI, "keep", "room_state", "remote", 0),
    )  # fmt: skip


def test_the_story_is_told_in_words_and_nothing_in_it_is_markup(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (FakeTarget(story=story()),)).type("plan", "--explain", URI)
    assert outcome.status == 0
    for words in (
        "named `[red]a\\u{1B}[2J`",
        "40 days ago",
        "does not match: content_type, larger_than",
        "decides: due",
        "an earlier policy decides",
        "Protection room_state: refers to it: kept.",
        "Kept by hold 3, on the user @[bold]x:y.",
        "2 rows share this file",
        "Outcome: kept: room_state",
    ):
        assert words in outcome.stdout


def test_the_story_claims_nothing_of_messages_in_encrypted_rooms(tmp_path: Path) -> None:
    hidden = story()
    hidden.encrypted = True
    hidden.policies = [
        PolicyExplanation("nowhere", timedelta(days=7), "created", ("encrypted",), False, None),
        PolicyExplanation("left", timedelta(days=7), "created", ("room", "encrypted"), False, None),
    ]
    hidden.protections = {"profile_avatars": False, "messages_in": False, "encrypted": True}
    told = CommandLine(tmp_path, (FakeTarget(story=hidden),)).type("plan", "--explain", URI).stdout
    for words in (
        "may match; kept, since an encrypted room may show it",
        "does not match: room, encrypted",
        "Protection profile_avatars: does not refer to it.",
        "Protection messages_in: no visible reference.",
        "Protection encrypted: may show it: kept.",
        "An encrypted room may show it",
    ):
        assert words in told


def test_the_story_is_one_document_in_json(tmp_path: Path) -> None:
    targets = FakeTarget(story=story()), FakeTarget("other")
    document = CommandLine(tmp_path, targets).type("plan", f"--explain={URI}", "--json").document
    first, second = document["stories"]
    assert [policy["matches"] for policy in first["policies"]] == [False, True, True]
    assert first["verdict"]["reason"] == "room_state"
    assert (second["target"], second["row"], second["verdict"]) == ("other", None, None)


@pytest.mark.parametrize("media", ["", "abc", "mxc://there.test", "https://there.test/abc"])
def test_what_is_no_medium_is_a_wrong_usage(tmp_path: Path, media: str) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("plan", f"--explain={media}")
    assert (outcome.status, target.asked) == (2, [])
    assert "write it as mxc://SERVER/ID" in outcome.stderr
