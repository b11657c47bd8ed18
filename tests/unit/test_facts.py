"""Facts: what of a decision is asked again, and that nothing of it is left out."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from retentiond.model.facts import (
    Facts,
    facts_of_policy,
    facts_of_quota,
    facts_of_request,
    read_facts,
)
from retentiond.model.match import OF_THE_ROW, Match
from retentiond.model.media import MediaRow
from retentiond.model.mentions import ENCRYPTION, EVENTS, MESSAGES, Mentioned, only_source, room_source
from retentiond.model.policy import Policy, Rules
from retentiond.model.protections import ENCRYPTED, ENCRYPTED_REMOTE
from retentiond.model.quota import Quota
from retentiond.model.request import Request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = int((NOW - timedelta(days=100)).timestamp() * 1000)
ROW = MediaRow("id", "there.test", "image/png", 10, OLD, "cat.png", "A" * 43, "")
OURS = frozenset({"here.test"})
MONTH = timedelta(days=30)
ROOM = "!room:there.test"

EACH_CONDITION: dict[str, Any] = {
    "origin": "remote",
    "user": "@a:here.test",
    "content_type": "image/*",
    "larger_than": 5,
    "uploaded_before": date(2025, 12, 1),
    "upload_name": "*.png",
    "room": ROOM,
    "unreferenced": True,
}


def rules(*policies: Policy) -> Rules:
    return Rules(policies, OURS)


def holds(facts: Facts | None, *mentions: str) -> bool:
    assert facts is not None
    return read_facts(facts.as_json()).hold(ROW, OURS, NOW, Mentioned(mentions))


def test_every_condition_of_a_match_is_one_of_the_row_or_asked_again() -> None:
    """A new condition that is neither would be forgotten at the release, and everything purged in spite of it."""
    names = {field.name for field in fields(Match)} - {"accepts"}
    assert names == EACH_CONDITION.keys()
    for name in names - OF_THE_ROW:
        rule = Policy("rule", Match(**{name: EACH_CONDITION[name]}), MONTH)
        facts = facts_of_policy(ROW, rules(rule), 0)
        assert facts is not None
        assert facts.policies[0].match.conditions == ("content_type", name)
        assert facts.sources


@pytest.mark.parametrize("name", sorted(OF_THE_ROW))
def test_conditions_of_the_row_alone_are_not_asked_again(name: str) -> None:
    rule = Policy("rule", Match(**{name: EACH_CONDITION[name]}), MONTH)
    assert facts_of_policy(ROW, rules(rule), 0) is None


@pytest.mark.parametrize("accepts", [frozenset(), frozenset({ENCRYPTED})])
def test_facts_are_read_as_they_were_stored(accepts: frozenset[str]) -> None:
    before = Policy("pinned", Match(room="upgraded"), None)
    rule = Policy("rule", Match(unreferenced=True, content_type="image/*", accepts=accepts), MONTH)
    for facts in (
        facts_of_policy(ROW, rules(before, rule), 1),
        facts_of_quota(ROW, rules(before), Quota("quota", rule.match)),
        facts_of_request(Request("room", ROOM), frozenset({ENCRYPTED})),
    ):
        assert facts is not None
        assert read_facts(facts.as_json()) == facts


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"policies": []},
        {"policies": [{"name": "rule", "keep_seconds": 1.0, "match": {"content_type": "*"}}]},
        {
            "policies": [
                {"name": "rule", "keep_seconds": 1.0, "match": {"colour": "red", "unreferenced": True}}
            ]
        },
        {"policies": [{"name": "rule", "match": {"unreferenced": True}}]},
        {"policies": ["rule"]},
        {"only_in": ROOM, "since": 1},
        {"hidden": ["ENCRYPTED"]},
        {"policies": [{"name": "rule", "keep_seconds": 1.0, "match": {"room": 5}}]},
    ],
)
def test_facts_with_anything_unknown_are_not_read(stored: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="facts"):
        read_facts(stored)


def test_an_earlier_policy_that_matches_by_now_decides_by_its_own_time() -> None:
    later = Policy("remote", Match(origin="remote"), MONTH)
    for keep, held in ((None, False), (timedelta(days=365), False), (timedelta(days=7), True)):
        earlier = Policy("art", Match(room=ROOM), keep)
        facts = facts_of_policy(ROW, rules(earlier, later), 1)
        assert holds(facts)
        assert holds(facts, room_source(ROOM), MESSAGES) is held


def test_an_earlier_policy_by_access_that_matches_by_now_keeps() -> None:
    """When the file was last read is not known any more."""
    earlier = Policy("art", Match(room=ROOM), timedelta(days=7), since="accessed")
    facts = facts_of_policy(ROW, rules(earlier, Policy("remote", Match(origin="remote"), MONTH)), 1)
    assert holds(facts)
    assert not holds(facts, room_source(ROOM), MESSAGES)


def test_an_earlier_policy_that_never_matches_the_row_is_not_asked() -> None:
    earlier = Policy("local", Match(origin="local", unreferenced=True), None)
    later = Policy("remote", Match(origin="remote"), MONTH)
    assert facts_of_policy(ROW, rules(earlier, later), 1) is None


def test_a_quota_takes_no_more_what_a_policy_keeps_for_ever_by_now() -> None:
    quota = Quota("quota", Match(origin="remote"))
    art = Policy("art", Match(room=ROOM), None)
    rest = Policy("remote", Match(origin="remote"), timedelta(days=365))
    facts = facts_of_quota(ROW, rules(art, rest), quota)
    assert holds(facts)
    assert not holds(facts, room_source(ROOM), MESSAGES)
    # A policy that keeps for a time never kept anything from a quota.
    assert facts_of_quota(ROW, rules(rest, art), quota) is None
    finite = facts_of_quota(ROW, rules(Policy("year", Match(room=ROOM), timedelta(days=365)), art), quota)
    assert holds(finite, room_source(ROOM), MESSAGES)


def test_a_quota_whose_policy_of_references_gave_way_to_one_that_keeps_for_ever_takes_no_more() -> None:
    unseen = Policy("unseen", Match(unreferenced=True), timedelta(days=365))
    rest = Policy("remote", Match(origin="remote"), None)
    facts = facts_of_quota(ROW, rules(unseen, rest), Quota("quota", Match(origin="remote")))
    assert holds(facts)
    assert not holds(facts, MESSAGES)


def test_the_time_of_a_room_that_was_left_anew_begins_anew() -> None:
    facts = facts_of_policy(ROW, rules(Policy("left", Match(room="no_local_members"), MONTH)), 0)
    assert facts is not None
    for days, held in ((31, True), (29, False)):
        since = int((NOW - timedelta(days=days)).timestamp() * 1000)
        mentions = Mentioned([room_source("no_local_members"), MESSAGES], [since])
        assert facts.hold(ROW, OURS, NOW, mentions) is held


def test_a_request_for_a_room_holds_while_no_other_room_refers_to_it() -> None:
    facts = facts_of_request(Request("room", ROOM), frozenset({ENCRYPTED}))
    assert holds(facts)
    assert holds(facts, EVENTS, only_source(ROOM))
    assert not holds(facts, EVENTS)
    assert not holds(facts, EVENTS, only_source("!other:there.test"))
    assert not holds(facts, EVENTS, only_source(ROOM), ENCRYPTED)


def test_requests_that_name_an_item_ask_nothing_again() -> None:
    assert facts_of_request(Request("media", "mxc://there.test/id"), frozenset({ENCRYPTED})) is None
    assert facts_of_request(Request("user", "@a:here.test"), frozenset()) is None


UPLOADS_ONLY = "no encrypted room can show it (asked of uploads to this server only)"


@pytest.mark.parametrize(
    ("accepts", "words"),
    [
        (frozenset(), "nothing refers to it and no encrypted room can show it"),
        ({ENCRYPTED_REMOTE}, f"nothing refers to it and {UPLOADS_ONLY}"),
        (ENCRYPTION, "nothing refers to it; encrypted rooms are not asked"),
    ],
)
def test_facts_in_words_say_of_which_media_encrypted_rooms_are_asked(
    accepts: frozenset[str], words: str
) -> None:
    match = Match(unreferenced=True, accepts=frozenset(accepts))
    for facts in (
        facts_of_policy(ROW, rules(Policy("rule", match, MONTH)), 0),
        facts_of_quota(ROW, rules(), Quota("quota", match, max_size=1)),
    ):
        assert facts is not None
        assert facts.in_words() == words


def test_facts_of_a_request_say_of_which_media_encrypted_rooms_are_asked() -> None:
    request = Request("user", "@a:here.test")
    for hidden, words in (
        (ENCRYPTION, "no encrypted room can show it"),
        (frozenset({ENCRYPTED}), UPLOADS_ONLY),
    ):
        facts = facts_of_request(request, hidden)
        assert facts is not None
        assert facts.in_words() == words


def test_facts_that_ask_encrypted_rooms_for_an_earlier_policy_only_do_not_speak_of_them() -> None:
    earlier = Policy("earlier", Match(unreferenced=True), None)
    facts = facts_of_policy(ROW, rules(earlier, Policy("rule", Match(origin="remote"), MONTH)), 1)
    assert facts is not None
    assert facts.in_words() == "no other policy keeps it (earlier)"
