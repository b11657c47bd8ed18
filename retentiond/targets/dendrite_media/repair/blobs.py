"""Repair blobs: rows without a file, files without a row, and, if requested, damaged ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.ledger.records import add_record
from retentiond.model.match import Match, matches
from retentiond.model.media import Hash
from retentiond.targets.dendrite_media.audit.verify import ReadRate, verify_contents
from retentiond.targets.dendrite_media.disk.layout import EntryPath
from retentiond.targets.dendrite_media.disk.look import look_at_blobs
from retentiond.targets.dendrite_media.quarantine.disposal import orphans_record
from retentiond.targets.dendrite_media.quarantine.entries import carry_out
from retentiond.targets.dendrite_media.quarantine.entry_table import intend_orphans
from retentiond.targets.dendrite_media.quarantine.release import Releaser
from retentiond.targets.dendrite_media.surveys.assess import assess, look_at_batch
from retentiond.targets.dendrite_media.surveys.criteria import RemovalCriteria
from retentiond.targets.dendrite_media.surveys.survey import Due

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from retentiond.model.audit import Finding, FindingKind
    from retentiond.model.media import MediaRow
    from retentiond.targets.dendrite_media.audit.contents import ContentOnDisk
    from retentiond.targets.dendrite_media.audit.judge import ContentInDatabase
    from retentiond.targets.dendrite_media.disk.look import BlobLook
    from retentiond.targets.dendrite_media.repair.context import RepairContext
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.asked import Mentions
    from retentiond.targets.dendrite_media.surveys.assess import Assessed


_REMOTE = Match(origin="remote")


def is_remote(context: TargetContext, row: MediaRow) -> bool:
    """Return whether dendrite can fetch the row's media again: a row with a user never is remote."""
    return matches(row, _REMOTE, context.settings.rules.server_names)


class MissingFileCriteria(RemovalCriteria):
    """Remote rows whose file is missing, and that are fetched again once they are deleted.

    No protection applies: there is nothing to lose.
    """

    even_protected = True
    kind: FindingKind = "missing_file"

    def __init__(self, context: TargetContext) -> None:
        self._context = context
        self.references = context.references.only(())

    def name_of(self, due: Due) -> str:
        """Return the finding's kind, in place of a policy."""
        del due
        return self.kind

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the row belongs to another server."""
        del due, mentions
        return is_remote(self._context, row)


class DamagedFileCriteria(MissingFileCriteria):
    """Remote rows whose file is damaged, with a request to delete them; protected ones stay."""

    even_protected = False

    def __init__(self, context: TargetContext, kind: FindingKind, blobs: Collection[Hash]) -> None:
        super().__init__(context)
        self.kind = kind
        self.references = context.references.only(context.references.protections)
        self._blobs = blobs

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the row still belongs to a damaged blob, and to another server."""
        return row.base64hash in self._blobs and super().still_due(row, due, mentions)


async def repair_missing(running: RepairContext) -> None:
    """Release remote rows without a file, so that dendrite fetches them again.

    Files beside it leave with the last row.
    """
    async for page in running.findings("missing_file"):
        looks = await running.look(_blobs(page))
        missing = [
            row for known, seen in looks.values() if seen.file_missing and not known.whole_held
            for row in known.rows
        ]  # fmt: skip
        noted = {finding.key for finding in page}
        rows = {row.key: row for row in missing if row.key in noted}
        remote = [row for row in rows.values() if is_remote(running.session.context, row)]
        running.report.leave("missing_file", "local", len(rows) - len(remote))
        running.report.leave("missing_file", "changed", len(page) - len(rows))
        batch = await _assess(running, "missing_file", remote)
        still = [item for item in batch if not item.look.has_file]
        running.report.leave("missing_file", "changed", len(batch) - len(still))
        await _release(running, "missing_file", still, MissingFileCriteria(running.session.context))


async def repair_damaged(running: RepairContext) -> None:
    """Delete damaged remote blobs if requested: a damaged file blocks every new download and upload of it."""
    kinds: tuple[FindingKind, ...] = ("size_mismatch", "hash_mismatch")
    if not running.options.drop_damaged_remote:
        for kind in kinds:
            if kind in running.report.findings:
                running.report.leave(kind, "damaged", running.report.findings[kind].items)
        return
    for kind in kinds:
        dropped: set[Hash] = set()
        async for noted in running.findings(kind):
            # The rows of one blob are released together, also if its findings are on two pages.
            page = [finding for finding in noted if finding.blob not in dropped]
            looks = await running.look(_blobs(page))
            wrong = await _read_wrong(running, list(looks)) if kind == "hash_mismatch" else looks.keys()
            blobs = {
                blob for blob, (known, seen) in looks.items()
                if blob in wrong and _all_damaged(running, kind, known, seen)
            }  # fmt: skip
            dropped = blobs
            running.report.leave(kind, "local_bears_it", sum(finding.blob not in blobs for finding in page))
            rows = [row for blob in sorted(blobs) for row in looks[blob][0].rows]
            batch = await _assess(running, kind, rows)
            await _release(running, kind, batch, DamagedFileCriteria(running.session.context, kind, blobs))


def _all_damaged(
    running: RepairContext, kind: FindingKind, known: ContentInDatabase, seen: ContentOnDisk
) -> bool:
    """Return whether no row of the blob is local, or right about the file."""
    if known.whole_held or seen.file is None or not known.rows:
        return False
    if kind == "size_mismatch" and any(
        row.file_size_bytes <= 0 or row.file_size_bytes == seen.file.size for row in known.rows
    ):
        return False
    return all(is_remote(running.session.context, row) for row in known.rows)


async def _read_wrong(running: RepairContext, blobs: list[Hash]) -> Collection[Hash]:
    verify = verify_contents(running.session.tree, ReadRate(running.options.read_rate), running.options.stop)
    done = await running.session.context.disk.call(lambda: verify(blobs))
    return {item.blob for item in done if item.verdict == "wrong"}


def _blobs(page: Sequence[Finding]) -> list[Hash]:
    return sorted({finding.blob for finding in page if finding.blob is not None})


async def _assess(running: RepairContext, kind: FindingKind, rows: Sequence[MediaRow]) -> list[Assessed]:
    """Look at the files to be moved; leave those that must not or cannot be."""
    due = [Due(_hash(row), row.key, 0, None) for row in sorted(rows, key=lambda row: row.base64hash)]
    goes = []
    looks = await look_at_batch(running.session.tree, running.session.context.disk, due)
    for item in await assess(due, looks):
        if item.goes:
            goes.append(item)
        else:
            running.report.leave(kind, item.kept or item.failed or "changed")
    return goes


def _hash(row: MediaRow) -> Hash:
    # It was valid when the audit looked up the blob by it.
    return Hash(row.base64hash)


async def _release(
    running: RepairContext, kind: FindingKind, batch: Sequence[Assessed], criteria: RemovalCriteria
) -> None:
    if not batch:
        return
    releaser = Releaser(running.session, running.connection, running.lease, running.pass_id, criteria)
    released = await releaser.release(batch)
    running.report.repair(kind, len(released.gone))
    running.report.leave(kind, "kept", len(released.changed))
    moves = await carry_out(running.session, [intent.entry for intent in released.intents])
    running.report.repair(kind, -len(moves.taken_back))
    running.report.fail("not_moved", moves.failed)


async def repair_orphans(running: RepairContext) -> None:
    """Quarantine blobs without a row, after a last look at the database; young ones stay, by ctime, too."""
    async for page in running.findings("orphan_blob"):
        looks = await running.look(_blobs(page))
        still = [seen for known, seen in looks.values() if not known.rows and not known.whole_held]
        old = [seen.blob for seen in still if seen.changed <= running.before]
        running.report.leave("orphan_blob", "changed", len(page) - len(still))
        running.report.leave("orphan_blob", "young", len(still) - len(old))
        movable = await running.session.context.disk.share(look_at_blobs(running.session.tree), old)
        await _quarantine(running, movable)


async def _quarantine(running: RepairContext, looks: Sequence[BlobLook]) -> None:
    reasons = {"missing": "changed", "unsafe": "unsafe_path", "failed": "not_movable"}
    for look in looks:
        if look.result != "present":
            running.report.leave("orphan_blob", reasons[look.result])
    present = [look for look in looks if look.result == "present"]
    context = running.session.context
    async with running.connection.transaction():
        await running.lease.check(running.connection)
        rows = await intend_orphans(running.connection, running.session, running.pass_id, present)
        if rows:
            await add_record(running.connection, orphans_record(context.name, running.pass_id, rows))
    moves = await carry_out(
        running.session, [EntryPath(running.pass_id, row["hash"], row["entry_id"]) for row in rows]
    )
    running.report.repair("orphan_blob", moves.quarantined)
    running.report.leave("orphan_blob", "changed", len(present) - moves.quarantined - moves.failed)
    running.report.fail("not_moved", moves.failed)
