"""A target's report as the page shows it: words, rows and plots; bounded in size, however large the store is."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from retentiond.model.forecast import forecast_full
from retentiond.model.report import Tally
from retentiond.model.statistics import StoreStatistics
from retentiond.model.usage import DIVISIONS, OTHERS, UsageRow
from retentiond.report.plots import (
    AGES,
    MOST_DAYS,
    Plot,
    days_of,
    free_series,
    plot_ages,
    plot_days,
    plot_free,
    plot_stored,
    together,
)
from retentiond.report.sentences import (
    describe_disk,
    describe_shorter,
    find_troubles,
    forecast_in_words,
)
from retentiond.report.target_report import MOST_KEYS
from retentiond.terminal.words import count_in_words, schedule_in_words, size_in_words, time_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from retentiond.model.report import QuarantineSummary
    from retentiond.model.statistics import AgeCurve, Slice
    from retentiond.model.usage import Sample, UsageBy
    from retentiond.report.plots import Day
    from retentiond.report.target_report import TargetReport

_MOST_ROWS: Final = 60
"""The newest rows of a table of days; fewer on a page with several targets."""
_FEWEST_ROWS: Final = 14
_FEWEST_DAYS: Final = 60
_MOST_CURVES: Final = 50
_MOST_STORES: Final = 20
_TITLES: Final[Mapping[UsageBy, str]] = {
    "server": "Servers",
    "room": "Rooms",
    "user": "Users",
    "type": "Types",
    "age": "Ages",
    "file": "Largest files",
    "account": "Accounts",
    "month": "Months",
    "department": "Departments",
}
if set(_TITLES) != set(DIVISIONS):
    raise TypeError("report/view.py: _TITLES must have each division of a store, and no other")
_MOODS: Final = {
    "good": "working",
    "warn": "needs attention",
    "bad": "cannot be read",
    "none": "no pass yet",
}


class TargetView:
    """A target as the page shows it, one of so many. Names in it are untrusted, and are cut and escaped by the page."""

    def __init__(self, report: TargetReport, now: datetime, targets: int = 1) -> None:
        self._most_days = max(MOST_DAYS // targets, _FEWEST_DAYS)
        self._most_rows = max(_MOST_ROWS // targets, _FEWEST_ROWS)
        self._report = report
        self._now = now
        self.name = report.state.target
        self.kind = report.state.kind
        self.error = report.state.error
        self.newest_record = report.newest_record
        self.described = report.statistics is not None
        self.statistics = report.statistics or StoreStatistics(self.name, self.kind, now, Tally())
        self.troubles = find_troubles(report, now)
        self.passed = report.state.last_pass is not None
        self.mood = "good" if self.passed else "none"
        if self.troubles:
            self.mood = "bad" if self.error is not None else "warn"
        self.verdict = _MOODS[self.mood]
        self.kept = sorted(self.statistics.kept.items(), key=lambda pair: (-pair[1], pair[0]))

    @property
    def quarantine(self) -> QuarantineSummary | None:
        """The contents of the quarantine, of a target that has one."""
        return self._report.state.quarantine

    @property
    def last_pass(self) -> str:
        """The last pass in a few words."""
        last = self._report.state.last_pass
        if last is None:
            return "not known" if self.error is not None else "none yet"
        return f"{last.state.replace('_', ' ')}, {time_in_words(last.started_at)}"

    @property
    def next_pass(self) -> str:
        """The next pass in a few words."""
        state = self._report.state
        if state.next_pass is None:
            return schedule_in_words(state.schedule) if state.error is None else "not known"
        return time_in_words(state.next_pass) if state.next_pass > self._now else "due now"

    @cached_property
    def facts(self) -> list[tuple[str, str]]:
        """The state, a line for each fact."""
        state, status = self._report.state, self._report.state.status
        if status is None:
            return []
        facts = [("last pass", self._describe_last_pass())]
        if status.last_success is not None:
            facts.append(("last pass that finished", time_in_words(status.last_success)))
        schedule = schedule_in_words(state.schedule)
        facts.append(("next pass", schedule if state.next_pass is None else f"{self.next_pass} ({schedule})"))
        facts.append(("backlog", self._describe_backlog()))
        if status.last_audit is not None:
            found = sum(int(tally["items"]) for tally in status.last_audit["findings"].values())
            facts.append(
                (
                    "last audit",
                    f"{time_in_words(status.last_audit['finished_at'])}: {count_in_words(found, 'finding')}",
                )
            )
        facts.append(
            ("holds", f"{count_in_words(status.holds, 'hold')} in force" if status.holds else "none")
        )
        facts.append(("running now", status.holder or "nothing"))
        facts.append(("daemon", status.daemon or "not running"))
        facts += [
            (store.store, f"{store.account}: {store.state} since {time_in_words(store.since)}")
            for store in status.stores[:_MOST_STORES]
        ]
        facts.append(("last notice", self._describe_notice()))
        return facts

    def _describe_notice(self) -> str:
        sent = self._report.last_notice
        if sent is None:
            return "none known: only a running daemon knows its notices, since its start"
        return f"{time_in_words(sent.at)} by {sent.channel}: {sent.notice.summary}"

    def _describe_last_pass(self) -> str:
        last = self._report.state.last_pass
        if last is None:
            return "none yet"
        words = self.last_pass
        if last.removed is not None:
            items, size = last.removed
            words += f": {count_in_words(items, 'item')} deleted, {size_in_words(size)}"
        if last.not_reached is not None:
            items, size = last.not_reached
            words += f"; not reached: {count_in_words(items, 'item')}, {size_in_words(size)}"
        return words

    def _describe_backlog(self) -> str:
        backlog = self._report.state.status.backlog if self._report.state.status else None
        if backlog is None:
            return "not known before the first pass"
        if not backlog.items:
            return f"nothing was due and left, {time_in_words(backlog.at)}"
        since = f", the oldest since {time_in_words(backlog.since)}" if backlog.since else ""
        return f"{count_in_words(backlog.items, 'item')} due and not deleted, {size_in_words(backlog.bytes)}{since}"

    @cached_property
    def _free(self) -> list[tuple[date, int]]:
        return free_series(self._report.samples)

    @property
    def free(self) -> int | None:
        """The free bytes of the newest sample that has them."""
        return self._free[-1][1] if self._free else None

    @property
    def database(self) -> int | None:
        """The size of the database by the newest sample."""
        return self._report.samples[-1].database_bytes if self._report.samples else None

    @property
    def sampled(self) -> str:
        """The day of the newest sample."""
        return f"{self._report.samples[-1].day}" if self._report.samples else ""

    @property
    def full(self) -> str:
        """When the disk is full, in a few words."""
        return forecast_in_words(forecast_full(self._free, self._now.date())) if self._free else ""

    @property
    def disk(self) -> list[str]:
        """When the disk is full, in sentences."""
        return describe_disk(self._free, self._now.date())

    @property
    def shorter(self) -> list[tuple[str, int, str]]:
        """When the disk is full with shorter ages."""
        return describe_shorter(self._free, self._now.date(), self.statistics)

    @cached_property
    def plots(self) -> dict[str, Plot]:
        """The plots by the names of their figures."""
        if self.error is not None:
            return {}
        plots = {
            "stored": plot_stored(self._report.samples, "item", self._most_days),
            "free": plot_free(self._report.samples, self._now.date(), self._most_days),
            "ages": plot_ages(self.statistics.curves, "item"),
            "days": plot_days(self._days, self._now.date(), "item", quarantine=self.quarantine is not None),
        }
        return {name: plot for name, plot in plots.items() if plot is not None}

    @cached_property
    def _days(self) -> list[Day]:
        return days_of(self.statistics.freed, self._report.samples)

    @property
    def day_rows(self) -> list[Day]:
        """The newest days with deletions."""
        return self._days[: -self._most_rows - 1 : -1]

    @property
    def sample_rows(self) -> list[Sample]:
        """The newest samples."""
        return list(self._report.samples[: -self._most_rows - 1 : -1])

    @cached_property
    def classes(self) -> list[str]:
        """The origin classes in the samples."""
        return sorted(
            {name for sample in self._report.samples[-self._most_rows :] for name in sample.classes}
        )

    @property
    def sized(self) -> bool:
        """Whether items have sizes."""
        return self.statistics.total.bytes > 0 or not self.statistics.total.items

    @cached_property
    def usage(self) -> list[tuple[UsageBy, str, list[tuple[str, str, UsageRow, float]]]]:
        """The divisions of the store: name, title, and rows of label, key, part, and length of the bar in percent."""
        found: dict[UsageBy, Sequence[UsageRow]] = {}
        old: tuple[tuple[UsageBy, Sequence[Slice]], ...] = (
            ("server", self.statistics.by_origin),
            ("type", self.statistics.by_type),
            ("age", self.statistics.by_age),
        )
        for by, slices in old:
            if slices:
                found[by] = [UsageRow(part.name, part.items, part.bytes) for part in slices]
        found |= self._report.usage
        return [(by, _TITLES[by], self._rows(by, rows)) for by, rows in found.items()]

    def _rows(self, by: UsageBy, rows: Sequence[UsageRow]) -> list[tuple[str, str, UsageRow, float]]:
        named = [row for row in rows if row.key != OTHERS]
        rest = [row for row in rows if row.key == OTHERS] + named[MOST_KEYS:]
        shown = named[:MOST_KEYS]
        longest = max((self._length(row) for row in shown), default=0) or 1
        if rest and by != "file":
            shown.append(UsageRow(OTHERS, sum(row.items for row in rest), sum(row.bytes for row in rest)))
        result = []
        for row in shown:
            room = self._report.rooms.get(row.key) if by == "room" else None
            label, key = (room, row.key) if room else (row.key, "")
            result.append((label, key, row, min(100 * self._length(row) / longest, 100)))
        return result

    def _length(self, row: UsageRow) -> int:
        return row.bytes if self.sized else row.items

    @cached_property
    def curve_rows(self) -> list[tuple[AgeCurve, str, Tally | None, list[Tally]]]:
        """The policies, and all of them at the same age: setting, outcome today, outcome at each age of the table."""
        curves = list(self.statistics.curves[:_MOST_CURVES])
        rows = [
            (
                curve,
                "forever" if curve.keep is None else count_in_words(curve.keep, "day"),
                None if curve.keep is None else curve.older_than(curve.keep),
                [curve.older_than(age) for age in AGES],
            )
            for curve in curves
        ]
        if len(curves) > 1:
            everything = together(self.statistics.curves)
            now = [curve.older_than(curve.keep) for curve in self.statistics.curves if curve.keep is not None]
            total = Tally(sum(one.items for one in now), sum(one.bytes for one in now))
            rows.append((everything, "as set", total, [everything.older_than(age) for age in AGES]))
        return rows
