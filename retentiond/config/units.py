"""Durations and sizes with their units: a number alone is refused, since its unit would be a guess."""

import re
from datetime import timedelta
from typing import Final

_SECONDS: Final = {"y": 365 * 86_400, "w": 7 * 86_400, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION: Final = re.compile("".join(rf"(?:(\d+){unit})?" for unit in _SECONDS), re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,18}", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,20})([KMGTPE]i?B|B)", re.ASCII | re.IGNORECASE)
_POWERS: Final = "kmgtpe"
# pydantic's ByteSize would also take a number without a unit, bits, and text after the unit, and it
# computes in floats.
_SIZES: Final[dict[str, int]] = (
    {"b": 1}
    | {f"{letter}b": 1000 ** (n + 1) for n, letter in enumerate(_POWERS)}
    | {f"{letter}ib": 1024 ** (n + 1) for n, letter in enumerate(_POWERS)}
)

DURATION_PATTERN: Final = "^(?=[0-9])" + "".join(f"([0-9]+{unit})?" for unit in _SECONDS) + "$"
"""What `parse_duration` takes, for a JSON Schema."""
SIZE_PATTERN: Final = "^[0-9]{1,20}([KMGTPEkmgtpe][Ii]?[Bb]|[Bb])$"
"""What `parse_size` takes, likewise."""
LONGEST: Final = timedelta(days=1000 * 365)
"""The longest duration; a time that much ago can still be written as a date."""
LARGEST: Final = 2**63 - 1
"""The largest size in bytes, and the largest number of the database's columns."""


class UnitError(ValueError):
    """Text that is no duration or size; the message names the expected form, and shows only digits of the text."""


def parse_duration(value: object) -> timedelta:
    """Read `30d`, `24h`, `10m`, `0s` or `1d12h` (y is 365 days); raise UnitError for anything else."""
    if isinstance(value, timedelta):
        return _bounded(value)
    text = _text_of(value, "a duration", "{0}d, {0}h or {0}m")
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise UnitError("not a duration; write whole numbers with units, such as 30d, 24h, 10m or 1d12h")
    try:
        amount = sum(
            int(count) * seconds
            for count, seconds in zip(match.groups(), _SECONDS.values(), strict=True)
            if count is not None
        )
        return _bounded(timedelta(seconds=amount))
    except (OverflowError, ValueError):
        raise _too_long() from None


def parse_size(value: object) -> int:
    """Read `20MiB`, `1MB` or `20B` as bytes; raise UnitError for anything else."""
    text = _text_of(value, "a size", "{0}MiB, {0}MB or {0}B")
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UnitError("not a size; write a whole number with its unit, such as 20MiB, 50GiB or 1MB")
    size = int(match[1]) * _SIZES[match[2].lower()]
    if size > LARGEST:
        raise UnitError("the size is too large; write less than 8EiB")
    return size


def format_duration(duration: timedelta) -> str:
    """Write whole seconds so that `parse_duration` reads them again; days begin at two (`24h`, `30d`), as do years."""
    rest = duration // timedelta(seconds=1)
    years, beyond = divmod(rest, _SECONDS["y"])
    if years > 1 and not beyond:
        return f"{years}y"
    units = ("d", "h", "m", "s") if rest >= 2 * _SECONDS["d"] else ("h", "m", "s")
    text = ""
    for unit in units:
        count, rest = divmod(rest, _SECONDS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _bounded(duration: timedelta) -> timedelta:
    if duration < timedelta(0):
        raise UnitError("a duration cannot be negative; write 0s or more")
    if duration > LONGEST:
        raise _too_long()
    return duration


def _too_long() -> UnitError:
    return UnitError("the duration is too long; write 1000y or less")


def _text_of(value: object, noun: str, offers: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise UnitError(f"{noun} is a number with its unit; write {offers.format(30)}")
    if value.startswith("-"):
        raise UnitError(f"{noun} cannot be negative; write it without the minus sign")
    if _NUMBER.fullmatch(value):
        raise UnitError(f"{noun} needs a unit; write {offers.format(value)}")
    return value
