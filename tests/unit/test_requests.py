"""Requests by hand: a mention makes remote media part of a user or a room, and never the upload of another user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retentiond.model.media import MediaRow
from retentiond.model.ownership import Ownership
from retentiond.model.policy import Keep, Remove
from retentiond.model.request import BY_UPLOADER, ELSEWHERE, REFERRED, Request, decide_request

ANN, EVE = "@ann:here.test", "@eve:here.test"
NAMES = frozenset({"here.test", "also.test"})
UPLOAD = MediaRow("id", "here.test", "image/png", 1, 0, "", "A" * 43, ANN)
REMOTE = replace(UPLOAD, media_origin="there.test", user_id="")
ROOM, USER = Request("room", "!r:there.test"), Request("user", EVE)
GOES, OTHERS = Remove("delete", 0), Keep("other_uploader", "delete")


def verdict(row: MediaRow, request: Request, *facts: str, names: frozenset[str] = NAMES) -> Keep | Remove:
    return decide_request(row, request, frozenset(facts), names)


@pytest.mark.parametrize("request_", [ROOM, USER, replace(ROOM, even_protected=True)])
def test_the_upload_of_another_local_user_stays_whoever_mentions_it(request_: Request) -> None:
    assert verdict(UPLOAD, request_, REFERRED) == OTHERS
    assert verdict(replace(UPLOAD, media_origin="there.test"), request_, REFERRED) == OTHERS
    assert verdict(UPLOAD, request_, REFERRED, names=frozenset()) == OTHERS


@pytest.mark.parametrize("origin", ["here.test", "Here.TEST", "also.test"])
def test_a_local_medium_without_a_known_uploader_stays(origin: str) -> None:
    for request in (ROOM, USER):
        assert verdict(replace(REMOTE, media_origin=origin), request, REFERRED, BY_UPLOADER) == OTHERS


def test_a_rooms_request_takes_what_its_uploader_sent_there_and_no_other_room_mentions() -> None:
    assert verdict(UPLOAD, ROOM, REFERRED, BY_UPLOADER) == GOES
    assert verdict(UPLOAD, ROOM, REFERRED, BY_UPLOADER, ELSEWHERE) == Keep("other_rooms", "delete")


def test_a_users_request_takes_their_uploads_whatever_mentions_them() -> None:
    assert verdict(UPLOAD, Request("user", ANN)) == GOES
    assert verdict(UPLOAD, Request("user", ANN), REFERRED, ELSEWHERE) == GOES


@pytest.mark.parametrize("name", ["@ann:also.test", "@ann:HERE.test", "@Ann:here.test"])
def test_a_user_who_is_only_spelled_like_the_uploader_is_another(name: str) -> None:
    assert verdict(UPLOAD, Request("user", name), REFERRED) == OTHERS
    assert verdict(UPLOAD, Request("user", name)) == Keep("no_policy")


def test_of_remote_media_another_room_keeps_from_a_rooms_request_alone() -> None:
    assert verdict(REMOTE, ROOM, REFERRED) == GOES
    assert verdict(REMOTE, ROOM, REFERRED, ELSEWHERE) == Keep("other_rooms", "delete")
    assert verdict(REMOTE, USER, REFERRED, ELSEWHERE) == GOES


@pytest.mark.parametrize("request_", [Request("media", UPLOAD.key.uri), Request("user", ANN)])
def test_illegal_content_goes_when_it_or_its_uploader_is_named(request_: Request) -> None:
    assert verdict(UPLOAD, request_) == GOES


@pytest.mark.parametrize("source", ["encrypted", "encrypted_remote"])
def test_what_an_encrypted_room_may_show_stays_unless_it_is_named(source: str) -> None:
    hidden = Keep("encrypted", "delete")
    assert verdict(UPLOAD, ROOM, REFERRED, BY_UPLOADER, source) == hidden
    assert verdict(REMOTE, USER, REFERRED, source) == hidden
    assert verdict(UPLOAD, ROOM, REFERRED, source) == OTHERS
    assert verdict(UPLOAD, Request("user", ANN), REFERRED, source) == GOES
    assert verdict(UPLOAD, Request("media", UPLOAD.key.uri), source) == GOES


def test_the_account_counts_each_uploader_and_other_servers_apart() -> None:
    ownership = Ownership()
    ownership.removed.update({EVE: 2, "": 3})
    ownership.leave_out("other_uploader", ANN, "mxc://here.test/a")
    ownership.leave_out("other_uploader", ANN, "mxc://here.test/b")
    assert ownership.examples == {"other_uploader": "mxc://here.test/a"}
    assert ownership.as_json() == {
        "other_servers": {"removed": 3, "left_out": 0},
        "uploaders": {ANN: {"removed": 0, "left_out": 2}, EVE: {"removed": 2, "left_out": 0}},
        "uploaders_in_all": 2,
        "rooms": {},
        "rooms_in_all": 0,
    }


def test_the_account_names_the_uploaders_of_the_most_items_and_the_number_of_all() -> None:
    ownership = Ownership()
    ownership.removed.update({f"@u{number}:here.test": number for number in range(1, 1001)})
    found = ownership.as_json()
    assert (len(found["uploaders"]), found["uploaders_in_all"]) == (100, 1000)
    assert next(iter(found["uploaders"])) == "@u1000:here.test"
