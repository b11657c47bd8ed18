"""A match that says nothing cannot be built, and each condition that the configuration accepts is decided."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

import retentiond
from retentiond.config.policies import MatchConfig
from retentiond.model.match import CONDITIONS, Match, mismatches
from retentiond.model.media import MediaRow

PACKAGE = Path(retentiond.__file__).parent
NAMES = frozenset({"here.test"})
ROW = MediaRow("id", "there.test", "image/png", 100, 0, "cat.png", "A" * 43, "")
LATE = int(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1000)

CASES: dict[str, tuple[object, dict[str, Any], dict[str, Any]]] = {
    "origin": ("local", {"media_origin": "here.test"}, {}),
    "user": ("@ann:*", {"user_id": "@ann:here.test"}, {"user_id": "@bob:here.test"}),
    "content_type": ("video/*", {"content_type": "video/mp4"}, {}),
    "larger_than": ("1KiB", {"file_size_bytes": 1025}, {"file_size_bytes": 1024}),
    "uploaded_before": (date(2025, 1, 1), {"creation_ts": 1}, {"creation_ts": LATE}),
    "upload_name": ("*.mp4", {"upload_name": "cat.mp4"}, {}),
    "room": ("upgraded", {"mentions": {"room:upgraded"}}, {"mentions": {"messages"}}),
    "unreferenced": (True, {"mentions": set()}, {"mentions": {"messages"}}),
}
"""For each condition a value, and what of a row makes it hold, and fail."""


def failing(match: Match, changes: dict[str, Any]) -> list[str]:
    about = {name: value for name, value in changes.items() if name != "mentions"}
    return list(mismatches(replace(ROW, **about), match, NAMES, changes.get("mentions")))


@pytest.mark.parametrize("name", MatchConfig.model_fields)
def test_each_condition_of_the_schema_reaches_the_decision(name: str) -> None:
    """A new condition once matched every row, because nothing copied it into the decision."""
    value, holding, broken = CASES[name]
    match = MatchConfig.model_validate({name: value}).to_match(frozenset())
    assert failing(match, holding) == []
    assert failing(match, broken) == [name]


def test_the_schema_the_match_and_the_decision_know_the_same_conditions() -> None:
    conditions = {field.name for field in fields(Match)} - {"accepts"}
    assert conditions == set(MatchConfig.model_fields) == set(CONDITIONS)


@pytest.mark.parametrize("accepts", [frozenset[str](), frozenset({"encrypted"})])
def test_a_match_without_a_condition_cannot_be_built(accepts: frozenset[str]) -> None:
    with pytest.raises(ValueError, match="would match every row"):
        Match(accepts=accepts)


def test_every_statement_compares_letters_without_the_locale_of_the_database() -> None:
    """In Turkish the lower case of I is no i: a local user, or a held server, would be a stranger there."""
    found = []
    for path in PACKAGE.rglob("*.sql"):
        text = path.read_text()
        for call in re.finditer(r"\b(?:lower|upper|initcap)\(", text):
            depth, end = 1, call.end()
            while depth:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
            found.append(text[call.start() : end])
    assert len(found) > 10
    assert [call for call in found if not call.endswith(' COLLATE "C")')] == []
