"""A mention is not ownership: by `room`, an upload goes only where its uploader sent the message that refers to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from retentiond.model.explanation import policy_stories
from retentiond.model.match import Match
from retentiond.model.media import MediaRow
from retentiond.model.mentions import SENT_BY, Mentioned, asked_of
from retentiond.model.policy import Keep, Policy, Remove, Rules, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = int((NOW - timedelta(days=100)).timestamp() * 1000)
ANN, ROOM = "@ann:here.test", "room:no_local_members"
UPLOAD = MediaRow("id", "here.test", "image/png", 1, OLD, "", "A" * 43, ANN)
NAMES = frozenset({"here.test", "also.test"})
LEFT = Policy("left", Match(room="no_local_members"), timedelta(days=30))
GOES, STAYS = Remove("left", 0), Keep("other_uploader", "left")


def verdict(row: MediaRow, mentions: set[str], *policies: Policy) -> Keep | Remove:
    return decide(row, Rules(policies or (LEFT,), NAMES), NOW, seen(mentions))


def seen(mentions: set[str]) -> Mentioned:
    """These mentions, of rooms that were left long ago."""
    return Mentioned(mentions, [OLD if name == ROOM else None for name in mentions])


def test_an_upload_that_only_others_mention_in_the_room_stays() -> None:
    assert verdict(UPLOAD, {ROOM}) == STAYS
    assert verdict(UPLOAD, {ROOM, "sent_by:@eve:here.test"}) == STAYS


def test_an_upload_that_its_uploader_sent_to_the_room_goes() -> None:
    assert verdict(UPLOAD, {ROOM, f"sent_by:{ANN}"}) == GOES


def test_remote_media_need_no_uploader() -> None:
    assert verdict(replace(UPLOAD, media_origin="there.test", user_id=""), {ROOM}) == GOES


@pytest.mark.parametrize("origin", ["here.test", "HERE.test", "also.test"])
def test_a_local_medium_without_a_known_uploader_stays(origin: str) -> None:
    assert verdict(replace(UPLOAD, media_origin=origin, user_id=""), {ROOM, "sent_by:"}) == STAYS


def test_a_medium_with_a_wrong_origin_and_a_local_user_is_an_upload() -> None:
    wrong = replace(UPLOAD, media_origin="there.test")
    assert verdict(wrong, {ROOM}) == STAYS
    assert verdict(wrong, {ROOM, f"sent_by:{ANN}"}) == GOES


@pytest.mark.parametrize(
    "sender", ["@ann:also.test", "@ann:HERE.TEST", "@Ann:here.test", "@ann:here.test:8448"]
)
def test_a_sender_who_is_only_spelled_like_the_uploader_is_another(sender: str) -> None:
    assert verdict(UPLOAD, {ROOM, f"sent_by:{sender}"}) == STAYS


def test_an_upload_of_a_second_server_name_goes_with_its_own_uploader() -> None:
    row = replace(UPLOAD, user_id="@ann:also.test")
    assert verdict(row, {ROOM, "sent_by:@ann:also.test"}) == GOES
    assert verdict(row, {ROOM, f"sent_by:{ANN}"}) == STAYS


def test_a_room_policy_goes_on_keeping_uploads_that_others_mention() -> None:
    """A shorter policy behind it must not take what the room's keeps for longer."""
    local = Policy("local", Match(origin="local"), timedelta(days=50))
    for keep in (timedelta(days=365), None):
        assert verdict(UPLOAD, {ROOM}, replace(LEFT, keep=keep), local) == Keep("not_due", "left")


def test_a_later_policy_decides_of_an_upload_that_the_rooms_policy_must_not_take() -> None:
    local = Policy("local", Match(origin="local"), timedelta(days=50))
    assert verdict(UPLOAD, {ROOM}, LEFT, local) == Remove("local", 1)
    assert verdict(UPLOAD, {ROOM}, LEFT, replace(local, keep=None)) == Keep("not_due", "local")


def test_a_later_policy_does_not_take_what_the_rooms_policy_keeps_while_it_is_read() -> None:
    local = Policy("local", Match(origin="local"), timedelta(days=50))
    by_access = replace(LEFT, since="accessed")
    assert verdict(UPLOAD, {ROOM}, by_access, local) == Keep("other_uploader", "left")


def test_the_story_names_the_uploader_as_what_does_not_match() -> None:
    rules = Rules((LEFT,), NAMES)
    [story] = policy_stories(UPLOAD, rules, NOW, seen({ROOM}))
    assert (story.mismatches, story.decides) == (("uploader",), False)
    [story] = policy_stories(UPLOAD, rules, NOW, seen({ROOM, f"sent_by:{ANN}"}))
    assert (story.mismatches, story.due) == ((), True)


def test_who_sent_it_is_an_answer_only_where_a_policy_asks() -> None:
    mentions = seen({ROOM, "messages", f"sent_by:{ANN}"})
    assert asked_of(mentions, frozenset({ROOM, SENT_BY})) == frozenset({ROOM, f"sent_by:{ANN}"})
    assert asked_of(mentions, frozenset({ROOM})).since == {ROOM: OLD}
    assert asked_of(mentions, frozenset({"messages"})) == frozenset({"messages"})
