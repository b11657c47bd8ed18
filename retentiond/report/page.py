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
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from retentiond.model.errors import UsageError
from retentiond.model.statistics import FREED_DAYS
from retentiond.model.text import printable
from retentiond.report.axis import day_axis
from retentiond.terminal.words import reason_in_words, size_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from retentiond.model.statistics import AgeCurve, Slice, StoreStatistics

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
            # mkstemp makes it readable by its owner only; a report is for all who may read the directory.
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
