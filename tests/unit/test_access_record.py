"""What a log tells and what it leaves open: where a line may be missing, nothing is known before it."""

from __future__ import annotations

from datetime import UTC, datetime

from retentiond.model.access_record import Known, read_stretch
from retentiond.model.media import MediaKey

DAY = 86400.0
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def line(day: float, uri: str = "/_matrix/media/v3/download/there.test/abc") -> bytes:
    at = datetime.fromtimestamp(START + day * DAY, UTC)
    return f'- - - [{at:%d/%b/%Y:%H:%M:%S +0000}] "GET {uri} HTTP/1.1" 200 1'.encode()


NOTHING = Known()


def read(*lines: bytes, before: Known = NOTHING, gap: bool = False) -> Known:
    return read_stretch(lines, "nginx", before, gap=gap).known


def test_the_record_begins_with_the_first_medium_that_is_asked_for() -> None:
    assert read(line(1, "/"), line(2), line(3)) == Known(START + 2 * DAY, START + 3 * DAY)


def test_each_medium_keeps_its_newest_time() -> None:
    assert read_stretch([line(3), line(2)], "nginx", NOTHING, gap=False).times == {
        MediaKey("abc", "there.test"): START + 3 * DAY
    }


def test_a_request_that_cannot_be_read_may_have_been_for_any_medium() -> None:
    unread = line(2).replace(b'" 200', b'" MISS 200')
    assert read(line(1), unread) == Known(None, START + DAY)
    assert read(line(1), unread, line(3)) == Known(START + 3 * DAY, START + 3 * DAY)


def test_noise_between_the_lines_is_no_request() -> None:
    assert read(line(1), b"", b"\0\0\0", line(2)) == Known(START + DAY, START + 2 * DAY)


def test_after_days_without_a_line_the_record_begins_anew() -> None:
    assert read(line(1), line(5, "/"), line(6)).since == START + 6 * DAY
    assert read(line(5, "/"), before=Known(START, START + DAY)).since is None


def test_a_log_in_another_order_has_no_holes() -> None:
    assert read(line(1), line(2), line(1), line(3)).since == START + DAY


def test_a_gap_begins_the_record_anew() -> None:
    before = Known(START, START + DAY)
    assert read(line(1, "/"), before=before) == before
    assert read(line(1), before=before, gap=True) == Known(START + DAY, START + DAY)


def test_what_was_asked_for_since_the_newest_line_is_known_for_a_while_only() -> None:
    known = Known(START, START + 9 * DAY)
    assert known.since_at(START + 10 * DAY) == START
    assert known.since_at(START + 12 * DAY) is None
    assert Known().since_at(START) is None
