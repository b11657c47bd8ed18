"""Notices to administrators about passes: their events, times and words; pure functions and values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from string import Template
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from retentiond.model.text import instant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zoneinfo import ZoneInfo

    from retentiond.model.audit import AuditReport
    from retentiond.model.report import PassReport

Event = Literal["failure", "refusal", "inconsistencies", "overdue", "recovery"]
"""The events that a webhook or Apprise may receive."""
Phase = Literal["start", "success"]
"""The phases that a ping receives besides failures and refusals."""
Occasion = Literal[Event, Phase, "test"]

EVENTS: Final[tuple[Event, ...]] = get_args(Event)
PLACEHOLDERS: Final = ("host", "target", "event", "summary", "message")
"""The names that a template may use, as `$target`."""

_SUMMARIES: Final[Mapping[Occasion, str]] = {
    "failure": "the pass failed",
    "refusal": "the pass was refused",
    "inconsistencies": "database and disk differ",
    "overdue": "no pass has finished in time",
    "recovery": "passes finish again",
    "start": "a pass has begun",
    "success": "the pass has finished",
    "test": "a test of the notifications",
}
if set(_SUMMARIES) != {*EVENTS, *get_args(Phase), "test"}:
    raise TypeError("model/notices.py: _SUMMARIES must have each occasion, and no other")


@dataclass(frozen=True, slots=True)
class Notice:
    """One event to report; `message` is a sentence or more, `details` the document of a pass or an audit."""

    occasion: Occasion
    target: str
    message: str
    at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The occasion in a few words."""
        return _SUMMARIES[self.occasion]

    def as_json(self, host: str, title: str, message: str) -> dict[str, Any]:
        """Return the document that a webhook receives."""
        return {
            "event": self.occasion,
            "host": host,
            "target": self.target,
            "at": instant(self.at),
            "title": title,
            "message": message,
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class Sent:
    """A notice that a channel has taken."""

    notice: Notice
    channel: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Wording:
    """The templates of title and message; `$name` is one of PLACEHOLDERS."""

    title: str = "[retentiond] $target on $host: $summary"
    message: str = "$message"

    def of(self, notice: Notice, host: str) -> tuple[str, str]:
        """Return title and message of a notice."""
        values = {
            "host": host,
            "target": notice.target,
            "event": notice.occasion,
            "summary": notice.summary,
            "message": notice.message,
        }
        return Template(self.title).substitute(values), Template(self.message).substitute(values)


def unknown_placeholders(template: str) -> list[str]:
    """Return the names in a template that PLACEHOLDERS lacks; raise ValueError for a `$` without a name."""
    parsed = Template(template)
    if not parsed.is_valid():
        raise ValueError("a `$` must be followed by a name; write `$$` for the sign itself")
    return [name for name in parsed.get_identifiers() if name not in PLACEHOLDERS]


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A time of the day in which only pings are sent; it may pass midnight."""

    begin: time
    end: time
    zone: ZoneInfo | None = None
    """None for the machine's own time."""

    def until(self, moment: datetime) -> datetime | None:
        """Return the end of the quiet hours that this moment is in; None outside of them."""
        local = moment.astimezone(self.zone)
        clock = local.time()
        if self.begin <= self.end:
            quiet = self.begin <= clock < self.end
        else:
            quiet = clock >= self.begin or clock < self.end
        if not quiet:
            return None
        end = local.replace(hour=self.end.hour, minute=self.end.minute, second=0, microsecond=0)
        return end if end > local else end + timedelta(days=1)


class History:
    """The notices of one target so far: which are repetitions, and whether the next success ends a failure (`failing`)."""

    def __init__(self, at_most_every: timedelta, *, failing: bool = False) -> None:
        self._at_most_every = at_most_every
        self.failing = failing
        self._sent: dict[Occasion, datetime] = {}

    def of_pass(
        self, report: PassReport, inconsistencies_above: int, now: datetime, *, stopped: bool
    ) -> Iterator[Notice]:
        """Yield the notices of a pass that ended; `stopped`: a user or a shutdown asked it to end early."""
        details = report.as_json()
        failure = _failure_of(report)
        if report.refused is not None:
            yield from self.trouble("refusal", report.target, str(report.refused), now, details)
        elif failure and not stopped:
            yield from self.trouble("failure", report.target, failure, now, details)
        elif report.state == "finished":
            yield from self.success(report.target, _success_of(report), now, details)
        found = report.missing_file + report.orphan_thumbnail_row
        yield from self._inconsistencies(report.target, found, inconsistencies_above, now, details)

    def of_audit(self, report: AuditReport, inconsistencies_above: int, now: datetime) -> Iterator[Notice]:
        """Yield the notices of an audit that ended."""
        yield from self._inconsistencies(
            report.target, report.standing_items, inconsistencies_above, now, report.as_json()
        )

    def trouble(
        self,
        event: Literal["failure", "refusal", "overdue"],
        target: str,
        message: str,
        now: datetime,
        details: Mapping[str, Any] | None = None,
    ) -> Iterator[Notice]:
        """Yield the notice of a failure, unless the last one is too recent; the next success is a recovery."""
        self.failing = True
        yield from self._unless_recent(Notice(event, target, message, now, details or {}))

    def success(
        self, target: str, message: str, now: datetime, details: Mapping[str, Any] | None = None
    ) -> Iterator[Notice]:
        """Yield the success, and before it the end of the failures, if there were any."""
        if self.failing:
            self.failing = False
            self._sent.clear()
            yield Notice("recovery", target, message, now, details or {})
        yield Notice("success", target, message, now, details or {})

    def _inconsistencies(
        self, target: str, found: int, above: int, now: datetime, details: Mapping[str, Any]
    ) -> Iterator[Notice]:
        if found > above:
            message = f"{found:,} inconsistencies; `retentiond audit {target}` counts them by kind, and repairs them with --repair"
            yield from self._unless_recent(Notice("inconsistencies", target, message, now, details))

    def _unless_recent(self, notice: Notice) -> Iterator[Notice]:
        last = self._sent.get(notice.occasion)
        # A time in the future is from before the clock was set.
        if last is None or not timedelta(0) <= notice.at - last < self._at_most_every:
            self._sent[notice.occasion] = notice.at
            yield notice


def _failure_of(report: PassReport) -> str:
    """Return why a pass did not succeed; empty if it did."""
    if report.failed:
        reasons = ", ".join(f"{reason} {items}" for reason, items in sorted(report.failed.items()))
        return f"failed: {reasons}; the next pass tries again"
    if report.state == "interrupted":
        return f"interrupted: {report.error}; the next pass goes on"
    return ""


def _success_of(report: PassReport) -> str:
    return f"{report.removed_items:,} items deleted, {report.kept.total():,} kept"
