"""The HTML page of a report: one file without external resources, safe for untrusted names.

Jinja escapes every text; the data of the script are JSON in a block that no text can end; and the page's
Content-Security-Policy allows only our script, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from retentiond.model.errors import UsageError
from retentiond.model.statistics import FREED_DAYS
from retentiond.model.text import printable
from retentiond.terminal.words import reason_in_words, size_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime
    from pathlib import Path

    from retentiond.model.statistics import AgeCurve, Freed, Slice, StoreStatistics

_FEWEST_DAYS: Final = 30
_MOST_TICKS: Final = 3
_GAP: Final = 0.2  # of a day, between two bars
_LEAST_HEIGHT: Final = 1.0  # a day with a pass that removed nothing is not a day without one


@dataclass(frozen=True, slots=True)
class Bar:
    """One day with passes; `x`, `width` and `height` are percentages of the plot."""

    freed: Freed
    x: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled day; `x` is the middle of the day, a percentage of the plot."""

    day: date
    x: float


@dataclass(frozen=True, slots=True)
class DayAxis:
    """The days from `first` to `last`, all of the same width."""

    first: date
    last: date
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def day_axis(freed: Sequence[Freed], today: date) -> DayAxis:
    """Return an axis that ends today, with a bar for each day with passes (in ascending order).

    The height of a bar is its bytes, or its items if no day has bytes, as with chats.
    """
    # The clock of the database may be ahead.
    last = max([today, *(part.day for part in freed)])
    first = min([last - timedelta(days=_FEWEST_DAYS - 1), *(part.day for part in freed)])
    width = 100 / ((last - first).days + 1)
    sizes = [part.bytes for part in freed]
    if not any(sizes):
        sizes = [part.items for part in freed]
    most = max(sizes, default=0) or 1
    bars = tuple(
        Bar(
            part,
            (part.day - first).days * width + width * _GAP / 2,
            width * (1 - _GAP),
            max(100 * size / most, _LEAST_HEIGHT),
        )
        for part, size in zip(freed, sizes, strict=True)
    )
    return DayAxis(first, last, bars, _ticks(first, last, width))


def _ticks(first: date, last: date, width: float) -> tuple[Tick, ...]:
    """Return labelled days, the last one and whole weeks before it."""
    weeks = -(-((last - first).days + 1) // (7 * _MOST_TICKS))
    step = timedelta(weeks=weeks)
    days = [last - step * number for number in range(_MOST_TICKS) if last - step * number >= first]
    return tuple(Tick(day, ((day - first).days + 0.5) * width) for day in reversed(days))


_NAME_LIMIT: Final = 80
_ERROR_LIMIT: Final = 2000


def render(pictures: Sequence[StoreStatistics], at: datetime, version: str) -> str:
    """Return the page's HTML."""
    environment = Environment(
        loader=PackageLoader("retentiond.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": size_in_words, "name": _name, "error": _error, "reason": reason_in_words}
    script = _text("page.js")
    return environment.get_template("page.html").render(
        pictures=pictures,
        shares=_shares,
        axis=day_axis,
        freed_days=FREED_DAYS,
        at=at,
        version=version,
        style=_text("page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=_as_data(pictures),
    )


def write_page(path: Path, page: str) -> None:
    """Write the page atomically; raise UsageError if the path cannot be written.

    A device or a pipe is written in place: as root a rename onto `/dev/null` would replace the device.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(page, encoding="utf-8")
            return
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(page)
            # mkstemp makes it readable by its owner only; a report is for every user with access to the directory.
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); name another file") from error


def _text(file: str) -> str:
    return (resources.files(__package__) / file).read_text(encoding="utf-8")


def _name(text: str) -> str:
    return printable(text, _NAME_LIMIT) or "(no name)"


def _error(text: str) -> str:
    return printable(text, _ERROR_LIMIT)


def _shares(slices: Sequence[Slice]) -> list[tuple[Slice, float]]:
    """Return each slice with the length of its bar, from 0 to 100; the longest has 100."""
    longest = max((part.bytes for part in slices), default=0)
    return [(part, 100 * part.bytes / longest if longest else 0.0) for part in slices]


def _as_data(pictures: Sequence[StoreStatistics]) -> str:
    """Return the data of the sliders as JSON that cannot end its script block."""
    data = [[_curve(curve) for curve in picture.curves] for picture in pictures]
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _curve(curve: AgeCurve) -> dict[str, Any]:
    return {"days": [[day, curve.items[day], curve.bytes[day]] for day in sorted(curve.items)]}
