"""An audit that only reports: it changes nothing but its record in the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import read_only_connection
from retentiond.ledger.past import note_audit
from retentiond.model.audit import AuditReport
from retentiond.targets.dendrite_media.audit.auditor import Auditor
from retentiond.targets.dendrite_media.audit.telling import Telling
from retentiond.targets.dendrite_media.store.check import check_belonging
from retentiond.targets.dendrite_media.store.fresh import open_media

if TYPE_CHECKING:
    from retentiond.engine.target import AuditOptions
    from retentiond.targets.dendrite_media.store.context import TargetContext


async def audit(context: TargetContext, order: AuditOptions) -> AuditReport:
    """Audit the store, and report. Raise RefusedError if database and directory do not belong together."""
    report = AuditReport(context.name, datetime.now(UTC))
    async with read_only_connection(context.settings.database) as connection:
        opened = await open_media(context, connection)
        if isinstance(opened, str):
            get_logger(target=context.name).info("no_media_yet", reason=opened)
            return await _ended(context, report, order)
        with opened as tree:
            belonging = await check_belonging(context, connection, tree)
            telling = Telling(report, order.listen)
            await Auditor(context, tree, connection, order, telling, ledger=belonging.ledger).run()
    return await _ended(context, report, order)


async def _ended(context: TargetContext, report: AuditReport, order: AuditOptions) -> AuditReport:
    await record_end(context, report, order.command)
    return report


async def record_end(context: TargetContext, report: AuditReport, command: str) -> None:
    """Record the end of the audit in the log, and in the ledger, if there is one.

    An interrupted audit is not recorded.
    """
    report.finished_at = datetime.now(UTC)
    fields = report.as_json()
    if report.error is None and await context.ledger.exists(context.pool):
        await note_audit(context.pool, context.name, command, report.started_at, report.finished_at, fields)
    fields.pop("target")
    get_logger(target=context.name).info("audit_finished", **fields, command=command)
