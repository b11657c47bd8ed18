"""The end of a pass: its record in the ledger and the log, and a last sweep if no daemon runs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.ledger.past import has_daemon
from retentiond.model.errors import Refusal
from retentiond.targets.dendrite_media.sweeps.sweep import sweep_store

if TYPE_CHECKING:
    from retentiond.engine.target import AuditOptions, PassOptions
    from retentiond.model.errors import UnreachableError
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.store.context import TargetContext

LAST_SWEEP_AFTER: Final = timedelta(seconds=60)
"""Without a daemon, a pass by hand sweeps once more after this time: dendrite's uploads may take as long."""


async def record_end(context: TargetContext, report: PassReport) -> None:
    """Record the end of a pass in the log and the ledger; without the database, the next start records it."""
    log = get_logger(target=context.name)
    fields = report.as_json()
    if report.refused is not None:
        log.warning("pass_refused", **asdict(report.refused))
    try:
        if report.pass_id is not None:
            await context.ledger.end_pass(context.pool, context.name, report.pass_id, report.state, fields)
        elif report.refused is not None:
            await context.ledger.note_refusal(context.pool, context.name, report.refused)
    except LOST as error:
        log.warning("report_not_recorded", pass_id=report.pass_id, reason=str(error))
    if report.refused is None or report.pass_id is not None:
        fields.pop("target")
        log.info("pass_finished", **fields, error=report.error)


async def note_unreachable(context: TargetContext, error: UnreachableError) -> None:
    """Record, for `status`, that a pass could not begin; without the database nothing can be recorded."""
    found, _, hint = str(error).partition("; ")
    with suppress(*LOST):
        await context.ledger.note_refusal(
            context.pool, context.name, Refusal("unreachable", found, "reachable", hint)
        )


async def end_by_hand(context: TargetContext, order: PassOptions | AuditOptions, *, removed: bool) -> None:
    """Sweep once more if no daemon will: after a removal, once dendrite's time-outs are over.

    A grace or a settle may have ended during the run: a daily job begins just before the grace of the day before is
    over. Without a settle the released files are purged now.
    """
    if context.config.settle == timedelta(0):
        # Files that a dead pass had released are purged as well.
        await sweep_store(context, everything=True, fresh=True)
        return
    if await has_daemon(context.pool):
        return
    if removed and context.config.settle >= LAST_SWEEP_AFTER:
        order.progress.stage("wait", None)
        await order.stop.wait(LAST_SWEEP_AFTER.total_seconds())
    await sweep_store(context, everything=True)
