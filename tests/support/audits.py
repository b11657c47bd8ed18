"""An audit of a test's own store, as of a time at which all its files are old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from retentiond.engine.target import AuditOptions

if TYPE_CHECKING:
    from retentiond.model.audit import AuditReport, Finding
    from tests.support.media_target import Retention

WHEN_ALL_IS_OLD = timedelta(days=2)
"""A file's ctime cannot be set back; so the audit is told a later present."""


async def one_audit(
    retention: Retention,
    *,
    in_future: timedelta = WHEN_ALL_IS_OLD,
    keys: dict[str, Any] | None = None,
    **order: Any,
) -> tuple[AuditReport, list[Finding]]:
    """Audit, and return its findings, too; `keys` are the configuration's."""
    findings: list[Finding] = []
    now = datetime.now(UTC) + in_future
    command = "audit --repair" if order.get("repair") else "audit"
    async with retention.opened(**(keys or {})) as target:
        report = await target.audit(AuditOptions(command, listen=findings.append, now=now, **order))
    assert sum(tally.items for tally in report.findings.values()) == len(findings)
    return report, findings


async def one_repair(retention: Retention, **order: Any) -> AuditReport:
    """Repair; its last sweep is not waited for."""
    # With a settle of less than a minute a repair by hand does not wait for dendrite's time-outs.
    keys = {"settle": "5s"} | order.pop("keys", {})
    report, _ = await one_audit(retention, repair=True, keys=keys, **order)
    return report


def counts(report: AuditReport) -> dict[str, int]:
    """How many findings there are of each kind."""
    return {kind: tally.items for kind, tally in report.findings.items()}
