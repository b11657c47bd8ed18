"""The kinds of value that the configuration's keys take, each with its error message."""

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from retentiond.config.connection import ConfiguredText, to_url
from retentiond.config.units import DURATION_PATTERN, LARGEST, SIZE_PATTERN, parse_duration, parse_size
from retentiond.model.mentions import ROOM_KINDS

_SERVER_NAME: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,230})(?::[0-9]{1,5})?", re.ASCII
)
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,10}", re.ASCII)
_PATTERN_LIMIT: Final = 1000
_MOST_URLS: Final = 64


def _not_a_switch(value: object) -> object:
    # Python counts true as 1, and so would pydantic.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reads only ValueError
    return value


def check_absolute(path: Path) -> Path:
    """Return the path as it came; raise ValueError where it does not mean the same wherever we were started."""
    if "\0" in str(path) or not path.is_absolute() or ".." in path.parts:
        raise ValueError("must be an absolute path, without `..`")
    return path


def _connection_string(given: object, handler: ValidatorFunctionWrapHandler) -> SecretStr:
    secret: SecretStr = handler(given)
    to_url(secret.get_secret_value())
    # pydantic makes a plain string of it, without its place.
    return SecretStr(given) if isinstance(given, ConfiguredText) else secret


def _positive(duration: timedelta) -> timedelta:
    if not duration:
        raise ValueError("must be longer than 0s")
    return duration


def _day(value: object) -> date:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    elif isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("must be a day, such as 2025-01-31; it begins at midnight UTC")


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "not a time zone that this machine knows; write one such as Europe/Berlin or UTC"
        ) from None
    return name


def check_server_name(name: str) -> str:
    """Return the name of a Matrix server as it came; raise ValueError if it cannot be one."""
    if not _SERVER_NAME.fullmatch(name):
        raise ValueError("not a server's name; write the name alone, such as example.org or example.org:8448")
    return name


def is_http_url(text: str) -> bool:
    """Return whether a text is the URL of an HTTP server."""
    try:
        parts = urlsplit(text)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return fits and text.isprintable() and " " not in text


def _http_url(text: str) -> str:
    if not is_http_url(text):
        raise ValueError("not a URL; write one such as http://localhost:8123 or https://host.example.org")
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a password, which logs may show; write `user` and `password`")
    return text


def repeated_urls(value: object) -> Iterator[tuple[int, int]]:
    """Yield the place of each URL in a list that stands there before, and the place of that one, both from 0.

    Two that differ in capitals of the host or in a slash at the end are the same.
    """
    first: dict[tuple[object, ...], int] = {}
    for place, url in enumerate(value if isinstance(value, list | tuple) else ()):
        if not isinstance(url, str):
            continue
        try:
            parts = urlsplit(url)
            same = (parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/"))
        except ValueError:
            continue  # reported as no URL
        if first.setdefault(same, place) != place:
            yield place, first[same]


def to_address(value: object) -> tuple[str, int] | None:
    """Return the IP address and the port that a text names; None for any other value."""
    if isinstance(value, tuple):
        return value
    host, _, port = str(value).rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ip_address(host)
        number = int(port)
    except ValueError:
        return None
    return (host, number) if 0 <= number < 2**16 else None


def _listen(value: object) -> object:
    address = to_address(value)
    if address is None:
        raise ValueError(
            "not an address to listen at; write an IP address and a port, such as 127.0.0.1:19187"
        )
    return address


def _host_name(name: str) -> str:
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("not a host's name; write what `hostname` prints there, such as media1")
    return name


def _pattern(text: str) -> str:
    if not text or len(text) > _PATTERN_LIMIT:
        raise ValueError(f"must have from 1 to {_PATTERN_LIMIT} characters")
    return text


def _origin_pattern(text: str) -> str:
    if text.lower() in {"local", "remote"} and text != text.lower():
        raise ValueError("must be in small letters: write local or remote")
    close = get_close_matches(text.lower(), ("local", "remote"), n=1, cutoff=0.75)
    # A misspelled keyword would be a server's name, without any effect.
    if close and text not in close and not set(text) & set(".:*?[]"):
        raise ValueError(
            f"looks like a misspelled `{close[0]}`; did you mean `{close[0]}`? A server of that name is written as the "
            f'glob "{text[:-1]}?"'
        )
    return text


def _user_pattern(text: str) -> str:
    if text[0] not in "@*?":
        raise ValueError(
            'fits no user; write the whole ID, such as "@alice:example.org" or "@bot-*:example.org"'
        )
    return text


def _room_kind(text: str) -> str:
    if text not in ROOM_KINDS and not re.fullmatch(r"![^\s*?]{1,254}", text):
        raise ValueError(
            f'is no kind of room; write {", ".join(ROOM_KINDS)}, or a room ID such as "!abc:example.org"'
        )
    return text


def _type_pattern(text: str) -> str:
    if "/" not in text and "*" not in text:
        raise ValueError('fits no content type; write type/subtype, such as image/png or "video/*"')
    return text


def one_or_more(value: Any) -> Any:
    """Return a list of one for a value that is no list."""
    return value if isinstance(value, list | tuple) else (value,)


DurationText = Annotated[str, Field(pattern=DURATION_PATTERN)]
"""A duration as the file has it, for the JSON Schema."""
Duration = Annotated[timedelta, BeforeValidator(parse_duration, json_schema_input_type=DurationText)]
"""Zero or more, with units."""
LongerThanZero = Annotated[Duration, AfterValidator(_positive)]
"""A duration that an interval can be."""
Size = Annotated[
    int, BeforeValidator(parse_size, json_schema_input_type=Annotated[str, Field(pattern=SIZE_PATTERN)])
]
"""Bytes; the file gives them with their unit."""
Share = Annotated[float, BeforeValidator(_not_a_switch), Field(ge=0, le=1, allow_inf_nan=False)]
"""A part of the whole, from 0 to 1."""
Count = Annotated[int, BeforeValidator(_not_a_switch), Field(gt=0, le=LARGEST)]
"""One or more."""
AbsolutePath = Annotated[Path, AfterValidator(check_absolute)]
"""A path that means the same wherever the daemon was started."""
Dsn = Annotated[SecretStr, WrapValidator(_connection_string)]
"""A connection string as it was given, URL or key=value pairs; never shown."""
Day = Annotated[date, BeforeValidator(_day)]
"""A day in UTC."""
Timezone = Annotated[str, AfterValidator(_timezone)]
"""The name of a time zone."""
ServerName = Annotated[str, AfterValidator(check_server_name)]
"""The name of a Matrix server, with its port if it has one."""
ServerNames = Annotated[
    tuple[ServerName, ...],
    BeforeValidator(one_or_more, json_schema_input_type=ServerName | tuple[ServerName, ...]),
    Field(min_length=1),
]
"""One name, or a list of them."""
Listen = Annotated[tuple[str, int], BeforeValidator(_listen, json_schema_input_type=str)]
"""An IP address and a port; the file has them in one, `127.0.0.1:19187` or `[::1]:19187`."""
HostName = Annotated[str, AfterValidator(_host_name)]
"""The name of a machine."""
Pattern = Annotated[str, AfterValidator(_pattern)]
"""A glob, whose wildcards are `*` and `?`."""
OriginPattern = Annotated[Pattern, AfterValidator(_origin_pattern)]
"""`remote`, `local`, or a glob of server names."""
UserPattern = Annotated[Pattern, AfterValidator(_user_pattern)]
"""A glob of user IDs."""
RoomKind = Annotated[str, AfterValidator(_room_kind)]
"""A kind of rooms, or the ID of one room."""
TypePattern = Annotated[Pattern, AfterValidator(_type_pattern)]
"""A glob of content types."""
HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""The URL of an HTTP interface, without a password in it."""
HttpUrls = Annotated[
    tuple[HttpUrl, ...],
    BeforeValidator(one_or_more, json_schema_input_type=HttpUrl | tuple[HttpUrl, ...]),
    Field(min_length=1, max_length=_MOST_URLS),
]
"""One URL, or a list of them, each of one server that serves the same data."""
