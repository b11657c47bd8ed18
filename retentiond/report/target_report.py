"""All that a page says about one target, collected by its capabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from retentiond.config.next_run import next_run
from retentiond.engine.capabilities import HasRecords, HasSamples, HasStatistics, HasUsage, NamesRooms
from retentiond.model.text import instant
from retentiond.model.usage import MOST_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from retentiond.config.schedule import Schedule
    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import Progress, Target
    from retentiond.model.notices import Sent
    from retentiond.model.records import Link
    from retentiond.model.report import QuarantineSummary, TargetStatus
    from retentiond.model.statistics import StoreStatistics
    from retentiond.model.usage import Sample, UsageBy, UsageRow

MOST_KEYS: Final = 10
"""The largest keys of a division that the page shows."""


@dataclass(frozen=True, slots=True)
class TargetReport:
    """A target's state, statistics, samples, and the largest parts of each division; `rooms` are the names of rooms.

    With an error in its state all else is empty.
    """

    state: TargetState
    statistics: StoreStatistics | None = None
    usage: Mapping[UsageBy, Sequence[UsageRow]] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    rooms: Mapping[str, str] = field(default_factory=dict)
    newest_record: Link | None = None
    last_notice: Sent | None = None


async def collect(target: Target, config: TargetConfig, now: datetime, progress: Progress) -> TargetReport:
    """Collect the report of a target, without changes; raise RetentiondError if it cannot be read."""
    rooms: Mapping[str, str] = {}
    state = reached(config, await target.status(), now)
    statistics = await target.statistics(progress) if isinstance(target, HasStatistics) else None
    usage: dict[UsageBy, Sequence[UsageRow]] = dict(statistics.usage) if statistics is not None else {}
    if isinstance(target, HasUsage) and not usage:
        for by in target.divisions:
            usage[by] = await target.usage(by, MOST_ROWS, progress)
    if isinstance(target, NamesRooms) and "room" in usage:
        rooms = await target.room_names([row.key for row in usage["room"][:MOST_KEYS]])
    return TargetReport(
        state,
        statistics,
        usage,
        await target.samples() if isinstance(target, HasSamples) else (),
        rooms,
        await target.newest_record() if isinstance(target, HasRecords) else None,
    )


def unreadable(name: str, config: TargetConfig, error: str) -> TargetReport:
    """Return the report of a target that could not be read, and why."""
    return TargetReport(TargetState(name, config.kind, config.schedule, error=error))


@dataclass(frozen=True, slots=True)
class LastPass:
    """The newest pass that the ledger knows; without a report it is still running, or it died."""

    state: str
    started_at: datetime
    account: Mapping[str, Any]

    @property
    def removed(self) -> tuple[int, int] | None:
        """Items and bytes that it took, where its report says so."""
        return self._tally("removed")

    @property
    def not_reached(self) -> tuple[int, int] | None:
        """Items and bytes that it found due and did not reach; None without such items."""
        tally = self._tally("not_reached")
        return tally if tally and tally[0] else None

    def _tally(self, name: str) -> tuple[int, int] | None:
        tally = self.account.get(name)
        return (int(tally["items"]), int(tally["bytes"])) if isinstance(tally, Mapping) else None


@dataclass(frozen=True, slots=True)
class TargetState:
    """The state of a target from its ledger, or the error that hides it."""

    target: str
    kind: str
    schedule: Schedule | None
    status: TargetStatus | None = None
    next_pass: datetime | None = None
    error: str | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems that keep the target from working."""
        return self.status.problems if self.status else (self.error or "cannot be reached",)

    @property
    def last_pass(self) -> LastPass | None:
        """The newest pass, if there was one."""
        row = self.status.last_pass if self.status else None
        return None if row is None else _read(row)

    @property
    def quarantine(self) -> QuarantineSummary | None:
        """The contents of the quarantine, if they are known."""
        return self.status.quarantine if self.status else None

    def as_json(self) -> dict[str, Any]:
        """Return the whole state; unknown values are null."""
        last_pass, quarantine = self.last_pass, self.quarantine
        return {
            "target": self.target,
            "kind": self.kind,
            "ledger": self.status.ledger if self.status else None,
            "last_pass": dict(last_pass.account) if last_pass else None,
            "next_pass": instant(self.next_pass) if self.next_pass else None,
            "backlog": self.status.backlog.as_json() if self.status and self.status.backlog else None,
            "quarantine": quarantine.as_json() if quarantine else None,
            "holds": self.status.holds if self.status else None,
            "holder": self.status.holder if self.status else None,
            "daemon": self.status.daemon if self.status else None,
            **self._stores(),
            "problems": list(self.problems),
            "error": self.error,
        }

    def _stores(self) -> dict[str, Any]:
        """Return the key `stores`, of a target that has some beside its database."""
        stores = self.status.stores if self.status else ()
        return {"stores": [store.as_json() for store in stores]} if stores else {}


def reached(config: TargetConfig, status: TargetStatus, now: datetime) -> TargetState:
    """Return the state of a target that answered."""
    state = TargetState(status.target, status.kind, config.schedule, status)
    if config.schedule is None:
        return state
    last = state.last_pass
    due = next_run(config.schedule, last.started_at if last else None, now)
    return TargetState(status.target, status.kind, config.schedule, status, due)


def _read(row: Mapping[str, Any]) -> LastPass:
    """Join the ledger's row of a pass with the report in it."""
    report = row.get("report")
    report = json.loads(report) if isinstance(report, str) else report or {}
    columns = {
        name: instant(value) if isinstance(value, datetime) else value
        for name, value in row.items()
        if name != "report"
    }
    return LastPass(str(row["state"]), _moment(row["started_at"]), {**report, **columns})


def _moment(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def status_document(states: Iterable[TargetState]) -> dict[str, Any]:
    """Return the document of `status --json`."""
    return {"targets": [state.as_json() for state in states]}
