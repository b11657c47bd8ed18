"""The HTML page of a report: one file without external resources, safe for untrusted names.

Jinja escapes every text; the data of the script are JSON in a block that no text can end; and the page's
Content-Security-Policy allows only our script and style, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from retentiond.model.errors import UsageError
from retentiond.model.statistics import FREED_DAYS
from retentiond.model.text import printable
from retentiond.report.plots import AGES
from retentiond.report.sentences import NEAR, limit_in_words
from retentiond.report.view import TargetView
from retentiond.terminal.words import count_in_words, reason_in_words, size_in_words, time_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from retentiond.report.target_report import TargetReport

UPLOT: Final = "1.6.32"
"""The version of the library in `uplot/`; a test compares its bytes with the release."""
_NAME_LIMIT: Final = 80
_ERROR_LIMIT: Final = 2000


def templates() -> Environment:
    """Return the environment of this package's templates: texts are escaped, and an unknown name is an error."""
    return Environment(
        loader=PackageLoader("retentiond.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(reports: Sequence[TargetReport], at: datetime, version: str) -> str:
    """Return the page's HTML."""
    environment = templates()
    environment.filters |= {
        "size": size_in_words,
        "count": count_in_words,
        "time": time_in_words,
        "name": _name,
        "error": _error,
        "reason": reason_in_words,
        "limit": limit_in_words,
    }
    views = [TargetView(report, at, len(reports)) for report in reports]
    return environment.get_template("page.html").render(
        views=views,
        freed_days=FREED_DAYS,
        ages=AGES,
        near=NEAR,
        at=at,
        version=version,
        uplot=UPLOT,
        style=_style(),
        script=_script(),
        policy=security_policy(),
        data=_as_data(views),
    )


def security_policy() -> str:
    """Return the Content-Security-Policy of the page, which is in the page, too."""
    return (
        f"default-src 'none'; style-src 'sha256-{policy_hash(_style())}'; script-src 'sha256-{policy_hash(_script())}'; "
        "base-uri 'none'; form-action 'none'"
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


@cache
def packaged_text(file: str) -> str:
    """Return a file of this package."""
    return (resources.files(__package__) / file).read_text(encoding="utf-8")


def _style() -> str:
    return packaged_text("uplot/uPlot.min.css") + "\n" + packaged_text("page.css")


def _script() -> str:
    licence = packaged_text("uplot/LICENSE").strip()
    return f"/* uPlot {UPLOT}\n\n{licence}\n*/\n{packaged_text('uplot/uPlot.iife.min.js')}\n{packaged_text('page.js')}"


def policy_hash(text: str) -> str:
    """Return the hash by which a Content-Security-Policy allows a script or a style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _name(text: str) -> str:
    return printable(text, _NAME_LIMIT) or "(no name)"


def _error(text: str) -> str:
    return printable(text, _ERROR_LIMIT)


def _as_data(views: Sequence[TargetView]) -> str:
    """Return the plots as JSON that cannot end its script block, by the IDs of their figures."""
    plots = {
        f"target-{number}-{name}": plot.as_json()
        for number, view in enumerate(views)
        for name, plot in view.plots.items()
    }
    return json.dumps(plots, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
