"""Metrics: counters and gauges of each target, served to Prometheus if that is configured."""

from __future__ import annotations

from math import nan
from platform import python_version
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder

from retentiond import __version__
from retentiond.model.audit import KINDS
from retentiond.model.errors import PASS_LIMITS, FailureKind, PassLimit, PassState, StoreLimit
from retentiond.model.report import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from retentiond.model.audit import AuditReport
    from retentiond.model.limits import Headroom
    from retentiond.model.report import PassReport, SweepReport, TargetStatus

_PREFIX: Final = "retentiond"

_SWEEP: Final = "sweep"
_LIMITS: Final[tuple[PassLimit, ...]] = ("max_share", "max_items", "max_missing_files")

Hindrance = Literal["busy", "error"]
"""Obstacles to a pass other than limits."""


class Metrics:
    """The figures of all targets; the event loop writes and renders them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._expected: set[str] = set()
        self.served = False
        """Whether anybody can ask for them."""
        self._reachable = self._gauge("target_reachable", "Whether the target's database can be reached.")
        self._passes = self._counter("passes", "Passes by their last state.", "state")
        self._refusals = self._counter(
            "refusals", "Passes that a safety limit refused, by the limit.", "limit"
        )
        self._refused = self._gauge(
            "refused", "Whether the newest pass was refused, by the limit; 1 until a pass begins.", "limit"
        )
        self._duration = self._gauge("pass_duration_seconds", "How long the last pass took.")
        self._success = self._gauge(
            "last_success_timestamp_seconds", "When a pass last finished; 0 for never."
        )
        self._removed_items = self._counter("removed_items", "Items that passes took, by policy.", "policy")
        self._removed_bytes = self._counter("removed_bytes", "Bytes that passes took, by policy.", "policy")
        self._purged_blobs = self._counter("purged_blobs", "Contents unlinked for good.")
        self._purged_bytes = self._counter("purged_bytes", "Bytes unlinked for good.")
        self._failures = self._counter("failures", "Items that failed, by kind.", "kind")
        self._found = self._gauge(
            "inconsistencies",
            "What database and disk disagree on, as last seen by a pass or an audit.",
            "kind",
            "by",
        )
        self._holds = self._gauge("holds", "Holds in force.")
        self._problems = self._gauge("problems", "Problems that `status` reports and that need attention.")
        self._swept = self._gauge(
            "last_sweep_timestamp_seconds",
            "When a sweep of the quarantine last ended; before the first, when the daemon took the target up.",
        )
        self._overdue_items = self._gauge(
            "overdue_items", "Items that were due at the last survey and did not go."
        )
        self._overdue_bytes = self._gauge(
            "overdue_bytes",
            "Bytes, as the database records them, that were due at the last survey and did not go.",
        )
        self._overdue_since = self._gauge(
            "overdue_since_timestamp_seconds", "Since when the oldest of them is due; 0 for nothing."
        )
        self._quarantine_items = self._gauge("quarantine_items", "Released rows that can be restored.")
        self._quarantine_bytes = self._gauge("quarantine_bytes", "Bytes in quarantine.")

        self._next_pass = self._gauge(
            "next_pass_timestamp_seconds", "When the next pass is due; 0 for a target without a schedule."
        )
        self._stored_items = self._gauge("stored_items", "Items in the store, when it was last measured.")
        self._stored_bytes = self._gauge(
            "stored_bytes", "Bytes in the store, as the database records them, when it was last measured."
        )
        self._free_bytes = self._gauge(
            "free_bytes", "Free bytes of the store's file system, when a sample was last taken: once a day."
        )
        self._measured = self._gauge(
            "measured_timestamp_seconds", "When the stored items and bytes were last measured; 0 for never."
        )
        self._headroom = self._gauge(
            "limit_headroom_ratio",
            "The part of a limit that the last survey left: 1 for all of it, below 0 for a refused pass.",
            "limit",
        )
        # Of no target: it stays when one is forgotten.
        build = Gauge(
            "build_info",
            "1, with the version of retentiond and of Python.",
            ("version", "python"),
            namespace=_PREFIX,
            registry=self.registry,
        )
        build.labels(__version__, python_version()).set(1)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, ("target", *labels), namespace=_PREFIX, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, ("target", *labels), namespace=_PREFIX, registry=self.registry)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a scrape, in the format that the client accepts."""
        render, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=render(self.registry), headers={"Content-Type": content_type})

    def expect(self, target: str, rules: Iterable[str]) -> None:
        """Begin the counters of a target at 0 for each label that they may have; `rules` are its policies and the like.

        A counter that appears with its first event has not increased for Prometheus, and no alert sees that event.
        """
        for state in get_args(PassState):
            if state != "planned":
                self._passes.labels(target, state)
        for reason in (*PASS_LIMITS, *get_args(Hindrance)):
            self._refusals.labels(target, reason)
        for kind in (*get_args(FailureKind), _SWEEP):
            self._failures.labels(target, kind)
        for rule in rules:
            self._removed_items.labels(target, rule)
            self._removed_bytes.labels(target, rule)
        for counter in (self._purged_blobs, self._purged_bytes):
            counter.labels(target)
        if target not in self._expected:
            # Sweeps that fail from the start are as silent as those that stopped.
            self._expected.add(target)
            self._swept.labels(target).set_to_current_time()
            self._next_pass.labels(target).set(0)
            self._measured.labels(target).set(0)
            # Unknown is not zero, which would be a full disk.
            for gauge in (self._stored_items, self._stored_bytes, self._free_bytes):
                gauge.labels(target).set(nan)
            for limit in _LIMITS:
                self._headroom.labels(target, limit).set(nan)

    def reachable(self, target: str, *, yes: bool) -> None:
        """Note whether a target can be reached."""
        self._reachable.labels(target).set(yes)

    def passed(self, report: PassReport) -> None:
        """Count a started pass and its effects."""
        target = report.target
        self._passes.labels(target, report.state).inc()
        if report.refused is not None:
            self.refused(target, report.refused.limit)
        for policy, tally in report.removed.items():
            self._removed_items.labels(target, policy).inc(tally.items)
            self._removed_bytes.labels(target, policy).inc(tally.bytes)
        for kind, items in report.failed.items():
            self._failures.labels(target, kind).inc(items)
        self.surveyed(target, report.limits)
        if report.refused is None:
            found = {"missing_file": report.missing_file, "orphan_thumbnail_row": report.orphan_thumbnail_row}
            self._note_found(target, "pass", found)
        if report.finished_at is not None:
            self._duration.labels(target).set((report.finished_at - report.started_at).total_seconds())

    def refused(self, target: str, limit: PassLimit | StoreLimit | Hindrance) -> None:
        """Count a pass that could not begin, by its obstacle."""
        self._refusals.labels(target, limit).inc()

    def audited(self, report: AuditReport) -> None:
        """Set the findings of an audit; a kind without findings is 0."""
        if report.refused is None and report.error is None:
            # Contents are read only on request: without a finding their state is unknown.
            seen = (kind for kind in KINDS if kind in report.findings or kind != "hash_mismatch")
            found = {str(kind): report.findings.get(kind, Tally()).items for kind in seen}
            self._note_found(report.target, "audit", found)

    def _note_found(self, target: str, by: str, kinds: Mapping[str, int]) -> None:
        for kind, items in kinds.items():
            self._found.labels(target, kind, by).set(items)

    def swept(self, target: str, report: SweepReport) -> None:
        """Count the purges of a sweep, and its failures."""
        self._swept.labels(target).set_to_current_time()
        self._purged_blobs.labels(target).inc(report.purged)
        self._purged_bytes.labels(target).inc(report.purged_bytes)
        if report.failed:
            self._failures.labels(target, _SWEEP).inc(report.failed)

    def stands(self, status: TargetStatus) -> None:
        """Set the gauges from the ledger's state of a target."""
        target, quarantine, backlog = status.target, status.quarantine, status.backlog
        self._holds.labels(target).set(status.holds)
        self._problems.labels(target).set(len(status.problems))
        if backlog is not None:
            self._overdue_items.labels(target).set(backlog.items)
            self._overdue_bytes.labels(target).set(backlog.bytes)
            self._overdue_since.labels(target).set(_seconds(backlog.since))
        self._success.labels(target).set(_seconds(status.last_success))
        self._note_refused(target, status.last_pass)
        if quarantine is not None:
            self._quarantine_items.labels(target).set(quarantine.items)
            self._quarantine_bytes.labels(target).set(quarantine.bytes)

    def _note_refused(self, target: str, last_pass: Mapping[str, Any] | None) -> None:
        self._refused.remove_by_labels({"target": target})
        refused = (
            last_pass.get("refused") if last_pass is not None and last_pass["state"] == "refused" else None
        )
        if refused is not None:
            self._refused.labels(target, refused["limit"]).set(1)

    def next_passes(self, times: Mapping[str, datetime]) -> None:
        """Set when the next pass of each target is due."""
        for target in self._expected:
            self._next_pass.labels(target).set(_seconds(times.get(target)))

    def measured(self, target: str, at: datetime, stored: Tally, free_bytes: int | None = None) -> None:
        """Set the size of a store; the free bytes of its disk stay as they are where they were not measured."""
        self._stored_items.labels(target).set(stored.items)
        self._stored_bytes.labels(target).set(stored.bytes)
        self._measured.labels(target).set(_seconds(at))
        if free_bytes is not None:
            self._free_bytes.labels(target).set(free_bytes)

    def surveyed(self, target: str, limits: Iterable[Headroom]) -> None:
        """Set how much of each limit a survey left."""
        for limit in limits:
            self._headroom.labels(target, limit.limit).set(1 - limit.used)

    def forget(self, target: str) -> None:
        """Remove a target's metrics."""
        self._expected.discard(target)
        for metric in vars(self).values():
            if isinstance(metric, Gauge | Counter):
                metric.remove_by_labels({"target": target})


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
