"""The limits that no pass exceeds by itself: the share of due items, and the share of missing files.

A limit is there for accidents: a wrong clock, a policy with a slip, a database whose local media lost their users. All
of them make media due that are old, of every age at once, or by rules that no pass has followed yet. Growth looks
different: remote media that were fetched within a few days come due within a few days, however many they are and from
however many servers. Growth does not count towards `max_share`; otherwise a user who makes the server fetch as much as
it has could stop all further passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from retentiond.model.errors import Refusal
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retentiond.model.errors import PassLimit
    from retentiond.model.policy import Policy

_MILLISECOND = timedelta(milliseconds=1)
_NAME_LIMIT = 80


class Limits(Protocol):
    """The limits as the configuration has them."""

    @property
    def max_share(self) -> float:
        """The largest share of all rows that may be due."""

    @property
    def max_items(self) -> int:
        """The most rows that may be due."""

    @property
    def max_missing_files(self) -> float:
        """The largest share of contents that may be without a file."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a survey: `missing` of `sampled` contents have no file, `growth` of the due rows are growth.

    `origins` are the servers with the most due rows, each with its share of all due rows; the names are untrusted.
    """

    rows: int
    due: int
    missing: int = 0
    sampled: int = 0
    growth: int = 0
    origins: tuple[tuple[str, float], ...] = ()

    @property
    def share(self) -> float:
        """The share of the rows that is due, growth left out on both sides."""
        rest = self.rows - self.growth
        return max(self.due - self.growth, 0) / rest if rest > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Headroom:
    """A limit of a pass that would begin now: its value, and the largest that is allowed."""

    limit: PassLimit
    value: float
    allowed: float

    @property
    def used(self) -> float:
        """The part of the allowed value that is used; above 1 a pass is refused."""
        if not self.allowed:
            return float(self.value > 0) * 2
        return self.value / self.allowed


def headroom(limits: Limits, counts: Counts) -> tuple[Headroom, ...]:
    """Return how near the counts of a survey are to the limits; that of missing files only if they were sampled."""
    missing = (
        (Headroom("max_missing_files", counts.missing / counts.sampled, limits.max_missing_files),)
        if counts.sampled
        else ()
    )
    return (
        Headroom("max_share", counts.share, limits.max_share),
        Headroom("max_items", counts.due, limits.max_items),
        *missing,
    )


def growth_starts(policies: Sequence[Policy], now: datetime, within: timedelta) -> dict[int, int]:
    """Return for each policy (by its index) the creation, in milliseconds, after which a due row came due `within` now."""
    now_ms = int(now.timestamp() * 1000)
    return {
        index: max(now_ms - (policy.keep + within) // _MILLISECOND, 0)
        for index, policy in enumerate(policies)
        if policy.keep is not None
    }


def judge_limits(target: str, limits: Limits, counts: Counts, *, first: bool) -> Refusal | None:
    """Compare a survey's counts with the three limits that `once --yes` exceeds."""
    next_step = (
        f"look with `retentiond plan {target}`, and if it is right, run `retentiond once {target} --yes`"
    )
    if counts.sampled and counts.missing / counts.sampled > limits.max_missing_files:
        return Refusal(
            "max_missing_files",
            round(counts.missing / counts.sampled, 4),
            limits.max_missing_files,
            f"{counts.missing} of {counts.sampled} contents have no file: check that the right disk is mounted; "
            f"{next_step}",
        )
    if counts.share > limits.max_share:
        found = f"{counts.due} of {counts.rows} rows would go{_from_origins(counts)}{_without_growth(counts)}"
        opening = f"this is the first pass over this store, and {found}" if first else found
        return Refusal("max_share", round(counts.share, 4), limits.max_share, f"{opening}; {next_step}")
    if counts.due > limits.max_items:
        found = f"{counts.due} rows would go{_from_origins(counts)}"
        return Refusal("max_items", counts.due, limits.max_items, f"{found}; {next_step}")
    return None


def _from_origins(counts: Counts) -> str:
    if not counts.origins:
        return ""
    shares = [f"{share:.0%} from {printable(name, _NAME_LIMIT)}" for name, share in counts.origins]
    return f" ({', '.join(shares)})"


def _without_growth(counts: Counts) -> str:
    if not counts.growth:
        return ""
    return f", of which {counts.growth} remote ones that came due lately do not count (`growth_within`)"
