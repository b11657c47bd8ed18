"""The chain of records: what breaks it, and how the break is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.records import Chain, Link, canonical, digest, read_content, version_of
from tests.support.command_line import CommandLine
from tests.support.fake_target import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Sealed = tuple[dict[str, Any], str]


def chain(length: int = 4, *, store: str = "one", first: int = 1) -> list[Sealed]:
    sealed: list[Sealed] = []
    previous = Link().hash
    for number in range(first, first + length):
        content = {
            "number": number,
            "previous": previous,
            "store": store,
            "target": "media",
            "body": {"n": number},
        }
        previous = digest(canonical(content))
        sealed.append((content, previous))
    return sealed


def follow(records: list[Sealed], after: Link | None = None) -> str:
    followed = Chain(after)
    for content, sealed in records:
        if broken := followed.follow(content, sealed):
            return str(broken)
    return f"{followed.fitting} fit"


def lines(records: list[Sealed]) -> str:
    return "".join(json.dumps(content | {"hash": sealed}) + "\n" for content, sealed in records)


def test_a_chain_that_nobody_touched_holds() -> None:
    assert follow(chain(), Link()) == "4 fit"


def test_a_chain_whose_beginning_was_pruned_holds_from_there() -> None:
    records = chain()
    assert follow(records[2:]) == "2 fit"
    assert follow(records[2:], Link(2, records[1][1])) == "2 fit"


def change(records: list[Sealed]) -> None:
    records[1][0]["body"]["n"] = 7


def change_and_seal(records: list[Sealed]) -> None:
    change(records)
    records[1] = (records[1][0], digest(canonical(records[1][0])))


def drop(records: list[Sealed]) -> None:
    del records[1]


def swap(records: list[Sealed]) -> None:
    records[1], records[2] = records[2], records[1]


def repeat(records: list[Sealed]) -> None:
    records.insert(1, records[0])


def spoil(records: list[Sealed]) -> None:
    records[1] = (dict(read_content(b"no json")), "")


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (change, "record 2: its content is not what its hash was taken of"),
        (change_and_seal, "record 3: it does not follow from the record before"),
        (drop, "record 2: it is missing; record 3 stands in its place"),
        (swap, "record 2: it is missing; record 3 stands in its place"),
        (repeat, "record 2: it is missing; record 1 stands in its place"),
        (spoil, "record 2: it bears no number"),
    ],
)
def test_the_first_record_that_does_not_fit_is_named(
    tamper: Callable[[list[Sealed]], None], named: str
) -> None:
    records = chain()
    tamper(records)
    assert follow(records, Link()) == named


def test_rules_have_another_version_once_anything_in_them_changes() -> None:
    rules = {"policies": [{"name": "remote", "keep": "30d"}]}
    assert version_of(rules) == version_of({"policies": [{"keep": "30d", "name": "remote"}]})
    assert version_of(rules) != version_of({"policies": [{"name": "remote", "keep": "31d"}]})


def test_export_prints_each_record_as_a_line_of_canonical_json(tmp_path: Path) -> None:
    target = FakeTarget(recorded=({"number": 1, "body": {"b": "ä", "a": 1}}, {"number": 2}))
    outcome = CommandLine(tmp_path, (target,)).type("records", "export")
    assert outcome.stdout == '{"body":{"a":1,"b":"\\u00e4"},"number":1}\n{"number":2}\n'


def test_verify_tells_a_broken_chain_and_exits_1(tmp_path: Path) -> None:
    followed = Chain(Link())
    records = chain()
    change(records)
    target = FakeTarget(verified=followed.result(followed.follow(*records[1])))
    outcome = CommandLine(tmp_path, (target,)).type("records", "verify", "--json")
    assert outcome.status == 1
    assert outcome.document["verified"][0]["broken"]["record"] == 1
    assert "record 1: it is missing" in outcome.stderr


def test_a_file_that_was_exported_is_verified_without_a_database(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(lines(chain()))
    outcome = CommandLine(tmp_path).type("records", "verify", "--file", str(tmp_path / "records.jsonl"))
    assert outcome.status == 0
    assert "media: 4 records in an unbroken chain, 1 to 4; the newest has the hash" in outcome.stdout


def test_a_changed_line_of_a_file_is_found(tmp_path: Path) -> None:
    records = chain()
    change(records)
    (tmp_path / "records.jsonl").write_text(lines(records))
    outcome = CommandLine(tmp_path).type("records", "verify", "--file", str(tmp_path / "records.jsonl"))
    assert outcome.status == 1
    assert "record 2: its content is not what its hash was taken of" in outcome.stderr


def test_a_file_without_records_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    outcome = CommandLine(tmp_path).type("records", "verify", "--file", str(tmp_path / "empty.jsonl"))
    assert outcome.status == 0
    assert "empty.jsonl: 0 records" in outcome.stderr


def test_a_line_that_is_no_record_is_told_with_the_file_s_name(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text("not a record\n")
    outcome = CommandLine(tmp_path).type("records", "verify", "--file", str(tmp_path / "other.jsonl"))
    assert outcome.status == 1
    assert "other.jsonl: record 1: it bears no number" in outcome.stderr


def test_two_stores_in_one_file_are_two_chains(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(lines(chain(2)) + lines(chain(3, store="other")))
    outcome = CommandLine(tmp_path).type(
        "records", "verify", "--json", "--file", str(tmp_path / "records.jsonl")
    )
    assert [told["records"] for told in outcome.document["verified"]] == [2, 3]


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("records", "verify", "--file", str(tmp_path / "none.jsonl"))
    assert outcome.status == 4
    assert "none.jsonl cannot be read: No such file or directory" in outcome.stderr
