"""An audit that reports: it looks, tells, and changes nothing but the ledger's note of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import looking
from retentiond.ledger.ledger import SQL as LEDGER_SQL
from retentiond.model.audit import AuditReport
from retentiond.targets.dendrite_media.audit.auditor import Auditor
from retentiond.targets.dendrite_media.audit.telling import Telling
from retentiond.targets.dendrite_media.store.belonging import check_belonging
from retentiond.targets.dendrite_media.store.fresh import open_media

if TYPE_CHECKING:
    from retentiond.engine.target import AuditOrder
    from retentiond.targets.dendrite_media.store.workplace import Place


async def audit(place: Place, order: AuditOrder) -> AuditReport:
    """Look at all, and report. Raises RefusedError where database and directory do not belong together."""
    report = AuditReport(place.name, datetime.now(UTC))
    async with looking(place.settings.database) as connection:
        opened = await open_media(place, connection)
        if isinstance(opened, str):
            get_logger(target=place.name).info("no_media_yet", reason=opened)
            return await _ended(place, report, order)
        with opened as tree:
            belonging = await check_belonging(place, connection, tree)
            telling = Telling(report, order.listen)
            await Auditor(place, tree, connection, order, telling, ledger=belonging.ledger).run()
    return await _ended(place, report, order)


async def _ended(place: Place, report: AuditReport, order: AuditOrder) -> AuditReport:
    await record_end(place, report, order.command)
    return report


async def record_end(place: Place, report: AuditReport, command: str) -> None:
    """Tell the log how the audit ended, and the ledger, if there is one: an audit that was cut short is none."""
    report.finished_at = datetime.now(UTC)
    fields = report.as_json()
    if report.error is None and await place.ledger.exists(place.pool):
        await place.pool.execute(
            LEDGER_SQL["note_audit"],
            place.name,
            command,
            report.started_at,
            report.finished_at,
            json.dumps(fields),
        )
    fields.pop("target")
    get_logger(target=place.name).info("audit_finished", **fields, command=command)
