"""Knowledge from a proxy's access log: the last request for each media item, and the start of complete knowledge.

A log without information looks like a log of unused media. So the record begins with the first line that requests
media, and begins again wherever lines may be missing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, assert_never
from urllib.parse import unquote

from retentiond.model.media import MediaKey

if TYPE_CHECKING:
    from collections.abc import Iterable


LogFormat = Literal["nginx", "caddy"]

# nginx escapes quotation marks in all that clients send, so that `] "GET ` stands in one place only.
_NGINX: Final = re.compile(
    rb'\[(\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\] "(?:(GET|HEAD) ([^ "]+) [^"]*|[^"]*)" (\d{3})\b'
)
_MEDIA: Final = re.compile(
    r"/_matrix/(?:(?:media/[^/]+|client/(?:v1|unstable/[^/]+)/media)/(?:download|thumbnail)/([^/?#]+)"
    r"|federation/(?:v1|unstable/[^/]+)/media/(?:download|thumbnail))/([^/?#]+)"
)
_ANSWERED: Final = range(200, 400)
_METHODS: Final = ("GET", "HEAD")
_LARGEST_SECONDS: Final = 1e11
"""Seconds reach it in the year 5138, milliseconds did in 1973."""
_LARGEST_MILLISECONDS: Final = 1e14
_LARGEST_NANOSECONDS: Final = 1e20


class LogLine(NamedTuple):
    """The time of a line, in seconds since the epoch, and the requested media item, if any.

    Other servers ask for ours by the ID alone: then the origin is empty.
    """

    at: float
    media: MediaKey | None


def parse_line(line: bytes, form: LogFormat) -> LogLine | None:
    """Read one line; None if not even its time can be read."""
    match form:
        case "nginx":
            return _parse_nginx(line)
        case "caddy":
            return _parse_caddy(line)
        case _:
            assert_never(form)


def _parse_nginx(line: bytes) -> LogLine | None:
    found = _NGINX.search(line)
    if found is None:
        return None
    try:
        at = datetime.strptime(found[1].decode("ascii"), "%d/%b/%Y:%H:%M:%S %z").timestamp()
    except (ValueError, OverflowError):
        return None
    if found[2] is None or int(found[4]) not in _ANSWERED:
        return LogLine(at, None)
    return LogLine(at, _asked_for(found[3].decode("utf-8", errors="replace")))


def _parse_caddy(line: bytes) -> LogLine | None:
    try:
        said: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    at = _caddy_time(said.get("ts"))
    if at is None:
        return None
    request, status = said.get("request"), said.get("status")
    if not isinstance(request, dict) or request.get("method") not in _METHODS or status not in _ANSWERED:
        return LogLine(at, None)
    uri = request.get("uri")
    return LogLine(at, _asked_for(uri) if isinstance(uri, str) else None)


def _caddy_time(value: object) -> float | None:
    """Return a time in seconds; caddy writes seconds, milliseconds, nanoseconds or a date, as configured."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return moment.timestamp() if moment.tzinfo else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Neither a float nor a database has room for any number that JSON may hold.
    if not 0 <= value <= _LARGEST_NANOSECONDS:
        return None
    if value > _LARGEST_MILLISECONDS:
        return value / 1e9
    return value / 1e3 if value > _LARGEST_SECONDS else float(value)


def _asked_for(uri: str) -> MediaKey | None:
    found = _MEDIA.match(uri)
    if found is None:
        return None
    try:
        origin, media_id = (unquote(part or "", errors="strict") for part in found.groups())
        # PostgreSQL stores neither lone surrogates nor NUL, so no row can have either.
        (origin + media_id).encode()
    except UnicodeError:
        return None
    return None if "\0" in origin + media_id else MediaKey(media_id, origin)


_SILENCE: Final = 2 * 86400.0
"""Seconds without a line after which a log is not believed to be written to: clients ask all day."""
_ASKING: Final = b"_matrix"


@dataclass(frozen=True, slots=True)
class Known:
    """Since when no access is missing (None: never yet), and when the newest line was written; both since the epoch."""

    since: float | None = None
    newest: float | None = None

    def since_at(self, now: float) -> float | None:
        """Return since when no access is missing until now; None where the log has been silent for too long."""
        return None if self.newest is None or now - self.newest > _SILENCE else self.since


@dataclass(slots=True)
class Stretch:
    """The next lines of a log: the record after them, and the newest time of each media item."""

    known: Known
    times: dict[MediaKey, float] = field(default_factory=dict)


def read_stretch(lines: Iterable[bytes], form: LogFormat, before: Known, *, gap: bool) -> Stretch:
    """Read lines that follow the known ones; after a `gap`, some before them are missing."""
    since, newest = None if gap else before.since, before.newest
    stretch = Stretch(before)
    for text in lines:
        line = parse_line(text, form)
        if line is None:
            # A request that cannot be read may have been for any media item.
            since = None if _ASKING in text else since
            continue
        if newest is not None and line.at - newest > _SILENCE:
            since = None
        newest = line.at if newest is None else max(newest, line.at)
        if line.media is not None:
            since = line.at if since is None else since
            stretch.times[line.media] = max(line.at, stretch.times.get(line.media, line.at))
    stretch.known = Known(since, newest)
    return stretch
