"""Policies that ask what mentions a medium: in doubt they do not match, and then nothing goes by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retentiond.model.media import MediaRow
from retentiond.model.policy import Keep, Match, Policy, Remove, Rules, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = int((NOW - timedelta(days=100)).timestamp() * 1000)


def row(content_type: str = "image/png") -> MediaRow:
    return MediaRow("id", "there.test", content_type, 1, OLD, "", "A" * 43, "")


def verdict(match: Match, mentions: set[str] | None, content_type: str = "image/png") -> Keep | Remove:
    rules = Rules((Policy("rule", match, timedelta(days=30)),), frozenset({"here.test"}))
    return decide(row(content_type), rules, NOW, mentions)


UNREFERENCED = Match(unreferenced=True)
GOES = Remove("rule", 0)
STAYS = Keep("no_policy")


def test_what_nothing_mentions_is_unreferenced() -> None:
    assert verdict(UNREFERENCED, set()) == GOES


@pytest.mark.parametrize("source", ["profile_avatars", "room_state", "account_data", "messages"])
def test_one_mention_anywhere_is_enough_to_be_referenced(source: str) -> None:
    assert verdict(UNREFERENCED, {source}) == STAYS


def test_where_nobody_looked_nothing_is_unreferenced_and_nothing_in_a_room() -> None:
    assert verdict(UNREFERENCED, None) == STAYS
    assert verdict(Match(room="upgraded"), None) == STAYS


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "Application/Octet-Stream ; charset=binary", "", " "]
)
def test_what_may_be_an_encrypted_picture_is_never_unreferenced(content_type: str) -> None:
    assert verdict(UNREFERENCED, set(), content_type) == STAYS


@pytest.mark.parametrize("pattern", ["*", "application/*", "application/octet-strea?"])
def test_a_wildcard_does_not_name_the_type_of_encrypted_pictures(pattern: str) -> None:
    match = Match(unreferenced=True, content_type=pattern)
    assert verdict(match, set(), "application/octet-stream") == STAYS


def test_the_type_of_encrypted_pictures_goes_where_the_match_names_it() -> None:
    match = Match(unreferenced=True, content_type="application/octet-stream")
    assert verdict(match, set(), "application/octet-stream") == GOES
    assert verdict(match, {"messages"}, "application/octet-stream") == STAYS


def test_only_the_rooms_that_the_policy_names_count() -> None:
    match = Match(room="!a:b.test")
    assert verdict(match, {"room:!a:b.test", "messages"}) == GOES
    assert verdict(match, {"room:upgraded", "messages"}) == STAYS
    assert verdict(match, set()) == STAYS


def test_the_rules_name_the_sources_that_must_be_asked() -> None:
    policies = (
        Policy("rooms", Match(room="upgraded"), None),
        Policy("nowhere", Match(unreferenced=True), None),
        Policy("remote", Match(origin="remote"), None),
    )
    assert Rules(policies[2:]).sources == frozenset()
    assert Rules(policies).sources == {
        "room:upgraded",
        "sent_by",
        "profile_avatars",
        "room_state",
        "account_data",
        "messages",
    }
