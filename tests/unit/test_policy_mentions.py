"""Policies that ask what mentions a medium: in doubt they do not match, and then nothing goes by them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from retentiond.model.explanation import policy_stories
from retentiond.model.match import Match
from retentiond.model.media import MediaRow
from retentiond.model.mentions import ENCRYPTION, Mentioned
from retentiond.model.policy import Keep, Policy, Remove, Rules, decide
from retentiond.model.protections import PROTECT
from retentiond.model.quota import Quota, decide_eviction

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = int((NOW - timedelta(days=100)).timestamp() * 1000)


def row(content_type: str = "image/png") -> MediaRow:
    return MediaRow("id", "there.test", content_type, 1, OLD, "", "A" * 43, "")


def verdict(match: Match, mentions: set[str] | None, content_type: str = "image/png") -> Keep | Remove:
    rules = Rules((Policy("rule", match, timedelta(days=30)),), frozenset({"here.test"}))
    return decide(row(content_type), rules, NOW, seen(mentions))


def seen(mentions: set[str] | None, since: int | None = OLD) -> Mentioned | None:
    """These mentions, of rooms that became what they are at that time."""
    if mentions is None:
        return None
    return Mentioned(mentions, [since if name.startswith("room:") else None for name in mentions])


UNREFERENCED = Match(unreferenced=True)
GOES = Remove("rule", 0)
STAYS = Keep("no_policy")
ROOM = Match(room="upgraded")
HIDDEN = Keep("encrypted", "rule")


def test_what_nothing_mentions_is_unreferenced() -> None:
    assert verdict(UNREFERENCED, set()) == GOES


@pytest.mark.parametrize("source", [*PROTECT, "messages"])
def test_one_mention_anywhere_is_enough_to_be_referenced(source: str) -> None:
    assert verdict(UNREFERENCED, {source}) == STAYS


def test_where_nobody_looked_nothing_is_unreferenced_and_nothing_in_a_room() -> None:
    assert verdict(UNREFERENCED, None) == STAYS
    assert verdict(Match(room="upgraded"), None) == STAYS


@pytest.mark.parametrize("source", ["encrypted", "encrypted_remote"])
@pytest.mark.parametrize("match", [UNREFERENCED, Match(unreferenced=True, content_type="image/png"), ROOM])
def test_media_that_an_encrypted_room_may_show_are_kept_as_encrypted(match: Match, source: str) -> None:
    assert verdict(match, {source, "room:upgraded"} if match is ROOM else {source}) == HIDDEN


def test_a_reference_that_can_be_seen_is_the_reason_before_encryption() -> None:
    assert verdict(UNREFERENCED, {"encrypted", "messages"}) == STAYS
    assert verdict(ROOM, {"encrypted"}) == STAYS


def test_conditions_that_ask_for_no_reference_ignore_encrypted_rooms() -> None:
    assert verdict(Match(origin="remote"), {"encrypted", "encrypted_remote"}) == GOES


@pytest.mark.parametrize(
    ("accepts", "source", "expected"),
    [
        ({"encrypted", "encrypted_remote"}, "encrypted", GOES),
        ({"encrypted", "encrypted_remote"}, "encrypted_remote", GOES),
        ({"encrypted_remote"}, "encrypted_remote", GOES),
        ({"encrypted_remote"}, "encrypted", HIDDEN),
    ],
)
def test_an_accepted_risk_lets_go_what_it_names(
    accepts: set[str], source: str, expected: Keep | Remove
) -> None:
    match = Match(unreferenced=True, accepts=frozenset(accepts))
    assert verdict(match, {source}) == expected
    assert verdict(match, {source, "messages"}) == STAYS


def decided(mentions: set[str], *policies: Policy) -> Keep | Remove:
    return decide(row(), Rules(policies), NOW, seen(mentions))


NOWHERE = Policy("nowhere", UNREFERENCED, timedelta(days=30))
REMOTE = Policy("remote", Match(origin="remote"), timedelta(days=90))


def test_a_later_policy_decides_on_media_that_an_encrypted_room_may_show() -> None:
    assert decided({"encrypted"}, NOWHERE, REMOTE) == Remove("remote", 1)
    assert decided({"encrypted"}, NOWHERE, replace(REMOTE, keep=None)) == Keep("not_due", "remote")


@pytest.mark.parametrize("keep", [None, timedelta(days=101)])
def test_a_policy_that_may_match_an_item_of_an_encrypted_room_still_keeps_it(keep: timedelta | None) -> None:
    """Otherwise `keep: forever` for a room would give way to a later policy because of encryption."""
    assert decided({"encrypted", "room:upgraded"}, Policy("room", ROOM, keep), REMOTE) == Keep(
        "not_due", "room"
    )


@pytest.mark.parametrize("earlier", [NOWHERE, replace(NOWHERE, keep=timedelta(days=365))])
def test_a_quota_does_not_take_in_doubt_what_a_policy_keeps_for_ever(earlier: Policy) -> None:
    """Where the first policy does not match, the second keeps the item; the quota went by the time of the first."""
    rules = Rules((earlier, replace(REMOTE, keep=None)), frozenset({"here.test"}))
    quota = Quota("quota", Match(origin="remote"))
    assert decide_eviction(row(), quota, rules, NOW, seen({"encrypted_remote"})) is None
    # Where it matches for certain, it decides.
    assert decide_eviction(row(), quota, rules, NOW, seen(set())) is not None


def test_a_later_policy_does_not_take_in_doubt_what_a_policy_by_access_may_keep() -> None:
    """The item was read yesterday: if nothing mentions it, the first policy keeps it."""
    by_access = replace(NOWHERE, since="accessed")
    assert decided({"encrypted"}, by_access, REMOTE) == Keep("encrypted", "nowhere")
    assert decided({"messages"}, by_access, REMOTE) == Remove("remote", 1)
    # A later policy that keeps for ever must keep it from quotas, too.
    assert decided({"encrypted"}, by_access, replace(REMOTE, keep=None)) == Keep("not_due", "remote")
    first, second = policy_stories(row(), Rules((by_access, REMOTE)), NOW, seen({"encrypted"}))
    assert (first.mismatches, first.decides, second.decides) == (("encrypted",), False, False)
    first, second = policy_stories(
        row(), Rules((by_access, replace(REMOTE, keep=None))), NOW, seen({"encrypted"})
    )
    assert (first.decides, second.decides, second.due) == (False, True, False)


def test_the_story_of_a_policy_that_keeps_in_doubt_is_that_it_decides() -> None:
    rules = Rules((replace(NOWHERE, keep=None), REMOTE))
    first, second = policy_stories(row(), rules, NOW, seen({"encrypted"}))
    assert (first.mismatches, first.decides, first.due, second.decides) == ((), True, False, False)
    first, second = policy_stories(row(), Rules((NOWHERE, REMOTE)), NOW, seen({"encrypted"}))
    assert (first.mismatches, first.decides, second.decides, second.due) == (
        ("encrypted",),
        False,
        True,
        True,
    )


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "Application/Octet-Stream ; charset=binary", "", " "]
)
def test_a_file_of_the_type_of_encrypted_files_is_never_unreferenced(content_type: str) -> None:
    assert verdict(UNREFERENCED, set(), content_type) == HIDDEN


@pytest.mark.parametrize("pattern", ["*", "application/*", "application/octet-strea?"])
def test_a_wildcard_does_not_name_the_type_of_encrypted_files(pattern: str) -> None:
    match = Match(unreferenced=True, content_type=pattern)
    assert verdict(match, set(), "application/octet-stream") == HIDDEN


@pytest.mark.parametrize("content_type", ["application/octet-stream", ""])
@pytest.mark.parametrize("mentions", [set[str](), {"encrypted"}, {"encrypted_remote"}])
def test_an_accepted_risk_does_not_take_files_of_the_type_of_encrypted_files_unless_it_is_named(
    content_type: str, mentions: set[str]
) -> None:
    accepted = Match(unreferenced=True, accepts=ENCRYPTION)
    assert verdict(accepted, mentions, content_type) == HIDDEN
    named = replace(accepted, content_type="application/octet-stream")
    assert verdict(named, mentions, "application/octet-stream") == GOES


def test_naming_the_type_of_encrypted_files_accepts_no_risk() -> None:
    match = Match(unreferenced=True, content_type="application/octet-stream")
    assert verdict(match, set(), "application/octet-stream") == GOES
    assert verdict(match, {"messages"}, "application/octet-stream") == STAYS
    assert verdict(match, {"encrypted"}, "application/octet-stream") == HIDDEN


def test_only_the_rooms_that_the_policy_names_count() -> None:
    match = Match(room="!a:b.test")
    assert verdict(match, {"room:!a:b.test", "messages"}) == GOES
    assert verdict(match, {"room:upgraded", "messages"}) == STAYS
    assert verdict(match, set()) == STAYS


@pytest.mark.parametrize("room", ["no_local_members", "upgraded"])
@pytest.mark.parametrize(
    ("since_days", "expected"),
    [(None, Keep("not_due", "rule")), (29, Keep("not_due", "rule")), (31, GOES), (5000, GOES)],
)
def test_the_time_of_a_kind_of_rooms_begins_when_the_last_room_became_of_that_kind(
    room: str, since_days: int | None, expected: Keep | Remove
) -> None:
    """Otherwise leaving a room by mistake costs everything older that night."""
    since = None if since_days is None else int((NOW - timedelta(days=since_days)).timestamp() * 1000)
    rules = Rules((Policy("rule", Match(room=room), timedelta(days=30)),))
    assert decide(row(), rules, NOW, seen({f"room:{room}"}, since)) == expected
    # Mentions without times are not known to be old.
    assert decide(row(), rules, NOW, {f"room:{room}"}) == Keep("not_due", "rule")


def test_a_due_item_knows_when_its_time_began() -> None:
    since = OLD + 5
    rules = Rules(
        (Policy("rule", ROOM, timedelta(days=30)), Policy("remote", Match(origin="remote"), timedelta(0)))
    )
    for mentions, expected in ((seen({"room:upgraded"}, since), since), (seen(set()), OLD)):
        verdict = decide(row(), rules, NOW, mentions)
        assert isinstance(verdict, Remove)
        assert verdict.counted_from == expected


def test_the_rules_name_the_sources_that_must_be_asked() -> None:
    policies = (
        Policy("rooms", Match(room="upgraded"), None),
        Policy("nowhere", Match(unreferenced=True), None),
        Policy("remote", Match(origin="remote"), None),
    )
    assert Rules(policies[2:]).sources == frozenset()
    assert Rules(policies).sources == {"room:upgraded", "sent_by", "messages", *PROTECT, *ENCRYPTION}
