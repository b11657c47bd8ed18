"""What `usage` asks of its targets, and how it shows their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retentiond.model.errors import UnreachableError
from retentiond.model.report import Tally
from retentiond.model.usage import OTHERS, UsageRow, cut, key_of, with_rest
from tests.support.command_line import CommandLine, Terminal
from tests.support.fake_target import FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

ROWS = (UsageRow("there.test", 3, 3 << 20), UsageRow("far.test", 1, 1 << 20))


def test_usage_is_by_server_without_an_option_and_names_the_twenty_largest(tmp_path: Path) -> None:
    target = FakeTarget(used=ROWS)
    outcome = CommandLine(tmp_path, (target,)).type("usage", "--json")
    assert outcome.status == 0
    assert target.asked == ["usage server 20"]
    assert outcome.document == {
        "usage": [
            {
                "target": "media",
                "by": "server",
                "rows": [
                    {"key": "there.test", "items": 3, "bytes": 3 << 20},
                    {"key": "far.test", "items": 1, "bytes": 1 << 20},
                ],
            }
        ]
    }


def test_the_table_has_sizes_shares_and_the_total(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (FakeTarget(used=ROWS),)).type("usage", "--by", "room", "--top", "7")
    lines = [line.split() for line in outcome.stdout.splitlines() if line.strip()]
    assert ["there.test", "3", "3.0", "MiB", "75%"] in lines
    assert ["total", "4", "4.0", "MiB"] in lines


def test_a_hostile_name_commands_no_terminal_and_keeps_its_line(tmp_path: Path) -> None:
    key = "\x1b]0;gotcha\x07[red]\u202e\nroom" + "x" * 400
    outcome = CommandLine(tmp_path, (FakeTarget(used=(UsageRow(key, 1, 1),)),)).type(
        "usage", stdout=(screen := Terminal())
    )
    assert outcome.status == 0
    shown = screen.getvalue()
    assert "\x1b]0" not in shown
    assert "\u202e" not in shown
    assert "[red]" in shown.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "origin"), "--by `origin` is not known; write one of server, room, user"),
        (("--by", "month"), "media: no division by month; leave --by out"),
        (("media", "--by", "month"), "--by is one of server, room, user, type, age, file here"),
        (("--top", "0"), "--top"),
        (("--top", "1001"), "--top"),
        (("--top", "many"), "--top"),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    target = FakeTarget()
    outcome = CommandLine(tmp_path, (target,)).type("usage", *words)
    assert outcome.status == 2
    assert said in outcome.stderr
    assert target.asked == []
    assert outcome.stdout == ""


def test_targets_of_another_kind_are_left_out_where_one_can_be_divided_so(tmp_path: Path) -> None:
    chats = FakeTarget("chats", divisions=("account", "month"))
    media = FakeTarget("media", used=ROWS)
    line = CommandLine(tmp_path, (chats, media))
    outcome = line.type("usage", "--by", "user", "--json")
    assert (outcome.status, [one["target"] for one in outcome.document["usage"]]) == (0, ["media"])
    outcome = line.type("usage", "--json")
    assert [(one["target"], one["by"]) for one in outcome.document["usage"]] == [
        ("chats", "account"),
        ("media", "server"),
    ]


def test_a_target_that_cannot_be_read_is_an_error_and_the_others_are_shown(tmp_path: Path) -> None:
    line = CommandLine(
        tmp_path,
        (FakeTarget(unreachable=UnreachableError("it is down; start it")), FakeTarget("b", used=ROWS)),
    )
    outcome = line.type("usage", "--json")
    assert outcome.status == 4
    assert [one["target"] for one in outcome.document["usage"]] == ["b"]


def test_the_rest_is_one_row_and_without_a_rest_there_is_none() -> None:
    assert with_rest(ROWS, Tally(4, 4 << 20)) == list(ROWS)
    assert with_rest(ROWS[:1], Tally(4, 4 << 20)) == [ROWS[0], UsageRow(OTHERS, 1, 1 << 20)]
    # Sums that a stranger's numbers made too large for a column.
    assert with_rest(ROWS, Tally(5, 0)) == [*ROWS, UsageRow(OTHERS, 1, 0)]


def test_a_cut_names_the_largest_in_the_order_that_they_had() -> None:
    rows = [
        UsageRow("up to a week", 1, 1),
        UsageRow("up to a month", 2, 5),
        UsageRow("older than that", 1, 9),
    ]
    assert cut([*rows, UsageRow(OTHERS, 1, 1)], 2) == [*rows[1:], UsageRow(OTHERS, 2, 2)]


def test_a_cut_of_a_thousand_keys_compares_no_key_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon answers with a cut at each request: 68 ms of its loop, when it did."""
    compared = []

    def compare(row: UsageRow, other: object) -> bool:
        compared.append(other)
        return row is other

    monkeypatch.setattr(UsageRow, "__eq__", compare)
    rows = [UsageRow(f"s{number}.test", 1, number) for number in range(1000)]
    assert cut(rows, 1000) == rows
    # Each row of the answer with that which the assertion expects there.
    assert len(compared) <= len(rows)


@pytest.mark.parametrize("text", ["", "there.test", "(others)", "\\(others)", "\\\\", "("])
def test_a_key_of_a_stranger_is_none_of_ours_and_tells_its_text(text: str) -> None:
    key = key_of(text)
    assert not key.startswith("(")
    assert key.removeprefix("\\") == text if key != text else not text.startswith(("(", "\\"))
