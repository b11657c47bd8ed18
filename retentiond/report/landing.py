"""The landing page of the daemon's HTTP server: its targets in a few words, and links. No script, one style by its hash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from retentiond.model.text import printable
from retentiond.report.page import packaged_text, policy_hash, templates
from retentiond.terminal.account import quarantine_in_words
from retentiond.terminal.words import count_in_words, schedule_in_words, size_in_words, time_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jinja2 import Template

    from retentiond.report.target_report import TargetState

_STYLE: Final = "landing.css"
_NAME_LIMIT: Final = 80
_TEXT_LIMIT: Final = 500
_MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Landing:
    """The words of the page beside those about targets."""

    host: str
    version: str
    activity: str
    report: str
    usage: str


@dataclass(frozen=True, slots=True)
class _Target:
    name: str
    kind: str
    problems: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def landing_policy() -> str:
    """Return the Content-Security-Policy of the page."""
    return (
        f"default-src 'none'; style-src 'sha256-{policy_hash(packaged_text(_STYLE))}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def render_landing(landing: Landing, states: Sequence[TargetState]) -> str:
    """Return the page's HTML."""
    return _template().render(
        host=printable(landing.host, _NAME_LIMIT),
        version=landing.version,
        activity=printable(landing.activity, _TEXT_LIMIT),
        report=landing.report,
        usage=landing.usage,
        style=packaged_text(_STYLE),
        targets=[_target(state) for state in states],
    )


@cache
def _template() -> Template:
    return templates().get_template("landing.html")


def _target(state: TargetState) -> _Target:
    problems = tuple(printable(problem, _TEXT_LIMIT) for problem in state.problems[:_MOST_PROBLEMS])
    return _Target(printable(state.target, _NAME_LIMIT), state.kind, problems, tuple(_facts(state)))


def _facts(state: TargetState) -> Iterator[tuple[str, str]]:
    schedule = schedule_in_words(state.schedule)
    next_pass = f"{time_in_words(state.next_pass)} ({schedule})" if state.next_pass else schedule
    if state.status is None:
        yield "passes", schedule
        return
    last = state.last_pass
    if last is None:
        yield "last pass", "none yet"
    else:
        removed = ""
        if last.removed is not None:
            items, size = last.removed
            removed = f": {count_in_words(items, 'item')} removed, {size_in_words(size)}"
        yield "last pass", f"{printable(last.state)}, {time_in_words(last.started_at)}{removed}"
    yield "next pass", next_pass
    if state.quarantine is not None:
        summary = state.quarantine
        filled = bool(summary.items or summary.blobs)
        yield "quarantine", quarantine_in_words(summary) if filled else "empty"
    yield "holds", count_in_words(state.status.holds, "hold") if state.status.holds else "none"
    if state.status.holder:
        yield "running", printable(state.status.holder, _TEXT_LIMIT)
