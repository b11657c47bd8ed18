"""The report and the usage of all targets, computed in the background: no request asks a database.

A computation has connections of its own, ends when a pass begins, and starts anew after it. Between two of them there are
`http.refresh`, and at least four times as long as the last one took: on the largest store four fifths of the time are free.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, Final, TypeVar

from retentiond import __version__
from retentiond.adapters.logging import get_logger
from retentiond.engine.capabilities import HasUsage
from retentiond.engine.target import NullProgress
from retentiond.ledger.host import host_name
from retentiond.model.errors import RetentiondError
from retentiond.model.text import printable, without_numbers
from retentiond.report.page import render, security_policy
from retentiond.report.target_report import collect, unreadable
from retentiond.terminal.words import time_in_words

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from datetime import datetime, timedelta

    from retentiond.adapters.clock import Clock
    from retentiond.config.schema import TargetConfig
    from retentiond.daemon.policies import OpenTarget
    from retentiond.daemon.quiet import QuietTimes
    from retentiond.daemon.status import StatusReporter
    from retentiond.model.usage import UsageBy, UsageRow
    from retentiond.report.target_report import TargetReport, TargetState

_LONGEST: Final = 1800.0
"""Seconds that one target may take."""
_SHARE: Final = 4
_BODY: Final = re.compile(r"<body[^>]*>")
_ERROR_LIMIT: Final = 1000
_IN_NO_FRAME: Final = "; frame-ancestors 'none'"

T = TypeVar("T")

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Page:
    """The report, compressed, with the Content-Security-Policy that is in it."""

    compressed: bytes
    policy: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """The largest keys of each division of a target; `refused` are divisions that could not be computed, with the reason."""

    at: datetime
    divisions: Mapping[UsageBy, tuple[UsageRow, ...]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the newest computation failed, and since when they fail."""

    since: datetime
    error: str


@dataclass(slots=True)
class _Computed:
    reports: dict[str, TargetReport]
    usage: dict[str, Usage]
    errors: dict[str, str]


class Pages:
    """The newest report and usage; without `refresh` none are computed. An unexpected error ends `run`."""

    def __init__(
        self, open_target: OpenTarget, clock: Clock, quiet: QuietTimes, status: StatusReporter
    ) -> None:
        self._open_target = open_target
        self._clock = clock
        self._quiet = quiet
        self._status = status
        self._refresh: timedelta | None = None
        self._targets: Mapping[str, TargetConfig] = {}
        self._changed = asyncio.Event()
        self.report: Page | None = None
        self.usage: dict[str, Usage] = {}
        self.failure: Failure | None = None
        """The failure of the report as a whole, or of each target."""
        self.failures: dict[str, Failure] = {}
        """The failures of single targets."""

    def adopt(self, refresh: timedelta | None, targets: Mapping[str, TargetConfig]) -> None:
        """Compute pages of these targets from now on, at once if the targets have changed."""
        if (refresh, targets) == (self._refresh, self._targets):
            return
        stay = {
            name
            for name, before in self._targets.items()
            if name in targets and _store_of(targets[name]) == _store_of(before)
        }
        if refresh is None or stay != self._targets.keys():
            # Names of users in a store that the configuration has no more are shown no more.
            self.report = self.failure = None
        self._refresh, self._targets = refresh, dict(targets)
        self.usage = {name: usage for name, usage in self.usage.items() if name in stay}
        self.failures = {name: failure for name, failure in self.failures.items() if name in stay}
        self._changed.set()

    @property
    def waits_for(self) -> str:
        """Why there are no pages yet."""
        if self._quiet.is_quiet:
            return "a computation is under way; try again in a minute"
        return "a pass is running, and the computation follows it; try again in a few minutes"

    async def run(self) -> None:
        """Compute until cancelled."""
        while True:
            self._changed.clear()
            refresh = self._refresh
            if refresh is None:
                await self._changed.wait()
                continue
            began = self._clock.now()
            computed = await self._unless_changed(self._quiet.run(self._compute(dict(self._targets))))
            if computed is None:
                # A pass began, or the targets are others by now.
                continue
            await self._show(computed)
            took = self._clock.now() - began
            await self._unless_changed(self._clock.sleep(max(refresh, _SHARE * took).total_seconds()))

    async def _unless_changed(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do the work; cancel it and return None when the configuration changes."""
        working, changed = asyncio.ensure_future(work), asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({working, changed}, return_when=asyncio.FIRST_COMPLETED)
            done = working.result() if working.done() else None
        finally:
            changed.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
        return None if self._changed.is_set() else done

    async def _compute(self, targets: Mapping[str, TargetConfig]) -> _Computed:
        computed = _Computed({}, {}, {})
        for name, config in targets.items():
            try:
                async with asyncio.timeout(_LONGEST):
                    await self._read(name, config, computed)
            except TimeoutError:
                computed.errors[name] = f"took longer than {_LONGEST / 60:.0f} minutes, and was stopped"
            except RetentiondError as error:
                computed.errors[name] = str(error)
            except Exception as error:  # noqa: BLE001 - a mistake in a page must not end the passes; it is logged whole
                _log.exception("page_error", target=name)
                computed.errors[name] = f"unexpected {type(error).__name__}; see the log"
        return computed

    async def _read(self, name: str, config: TargetConfig, computed: _Computed) -> None:
        async with self._open_target(name, config) as target:
            report = await collect(target, config, self._clock.now(), NullProgress())
            computed.reports[name] = replace(
                report, state=_with_daemon(report.state), last_notice=self._status.last_notice(name)
            )
            if report.statistics is not None:
                self._status.measured(name, report.statistics.at, report.statistics.total)
                self._status.surveyed(name, report.statistics.limits)
            if isinstance(target, HasUsage):
                divisions = {by: tuple(rows) for by, rows in report.usage.items()}
                computed.usage[name] = Usage(self._clock.now(), divisions)

    async def _show(self, computed: _Computed) -> None:
        now = self._clock.now()
        self.failures = {name: self._failing(name, error, now) for name, error in computed.errors.items()}
        # Usage of a target that cannot be read now stays, with its age.
        self.usage |= computed.usage
        for name, error in computed.errors.items():
            computed.reports[name] = unreadable(name, self._targets[name], error)
        if computed.errors and len(computed.errors) == len(self._targets):
            # A page of nothing but errors does not take the place of one with figures.
            await self._fail(next(iter(computed.errors.values())), now)
            return
        reports = [computed.reports[name] for name in self._targets if name in computed.reports]
        try:
            # Rendering and compression take a tenth of a second, in which no request waits.
            page = await asyncio.to_thread(_make_page, reports, now)
        except Exception as error:  # noqa: BLE001 - likewise
            _log.exception("report_failed")
            await self._fail(f"unexpected {type(error).__name__}; see the log", now)
        else:
            # The targets may be others by now.
            if not self._changed.is_set():
                self.report, self.failure = page, None

    def _failing(self, name: str, error: str, now: datetime) -> Failure:
        before = self.failures.get(name)
        if before is None or without_numbers(before.error) != without_numbers(error):
            _log.warning("page_failed", target=name, error=error)
        return Failure(now if before is None else before.since, error)

    async def _fail(self, error: str, now: datetime) -> None:
        if self.failure is None:
            self.failure = Failure(now, error)
            if self.report is not None:
                page = await asyncio.to_thread(_with_notice, self.report, self.failure)
                if not self._changed.is_set():
                    self.report = page


def _store_of(config: TargetConfig) -> dict[str, Any]:
    """Return the settings by which a target is that of one store and of no other."""
    return config.model_dump(include={"kind", "database", "databases", "dendrite_config", "media_path"})


def _with_daemon(state: TargetState) -> TargetState:
    """Return the state with this daemon, which may have no lock and no heartbeat yet at the time of its first page."""
    if state.status is None or state.status.daemon is not None:
        return state
    return replace(state, status=replace(state.status, daemon=f"{printable(host_name())}, pid {os.getpid()}"))


def _with_notice(page: Page, failure: Failure) -> Page:
    """Return the page with a first line about its age, and the reason why no newer page was computed."""
    html = gzip.decompress(page.compressed).decode()
    notice = (
        f"This page is of {time_in_words(page.at)}. Its computation fails since {time_in_words(failure.since)}: "
        f"{printable(failure.error, _ERROR_LIMIT)}"
    )
    html = _BODY.sub(
        lambda body: f'{body[0]}\n<p role="status"><strong>{escape(notice)}</strong></p>', html, count=1
    )
    return Page(gzip.compress(html.encode(), mtime=0), page.policy, page.at)


def _make_page(reports: list[TargetReport], at: datetime) -> Page:
    html = render(reports, at, __version__)
    return Page(gzip.compress(html.encode(), mtime=0), security_policy() + _IN_NO_FRAME, at)
