"""What a proxy's log line says of media, and what it does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from retentiond.model.access_record import LogLine, parse_line
from retentiond.model.media import MediaKey

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
KEY = MediaKey("abc", "there.test:8448")
PATH = "/_matrix/client/v1/media/download/there.test:8448/abc"


def nginx(request: str = f"GET {PATH} HTTP/2.0", *, status: int = 200, user: str = "-") -> LogLine | None:
    line = f'1.2.3.4 - {user} [02/Jan/2026:04:04:05 +0100] "{request}" {status} 17 "-" "agent"'
    return parse_line(line.encode(), "nginx")


def caddy(**fields: Any) -> LogLine | None:
    line = {"ts": AT, "request": {"method": "GET", "uri": PATH}, "status": 200} | fields
    return parse_line(json.dumps(line).encode(), "caddy")


@pytest.mark.parametrize(
    "path",
    [
        PATH,
        "/_matrix/client/v1/media/thumbnail/there.test:8448/abc?width=32&height=32",
        "/_matrix/media/v3/download/there.test:8448/abc/picture.png",
        "/_matrix/media/r0/thumbnail/there.test%3A8448/%61bc?width=1",
        "/_matrix/client/unstable/org.matrix.msc3916/media/download/there.test:8448/abc",
    ],
)
def test_a_request_for_media_is_an_access_in_both_formats(path: str) -> None:
    assert nginx(f"GET {path} HTTP/1.1") == LogLine(AT, KEY)
    assert caddy(request={"method": "GET", "uri": path}) == LogLine(AT, KEY)


@pytest.mark.parametrize(
    "path",
    [
        "/_matrix/media/v3/upload",
        "/_matrix/media/v3/download/there.test",
        "/_matrix/federation/v1/publicRooms/download/abc",
        "/_matrix/client/v3/rooms/x/media/download/there.test/abc",
        "/x/_matrix/media/v3/download/there.test/abc",
        "/_matrix/media/v3/download/there.test/%00abc",
        "/_matrix/media/v3/download/there.test/%ff%fe",
        "/_matrix/media/v3/download/there.test/\ud800",
    ],
)
def test_any_other_request_has_only_a_time(path: str) -> None:
    assert "\ud800" in path or nginx(f"GET {path} HTTP/1.1") == LogLine(AT, None)
    assert caddy(request={"method": "GET", "uri": path}) == LogLine(AT, None)


def test_another_server_asks_by_the_id_alone() -> None:
    path = "/_matrix/federation/v1/media/thumbnail/abc?width=32&height=32"
    assert nginx(f"GET {path} HTTP/1.1") == LogLine(AT, MediaKey("abc", ""))
    assert caddy(request={"method": "GET", "uri": path}) == LogLine(AT, MediaKey("abc", ""))


def test_what_was_not_answered_or_only_asked_about_is_no_access() -> None:
    assert nginx(status=404) == caddy(status=404) == LogLine(AT, None)
    assert nginx(f"POST {PATH} HTTP/1.1") == LogLine(AT, None)
    assert caddy(request={"method": "OPTIONS", "uri": PATH}) == LogLine(AT, None)


def test_not_modified_and_a_redirect_are_answers() -> None:
    assert nginx(status=304) == caddy(status=307) == LogLine(AT, KEY)


def test_a_user_name_cannot_pose_as_a_request() -> None:
    user = (
        r"x [01/Jan/2030:00:00:00 +0000] \x22GET /_matrix/media/v3/download/other.test/def HTTP/1.1\x22 200"
    )
    assert nginx(user=user) == LogLine(AT, KEY)


@pytest.mark.parametrize("value", [AT, AT * 1000, int(AT * 10**9), "2026-01-02T04:04:05+01:00"])
def test_a_time_of_caddy_is_read_in_each_of_its_units(value: object) -> None:
    assert caddy(ts=value) == LogLine(AT, KEY)


@pytest.mark.parametrize(
    "value", [None, True, "yesterday", "2026-01-02T04:04:05", float("nan"), 1e999, [], -1e300, 1e300, 10**400]
)
def test_a_line_without_a_sure_time_says_nothing(value: object) -> None:
    assert caddy(ts=value) is None


@pytest.mark.parametrize("line", [b"", b"\xff\x00", b"[" * 9000, b"null", b"1" * 5000, b'"x"'])
@pytest.mark.parametrize("form", ["nginx", "caddy"])
def test_no_line_is_too_odd(line: bytes, form: Any) -> None:
    assert parse_line(line, form) is None


def test_a_date_that_is_none_says_nothing() -> None:
    line = b'- - - [99/Xyz/2026:04:04:05 +0100] "GET / HTTP/1.1" 200 1'
    assert parse_line(line, "nginx") is None
