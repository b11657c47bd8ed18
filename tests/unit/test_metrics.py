"""The figures for monitoring: the effect of each event of a target on them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isnan
from platform import python_version
from typing import Any

import pytest
from prometheus_client import generate_latest

from retentiond import __version__
from retentiond.adapters.metrics import Metrics
from retentiond.model.audit import AuditReport, Finding
from retentiond.model.errors import Refusal
from retentiond.model.limits import Headroom
from retentiond.model.report import Backlog, PassReport, QuarantineSummary, SweepReport, Tally, TargetStatus

_BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"retentiond_{name}", {"target": "media"} | labels)


def _report() -> PassReport:
    report = PassReport("media", "dendrite_media", dry_run=False, started_at=_BEGAN)
    report.state = "finished_with_failures"
    report.finished_at = _BEGAN + timedelta(seconds=90)
    report.remove("remote", 3, 100)
    report.failed["not_moved"] = 2
    report.missing_file = 1
    return report


def test_a_pass_counts_what_it_took_by_policy_and_what_failed_by_kind(metrics: Metrics) -> None:
    metrics.passed(_report())
    metrics.passed(_report())
    assert _value(metrics, "passes_total", state="finished_with_failures") == 2
    assert _value(metrics, "removed_items_total", policy="remote") == 6
    assert _value(metrics, "removed_bytes_total", policy="remote") == 200
    assert _value(metrics, "failures_total", kind="not_moved") == 4
    assert _value(metrics, "pass_duration_seconds") == 90


def test_inconsistencies_are_as_last_seen_and_not_added_up(metrics: Metrics) -> None:
    metrics.passed(_report())
    mended = _report()
    mended.missing_file = 0
    metrics.passed(mended)
    assert _value(metrics, "inconsistencies", kind="missing_file", by="pass") == 0


def test_an_audit_says_0_of_what_it_did_not_find_and_leaves_what_passes_saw(metrics: Metrics) -> None:
    metrics.passed(_report())
    audit = AuditReport("media", _BEGAN)
    audit.add(Finding("orphan_blob", bytes=7))
    metrics.audited(audit)
    metrics.audited(AuditReport("media", _BEGAN))
    assert _value(metrics, "inconsistencies", kind="orphan_blob", by="audit") == 0
    assert _value(metrics, "inconsistencies", kind="missing_file", by="pass") == 1


def test_an_audit_that_ended_early_says_nothing_of_what_it_did_not_see(metrics: Metrics) -> None:
    metrics.audited(AuditReport("media", _BEGAN, error="the disk is gone"))
    assert _value(metrics, "inconsistencies", kind="orphan_blob", by="audit") is None


def test_a_refusal_is_counted_by_its_limit_and_says_nothing_of_inconsistencies(metrics: Metrics) -> None:
    metrics.passed(_report())
    refused = PassReport("media", "dendrite_media", dry_run=False, started_at=_BEGAN, state="refused")
    refused.refused = Refusal("max_share", 0.7, 0.5, "look at the plan")
    metrics.passed(refused)
    assert _value(metrics, "refusals_total", limit="max_share") == 1
    assert _value(metrics, "inconsistencies", kind="missing_file", by="pass") == 1


def test_a_target_is_refused_until_a_pass_begins_by_the_limit_that_refuses_it(metrics: Metrics) -> None:
    def stands(last_pass: dict[str, Any]) -> None:
        metrics.stands(TargetStatus("media", "dendrite_media", ledger=True, last_pass=last_pass))

    stands({"state": "refused", "refused": {"limit": "max_share"}})
    assert _value(metrics, "refused", limit="max_share") == 1
    stands({"state": "refused", "refused": {"limit": "clock_leapt"}})
    assert (
        _value(metrics, "refused", limit="max_share"),
        _value(metrics, "refused", limit="clock_leapt"),
    ) == (
        None,
        1,
    )
    stands({"state": "finished", "refused": None})
    assert _value(metrics, "refused", limit="clock_leapt") is None


def test_sweeps_that_never_end_have_a_beginning_to_alert_from_that_no_reload_puts_off(
    metrics: Metrics,
) -> None:
    metrics.expect("media", ["remote"])
    assert _value(metrics, "last_sweep_timestamp_seconds")
    metrics._swept.labels("media").set(5)
    metrics.expect("media", ["remote", "local"])
    assert _value(metrics, "last_sweep_timestamp_seconds") == 5
    metrics.forget("media")
    metrics.expect("media", ["remote"])
    assert _value(metrics, "last_sweep_timestamp_seconds") != 5


def test_sweeps_count_what_they_purged(metrics: Metrics) -> None:
    metrics.swept("media", SweepReport(purged=2, purged_bytes=50, failed=1))
    assert _value(metrics, "purged_blobs_total") == 2
    assert _value(metrics, "purged_bytes_total") == 50
    assert _value(metrics, "failures_total", kind="sweep") == 1


def test_a_status_tells_the_last_success_and_what_is_in_quarantine(metrics: Metrics) -> None:
    quarantine = QuarantineSummary(5, {"quarantined": Tally(2, 70), "purging": Tally(1, 9)}, None)
    metrics.stands(
        TargetStatus("media", "dendrite_media", ledger=True, quarantine=quarantine, last_success=_BEGAN)
    )
    assert _value(metrics, "last_success_timestamp_seconds") == _BEGAN.timestamp()
    assert _value(metrics, "quarantine_items") == 5
    assert _value(metrics, "quarantine_bytes") == 79


def test_the_backlog_tells_how_much_is_overdue_and_since_when(metrics: Metrics) -> None:
    backlog = Backlog(_BEGAN, 4, 90, _BEGAN - timedelta(days=3))
    metrics.stands(TargetStatus("media", "dendrite_media", ledger=True, holds=2, backlog=backlog))
    assert _value(metrics, "overdue_items") == 4
    assert _value(metrics, "overdue_bytes") == 90
    assert _value(metrics, "overdue_since_timestamp_seconds") == (_BEGAN - timedelta(days=3)).timestamp()
    assert _value(metrics, "holds") == 2


def test_a_target_that_never_had_a_success_says_0_so_that_alerts_see_it(metrics: Metrics) -> None:
    metrics.stands(TargetStatus("media", "dendrite_media", ledger=False))
    assert _value(metrics, "last_success_timestamp_seconds") == 0


def test_a_target_that_is_gone_is_not_told_of_any_more(metrics: Metrics) -> None:
    metrics.passed(_report())
    metrics.reachable("media", yes=True)
    metrics.forget("media")
    assert _value(metrics, "passes_total", state="finished_with_failures") is None
    assert _value(metrics, "target_reachable") is None


def test_the_name_of_a_hostile_policy_adds_no_line(metrics: Metrics) -> None:
    report = _report()
    report.remove('a"} 1\nretentiond_up 0 # \\', 1)
    metrics.passed(report)
    assert b"\nretentiond_up" not in generate_latest(metrics.registry)


def test_the_size_of_a_store_is_unknown_and_not_zero_until_it_is_measured(metrics: Metrics) -> None:
    metrics.expect("media", ["remote"])
    unknown = [_value(metrics, name) for name in ("stored_items", "stored_bytes", "free_bytes")]
    assert all(value is not None and isnan(value) for value in unknown)
    assert _value(metrics, "measured_timestamp_seconds") == 0
    metrics.measured("media", _BEGAN, Tally(3, 70), 9)
    # The report measures the store, and not the disk.
    metrics.measured("media", _BEGAN + timedelta(days=1), Tally(4, 80))
    assert _value(metrics, "stored_items") == 4
    assert _value(metrics, "stored_bytes") == 80
    assert _value(metrics, "free_bytes") == 9
    assert _value(metrics, "measured_timestamp_seconds") == (_BEGAN + timedelta(days=1)).timestamp()
    metrics.expect("media", ["remote", "local"])
    assert _value(metrics, "stored_items") == 4


def test_a_survey_says_how_much_of_each_limit_is_left(metrics: Metrics) -> None:
    metrics.expect("media", ["remote"])
    report = _report()
    report.limits = (Headroom("max_share", 0.1, 0.5), Headroom("max_items", 30, 20))
    metrics.passed(report)
    assert _value(metrics, "limit_headroom_ratio", limit="max_share") == pytest.approx(0.8)
    assert _value(metrics, "limit_headroom_ratio", limit="max_items") == pytest.approx(-0.5)
    left = _value(metrics, "limit_headroom_ratio", limit="max_missing_files")
    assert left is not None
    assert isnan(left)


def test_the_next_pass_is_a_time_and_zero_without_one(metrics: Metrics) -> None:
    metrics.expect("media", ["remote"])
    metrics.next_passes({"media": _BEGAN, "unknown": _BEGAN})
    assert _value(metrics, "next_pass_timestamp_seconds") == _BEGAN.timestamp()
    metrics.next_passes({})
    assert _value(metrics, "next_pass_timestamp_seconds") == 0
    assert (
        metrics.registry.get_sample_value("retentiond_next_pass_timestamp_seconds", {"target": "unknown"})
        is None
    )


def test_the_build_outlives_the_targets(metrics: Metrics) -> None:
    metrics.expect("media", ["remote"])
    metrics.forget("media")
    labels = {"version": __version__, "python": python_version()}
    assert metrics.registry.get_sample_value("retentiond_build_info", labels) == 1
    assert b'target="media"' not in generate_latest(metrics.registry)
