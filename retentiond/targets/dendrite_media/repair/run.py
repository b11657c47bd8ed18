"""A repair: an audit under the store's lease, and then the safe repairs of its findings, kind by kind.

All removals follow the protocol: rows are copied into the ledger before they are deleted, files are renamed into the
quarantine, and both have their grace. Findings without a safe repair stay, with the reason.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import connection_to
from retentiond.engine.target import STOPPED
from retentiond.ledger.ledger import PassHeader
from retentiond.model.audit import AuditReport
from retentiond.model.disk_errors import disk_error
from retentiond.model.errors import Refusal
from retentiond.targets.dendrite_media.audit.auditor import Auditor, record_end
from retentiond.targets.dendrite_media.audit.scan import UPLOADS
from retentiond.targets.dendrite_media.audit.telling import Telling
from retentiond.targets.dendrite_media.audit.uploads import look_at_uploads
from retentiond.targets.dendrite_media.database.index import ensure_index
from retentiond.targets.dendrite_media.disk.staging import Staging
from retentiond.targets.dendrite_media.passes.ends import begin, make_safe
from retentiond.targets.dendrite_media.repair.blobs import repair_damaged, repair_missing, repair_orphans
from retentiond.targets.dendrite_media.repair.context import Notes, RepairContext
from retentiond.targets.dendrite_media.repair.thumbnails import repair_thumbnails
from retentiond.targets.dendrite_media.store.context import open_store
from retentiond.targets.dendrite_media.store.safety import refuse_foreign_users
from retentiond.targets.dendrite_media.sweeps.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.config.media import Limits
    from retentiond.engine.target import AuditOptions
    from retentiond.ledger.claims import ClaimOwner
    from retentiond.ledger.lease import Lease
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext


COMMAND = "audit --repair"


async def repair(context: TargetContext, options: AuditOptions, lease: Lease) -> AuditReport:
    """Audit, and repair. A store that does not fit raises RefusedError.

    A refusal because of the findings is in the report.
    """
    report = AuditReport(context.name, datetime.now(UTC))
    async with connection_to(context.settings.database) as connection, open_store(context) as session:
        await make_safe(session, connection)
        await refuse_foreign_users(connection, context.settings.rules.server_names)
        if context.config.create_index:
            await ensure_index(connection, context.name)
        await sweep(session, everything=True)
        await _Repair(session, connection, lease, options, report).run()
    await record_end(context, report, COMMAND)
    return report


class _Repair:
    def __init__(
        self,
        session: StoreSession,
        connection: Conn,
        lease: Lease,
        options: AuditOptions,
        report: AuditReport,
    ) -> None:
        self._session = session
        self._connection = connection
        self._lease = lease
        self._options = options
        self._report = report
        self._notes = Notes(connection, session.context.batch)
        self._telling = Telling(report, options.listen, self._notes.add)

    async def run(self) -> None:
        """Audit, compare the findings with the limits, and repair."""
        session, report = self._session, self._report
        await self._notes.make()
        auditor = Auditor(
            session.context, session.tree, self._connection, self._options, self._telling, ledger=True
        )
        await auditor.run()
        if report.error is not None or not report.findings:
            return
        report.refused = judge_repair(session.context.name, session.context.config.limits, report)
        if report.refused is not None:
            get_logger(target=session.context.name).warning("repair_refused", **asdict(report.refused))
            return
        await self._repair(auditor.before)

    async def _repair(self, before: float) -> None:
        context, report = self._session.context, self._report
        header = PassHeader(
            target=context.name,
            kind="dendrite_media",
            command=COMMAND,
            started_at=report.started_at,
            rules={"repair": True, "drop_damaged_remote": self._options.drop_damaged_remote},
            grace=context.config.grace,
            settle=context.config.settle,
            cutoffs={},
        )
        report.pass_id = await begin(self._session, self._connection, self._lease, header)
        running = RepairContext(
            self._session, self._connection, self._lease, self._notes, self._telling, self._options, report.pass_id,
            before,
        )  # fmt: skip
        self._options.progress.stage("repair", report.found_items)
        # Rows before the files that only they reference, so that each kind leaves nothing for the next audit to find.
        for step in (repair_missing, repair_damaged, repair_orphans, repair_thumbnails, repair_uploads):
            await step(running)
        for kind in ("invalid_hash", "unknown_path"):
            if kind in report.findings:
                report.leave(kind, "only_reported", report.findings[kind].items)
        if self._options.stop.asked:
            report.error = STOPPED
        state = "finished_with_failures" if report.failed.total() else "finished"
        state = "interrupted" if report.error else state
        await context.ledger.end_pass(context.pool, context.name, report.pass_id, state, report.as_json())


def judge_repair(target: str, limits: Limits, report: AuditReport) -> Refusal | None:
    """Compare the findings with the limits: with a wrong, empty or half restored database every blob is an orphan."""
    next_step = f"check that `database` and the media directory belong together; `retentiond audit {target} --list` lists each"
    if not report.rows:
        return Refusal("empty_table", "no rows", "rows", f"the database has no media at all; {next_step}")
    orphans = report.findings["orphan_blob"].items if "orphan_blob" in report.findings else 0
    if report.blobs and orphans / report.blobs > limits.max_share:
        return Refusal(
            "max_share",
            round(orphans / report.blobs, 4),
            limits.max_share,
            f"{orphans} of {report.blobs} files on the disk have no row; {next_step}",
        )
    if report.contents and report.missing_contents / report.contents > limits.max_missing_files:
        return Refusal(
            "max_missing_files",
            round(report.missing_contents / report.contents, 4),
            limits.max_missing_files,
            f"{report.missing_contents} of {report.contents} files in the database are missing on disk; {next_step}",
        )
    return None


async def repair_uploads(running: RepairContext) -> None:
    """Remove the uploads that still are stale."""
    session = running.session
    async for page in running.findings("stale_upload"):
        uploads = await session.context.disk.call(lambda: look_at_uploads(session.tree, running.before))
        still = {finding.path for finding in uploads.findings if finding.kind == "stale_upload"}
        stale = [finding.path for finding in page if finding.path in still]
        running.report.leave("stale_upload", "changed", len(page) - len(stale))
        failed = await session.context.disk.share(_remove(session.tree, session.claimant), stale)
        running.report.repair("stale_upload", len(stale) - len(failed))
        running.telling.fail("not_removed", failed)


def _remove(tree: MediaTree, claimant: ClaimOwner) -> Callable[[Sequence[str]], list[str]]:
    def remove(paths: Sequence[str]) -> list[str]:
        failed = []
        with Staging(tree, claimant.claimant_id) as staging, tree.directory(UPLOADS) as uploads:
            for path in paths:
                claimant.guard.ensure()
                try:
                    staging.take_apart(uploads, path.removeprefix(f"{UPLOADS}/"))
                except OSError as error:
                    failed.append(f"{path}: {disk_error(error)}")
            os.fsync(uploads)
            os.fsync(staging.descriptor)
        return failed

    return remove
