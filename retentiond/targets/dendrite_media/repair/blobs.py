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
from retentiond.targets.dendrite_media.surveys.assess import assess
from retentiond.targets.dendrite_media.surveys.survey import Due

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from retentiond.model.audit import Finding, FindingKind
    from retentiond.model.facts import Facts
    from retentiond.model.media import MediaRow
    from retentiond.targets.dendrite_media.audit.contents import ContentOnDisk
    from retentiond.targets.dendrite_media.audit.judge import ContentInDatabase
    from retentiond.targets.dendrite_media.disk.look import BlobLook
    from retentiond.targets.dendrite_media.repair.context import RepairContext
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.assess import Assessed
    from retentiond.targets.dendrite_media.surveys.criteria import RemovalCriteria
    from retentiond.targets.dendrite_media.surveys.mentioned import Mentions


_REMOTE = Match(origin="remote")


def is_remote(context: TargetContext, row: MediaRow) -> bool:
    """Return whether dendrite can fetch the row's media again: a row with a user never is remote."""
    return matches(row, _REMOTE, context.settings.rules.server_names)


class MissingFileCriteria:
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

    async def mentions_again(self, rows: Collection[MediaRow], copy: int | None) -> Mentions:
        """Return nothing: the row is enough."""
        del rows, copy
        return {}

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the row belongs to another server."""
        del due, mentions
        return is_remote(self._context, row)

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return None: no reference matters."""
        del row, due
        return None


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


async def mend_missing(bench: RepairContext) -> None:
    """Release remote rows without a file, so that dendrite fetches them again.

    Files beside it leave with the last row.
    """
    async for page in bench.findings("missing_file"):
        looks = await bench.look(_blobs(page))
        missing = [
            row for known, seen in looks.values() if seen.file_missing and not known.whole_held
            for row in known.rows
        ]  # fmt: skip
        noted = {finding.key for finding in page}
        rows = {row.key: row for row in missing if row.key in noted}
        remote = [row for row in rows.values() if is_remote(bench.session.context, row)]
        bench.report.leave("missing_file", "local", len(rows) - len(remote))
        bench.report.leave("missing_file", "changed", len(page) - len(rows))
        batch = await _assess(bench, "missing_file", remote)
        still = [item for item in batch if not item.look.has_file]
        bench.report.leave("missing_file", "changed", len(batch) - len(still))
        await _release(bench, "missing_file", still, MissingFileCriteria(bench.session.context))


async def mend_damaged(bench: RepairContext) -> None:
    """Delete damaged remote blobs if requested: a damaged file blocks every new download and upload of it."""
    kinds: tuple[FindingKind, ...] = ("size_mismatch", "hash_mismatch")
    if not bench.order.drop_damaged_remote:
        for kind in kinds:
            if kind in bench.report.findings:
                bench.report.leave(kind, "damaged", bench.report.findings[kind].items)
        return
    for kind in kinds:
        dropped: set[Hash] = set()
        async for noted in bench.findings(kind):
            # The rows of one blob are released together, also if its findings are on two pages.
            page = [finding for finding in noted if finding.blob not in dropped]
            looks = await bench.look(_blobs(page))
            wrong = await _read_wrong(bench, list(looks)) if kind == "hash_mismatch" else looks.keys()
            blobs = {
                blob for blob, (known, seen) in looks.items()
                if blob in wrong and _all_damaged(bench, kind, known, seen)
            }  # fmt: skip
            dropped = blobs
            bench.report.leave(kind, "local_bears_it", sum(finding.blob not in blobs for finding in page))
            rows = [row for blob in sorted(blobs) for row in looks[blob][0].rows]
            batch = await _assess(bench, kind, rows)
            await _release(bench, kind, batch, DamagedFileCriteria(bench.session.context, kind, blobs))


def _all_damaged(
    bench: RepairContext, kind: FindingKind, known: ContentInDatabase, seen: ContentOnDisk
) -> bool:
    """Return whether no row of the blob is local, or right about the file."""
    if known.whole_held or seen.file is None or not known.rows:
        return False
    if kind == "size_mismatch" and any(
        row.file_size_bytes <= 0 or row.file_size_bytes == seen.file.size for row in known.rows
    ):
        return False
    return all(is_remote(bench.session.context, row) for row in known.rows)


async def _read_wrong(bench: RepairContext, blobs: list[Hash]) -> Collection[Hash]:
    verify = verify_contents(bench.session.tree, ReadRate(bench.order.read_rate), bench.order.stop)
    done = await bench.session.context.disk.call(lambda: verify(blobs))
    return {item.blob for item in done if item.verdict == "wrong"}


def _blobs(page: Sequence[Finding]) -> list[Hash]:
    return sorted({finding.blob for finding in page if finding.blob is not None})


async def _assess(bench: RepairContext, kind: FindingKind, rows: Sequence[MediaRow]) -> list[Assessed]:
    """Look at the files to be moved; leave those that must not or cannot be."""
    due = [Due(_hash(row), row.key, 0, None) for row in sorted(rows, key=lambda row: row.base64hash)]
    goes = []
    for item in await assess(bench.session.tree, bench.session.context.disk, due):
        if item.goes:
            goes.append(item)
        else:
            bench.report.leave(kind, item.kept or item.failed or "changed")
    return goes


def _hash(row: MediaRow) -> Hash:
    # It was valid when the audit looked up the blob by it.
    return Hash(row.base64hash)


async def _release(
    bench: RepairContext, kind: FindingKind, batch: Sequence[Assessed], ground: RemovalCriteria
) -> None:
    if not batch:
        return
    releaser = Releaser(bench.session, bench.connection, bench.lease, bench.pass_id, ground)
    released = await releaser.release(batch)
    bench.report.repair(kind, len(released.gone))
    bench.report.leave(kind, "kept", len(released.changed))
    moves = await carry_out(bench.session, [intent.entry for intent in released.intents])
    bench.report.repair(kind, -len(moves.taken_back))
    bench.report.fail("not_moved", moves.failed)


async def mend_orphans(bench: RepairContext) -> None:
    """Quarantine blobs without a row, after a last look at the database; young ones stay, by ctime, too."""
    async for page in bench.findings("orphan_blob"):
        looks = await bench.look(_blobs(page))
        still = [seen for known, seen in looks.values() if not known.rows and not known.whole_held]
        old = [seen.blob for seen in still if seen.changed <= bench.before]
        bench.report.leave("orphan_blob", "changed", len(page) - len(still))
        bench.report.leave("orphan_blob", "young", len(still) - len(old))
        movable = await bench.session.context.disk.share(look_at_blobs(bench.session.tree), old)
        await _quarantine(bench, movable)


async def _quarantine(bench: RepairContext, looks: Sequence[BlobLook]) -> None:
    reasons = {"missing": "changed", "unsafe": "unsafe_path", "failed": "not_movable"}
    for look in looks:
        if look.result != "present":
            bench.report.leave("orphan_blob", reasons[look.result])
    present = [look for look in looks if look.result == "present"]
    context = bench.session.context
    async with bench.connection.transaction():
        await bench.lease.check(bench.connection)
        rows = await intend_orphans(bench.connection, bench.session, bench.pass_id, present)
        if rows:
            await add_record(bench.connection, orphans_record(context.name, bench.pass_id, rows))
    moves = await carry_out(
        bench.session, [EntryPath(bench.pass_id, row["hash"], row["entry_id"]) for row in rows]
    )
    bench.report.repair("orphan_blob", moves.quarantined)
    bench.report.leave("orphan_blob", "changed", len(present) - moves.quarantined - moves.failed)
    bench.report.fail("not_moved", moves.failed)
