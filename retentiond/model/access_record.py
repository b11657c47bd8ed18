"""Knowledge from a proxy's access log: the last request for each media item, and the start of complete knowledge.

A log without information looks like a log of unused media. So the record begins with the first line that requests
media, and begins again wherever lines may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.model.access_lines import parse_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retentiond.model.access_lines import LogFormat
    from retentiond.model.media import MediaKey

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
