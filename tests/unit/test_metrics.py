"""The figures for monitoring: what each event of a target makes of them, and how they are served."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from structlog.testing import capture_logs

from retentiond.adapters.metrics import Metrics, MetricsListener
from retentiond.model.audit import AuditReport, Finding
from retentiond.model.errors import Refusal
from retentiond.model.report import Backlog, PassReport, QuarantineSummary, SweepReport, Tally, TargetStatus
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path)
    yield running
    await running.close()


@pytest.fixture
def listener(metrics: Metrics) -> Iterator[MetricsListener]:
    opened = MetricsListener(metrics)
    try:
        yield opened
    finally:
        opened.close()


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
    assert _value(metrics, "quarantine_bytes") == 70


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


def _fetch(port: int | None) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_the_figures_are_served_where_the_configuration_says(
    metrics: Metrics, listener: MetricsListener
) -> None:
    listener.adopt(("127.0.0.1", 0))
    metrics.reachable("media", yes=True)
    assert 'retentiond_target_reachable{target="media"} 1.0' in _fetch(listener.port)
    while_served = metrics.served
    listener.adopt(None)
    assert listener.port is None
    assert (while_served, metrics.served) == (True, False)


def test_a_target_with_a_hostile_policy_name_does_not_break_the_page(
    metrics: Metrics, listener: MetricsListener
) -> None:
    report = _report()
    report.remove('a"} 1\nretentiond_up 0 # \\', 1)
    metrics.passed(report)
    listener.adopt(("127.0.0.1", 0))
    assert "\nretentiond_up" not in _fetch(listener.port)


@pytest.mark.timeout(20)
def test_a_client_that_asks_nothing_is_hung_up_on(
    listener: MetricsListener, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("retentiond.adapters.metrics._Handler.timeout", 0.01)
    listener.adopt(("127.0.0.1", 0))
    with socket.create_connection(("127.0.0.1", listener.port or 0)) as client:
        client.sendall(b"GET /metr")
        assert client.recv(1) == b""
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_an_error_in_the_log_and_nothing_worse(listener: MetricsListener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, capture_logs() as log:
        listener.adopt(("127.0.0.1", taken.getsockname()[1]))
    assert [entry["event"] for entry in log if entry["log_level"] == "error"] == ["metrics_not_served"]
    assert listener.port is None


async def test_the_daemon_lives_on_where_the_port_is_in_use(daemon: RunningDaemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.configure(metrics={"listen": f"127.0.0.1:{taken.getsockname()[1]}"}, media=media())
        daemon.begin()
        await daemon.until(lambda: daemon.told("READY=1") == 1)
        assert daemon.entries("metrics_not_served")
        assert await daemon.stop() == 0


async def test_the_daemon_serves_how_its_targets_stand(daemon: RunningDaemon) -> None:
    daemon.configure(metrics={"listen": "127.0.0.1:0"}, media=media())
    daemon.begin()
    await daemon.until(lambda: daemon.entries("metrics_served"))
    port = int(daemon.entries("metrics_served")[0]["listen"].rpartition(":")[2])
    page = ""
    while "retentiond_last_success_timestamp_seconds{" not in page:
        page = await asyncio.to_thread(_fetch, port)
    assert 'retentiond_target_reachable{target="media"} 1.0' in page
    daemon.configure(media=media())
    await daemon.reload()
    with pytest.raises(URLError):
        await asyncio.to_thread(_fetch, port)
    assert await daemon.stop() == 0
