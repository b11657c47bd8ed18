"""An audit: database against disk, both ways, in one pass over each; it changes nothing but its record in the ledger."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import read_only_connection
from retentiond.engine.target import STOPPED
from retentiond.ledger.past import save_audit
from retentiond.model.audit import AuditReport, Finding
from retentiond.targets.dendrite_media.audit.confirm import Confirmer, Looked
from retentiond.targets.dendrite_media.audit.database import Contents, invalid_hashes, orphan_thumbnail_rows
from retentiond.targets.dendrite_media.audit.judge import is_whole, wrong_hash
from retentiond.targets.dendrite_media.audit.scan import list_levels, scan_run
from retentiond.targets.dendrite_media.audit.telling import Telling
from retentiond.targets.dendrite_media.audit.uploads import look_at_uploads
from retentiond.targets.dendrite_media.audit.verify import ReadRate, verify_contents
from retentiond.targets.dendrite_media.store.context import open_media
from retentiond.targets.dendrite_media.store.safety import check_belonging

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from retentiond.adapters.disk import DiskWorkers
    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import AuditOptions
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.audit.database import Expected
    from retentiond.targets.dendrite_media.audit.scan import Levels, OddPath, ScannedRun, Shelf
    from retentiond.targets.dendrite_media.audit.verify import Verified
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext

YOUNG: Final = timedelta(days=1)
"""A file newer than this before the start of an audit is no orphan: its row may still be written."""
_SUSPECTS: Final = 500
_READ_AT_ONCE: Final = 512
_READERS: Final = 2
_BLOBS_A_RUN: Final = 4000
# About 20 MB; the database sorts for some seconds before it returns the first blob.
_RUNS_AHEAD: Final = 12


class Auditor:
    """One audit of an open directory; `connection` is its own, for the temporary table."""

    def __init__(
        self,
        context: TargetContext,
        tree: MediaTree,
        connection: Conn,
        options: AuditOptions,
        telling: Telling,
        *,
        ledger: bool,
    ) -> None:
        self._context = context
        self._tree = tree
        self._connection = connection
        self._options = options
        self._telling = telling
        self._report = telling.report
        self.before = ((options.now or datetime.now(UTC)) - YOUNG).timestamp()
        self._confirmer = Confirmer(context, tree, ledger=ledger, before=self.before)
        self._rate = ReadRate(options.read_rate)
        self._suspects: list[Hash] = []

    async def run(self) -> None:
        """Audit all; each finding is reported as soon as it is confirmed."""
        levels = await self._context.disk.call(lambda: list_levels(self._tree))
        async with ScansAhead(self._tree, self._context.disk, levels.shelves) as scans:
            await self._compare(scans, levels)
        if self._options.stop.asked:
            self._report.error = STOPPED

    async def _compare(self, scans: ScansAhead, levels: Levels) -> None:
        report, progress = self._report, self._options.progress
        progress.stage("read the database", None)
        contents = Contents(self._connection)
        report.contents, report.rows = await contents.read()
        await self._tell_of_rows()
        await self._tell_odd(levels.odd, levels.unreadable)
        if levels.has_uploads:
            uploads = await self._context.disk.call(lambda: look_at_uploads(self._tree, self.before))
            self._telling.fail("unreadable", uploads.unreadable)
            await self._telling.tell(uploads.findings)
        progress.stage("audit", report.contents)
        async with aclosing(merge(scans, contents)) as stretches:
            async for compared in stretches:
                if self._options.stop.asked:
                    return
                await self._take(compared)
                progress.advance(compared.contents)
        while self._suspects:
            await self._look_at_suspects()

    async def _tell_of_rows(self) -> None:
        """Report the findings that the database alone shows."""
        async for finding in invalid_hashes(self._connection):
            self._report.rows += 1
            await self._telling.tell([finding])
        async for rows in orphan_thumbnail_rows(self._connection):
            found = [
                Finding("orphan_thumbnail_row", bytes=max(row.size, 0), detail=row.thumbnail.name, key=row.key,
                        thumbnail=row.thumbnail)
                for row in rows
            ]  # fmt: skip
            await self._telling.tell(found)

    async def _tell_odd(self, odd: Iterable[tuple[str, int]], unreadable: list[str]) -> None:
        self._telling.fail("unreadable", unreadable)
        await self._telling.tell([Finding("unknown_path", path, size) for path, size in odd])

    async def _take(self, compared: Compared) -> None:
        self._report.blobs += compared.blobs
        await self._tell_odd(compared.odd, compared.unreadable)
        if self._options.verify_content and compared.fitting:
            await self._verify(compared.fitting)
        self._suspects += compared.suspects
        while len(self._suspects) >= _SUSPECTS:
            await self._look_at_suspects()

    async def _look_at_suspects(self) -> None:
        suspects, self._suspects = self._suspects[:_SUSPECTS], self._suspects[_SUSPECTS:]
        looked = await self._confirmer.look(suspects)
        await self._tell_looked(looked)
        if self._options.verify_content and looked.whole:
            await self._verify(looked.whole)

    async def _tell_looked(self, looked: Looked) -> None:
        self._telling.fail("unreadable", [f"{seen.path}: {seen.unreadable}" for seen in looked.unreadable])
        missing = {finding.blob for finding in looked.findings if finding.kind == "missing_file"}
        self._report.missing_contents += len(missing)
        await self._telling.tell(looked.findings)

    async def _verify(self, blobs: list[Hash]) -> None:
        for start in range(0, len(blobs), _READ_AT_ONCE):
            wrong = await self._read(blobs[start : start + _READ_AT_ONCE])
            if wrong:
                await self._confirm_wrong(wrong)

    async def _confirm_wrong(self, blobs: list[Hash]) -> None:
        """Read the suspects again, on the disk and in the database."""
        wrong = await self._read(blobs)
        looks = await self._confirmer.once(wrong)
        for known, seen in looks.values():
            if is_whole(known, seen):
                await self._telling.tell(wrong_hash(known, seen))

    async def _read(self, blobs: list[Hash]) -> list[Hash]:
        verify = verify_contents(self._tree, self._rate, self._options.stop)
        # The threads take the blobs from one iterator: a large file does not keep the other waiting.
        remaining = iter(blobs)
        shares = await self._context.disk.share(lambda _: [verify(remaining)], range(_READERS))
        done: list[Verified] = sorted(item for share in shares for item in share)
        unreadable = [item for item in done if item.verdict == "unreadable"]
        self._telling.fail("unreadable", [f"{item.blob}: {item.problem}" for item in unreadable])
        return [item.blob for item in done if item.verdict == "wrong"]


async def audit(context: TargetContext, options: AuditOptions) -> AuditReport:
    """Audit the store, and report. Raise RefusedError if database and directory do not belong together."""
    report = AuditReport(context.name, datetime.now(UTC))
    async with read_only_connection(context.settings.database) as connection:
        opened = await open_media(context, connection)
        if isinstance(opened, str):
            get_logger(target=context.name).info("no_media_yet", reason=opened)
            return await _ended(context, report, options)
        with opened as tree:
            belonging = await check_belonging(context, connection, tree)
            telling = Telling(report, options.listen)
            await Auditor(context, tree, connection, options, telling, ledger=belonging.ledger).run()
    return await _ended(context, report, options)


async def _ended(context: TargetContext, report: AuditReport, options: AuditOptions) -> AuditReport:
    await record_end(context, report, options.command)
    return report


async def record_end(context: TargetContext, report: AuditReport, command: str) -> None:
    """Record the end of the audit in the log, and in the ledger, if there is one.

    An interrupted audit is not recorded.
    """
    report.finished_at = datetime.now(UTC)
    fields = report.as_json()
    if report.error is None and await context.ledger.exists(context.pool):
        await save_audit(context.pool, context.name, command, report.started_at, report.finished_at, fields)
    fields.pop("target")
    get_logger(target=context.name).info("audit_finished", **fields, command=command)


@dataclass(slots=True)
class Compared:
    """A stretch of the merge: equal blobs, suspects, and other findings of the scan."""

    contents: int = 0
    blobs: int = 0
    fitting: list[Hash] = field(default_factory=list)
    suspects: list[Hash] = field(default_factory=list)
    odd: list[OddPath] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


async def merge(scans: ScansAhead, contents: Contents) -> AsyncGenerator[Compared, None]:
    """Merge both sides to their ends."""
    while (scanned := await scans.next()) is not None:
        there = scanned.blobs
        unreadable = scanned.unreadable + [blob for blob, files in there.items() if files is None]
        blobs = sum(files != "" for files in there.values())
        yield Compared(blobs=blobs, odd=scanned.odd, unreadable=unreadable)
        async for page in contents.up_to(scanned.last):
            yield _compare(page, there)
        # The rest has no row; an empty directory holds nothing that could be an orphan.
        yield Compared(suspects=[blob for blob, files in there.items() if files])
    async for page in contents.up_to(None):
        yield _compare(page, {})


def _compare(page: Sequence[Expected], there: dict[Hash, str | None]) -> Compared:
    compared = Compared(contents=len(page))
    for expected in page:
        files = there.pop(expected.blob, "")
        if files is not None:
            (compared.fitting if files == expected.files else compared.suspects).append(expected.blob)
    return compared


class ScansAhead:
    """The scan, running in the background while the database still sorts; it waits when enough is scanned ahead."""

    def __init__(self, tree: MediaTree, disk: DiskWorkers, shelves: Sequence[Shelf]) -> None:
        self._tree = tree
        self._disk = disk
        self._shelves = shelves
        self._scanned: asyncio.Queue[ScannedRun | Exception | None] = asyncio.Queue(_RUNS_AHEAD)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Scan all shelves in their order, a run at a time."""
        start = 0
        try:
            while start < len(self._shelves):
                scan = partial(scan_run, self._tree, self._shelves, start, _BLOBS_A_RUN)
                scanned = await self._disk.call(scan)
                start += scanned.shelves
                await self._scanned.put(scanned)
        except Exception as error:  # noqa: BLE001 - `next` raises it
            await self._scanned.put(error)
        else:
            await self._scanned.put(None)

    async def next(self) -> ScannedRun | None:
        """Return the next run, once it is scanned; None after the last. Raise the error that ended the scan."""
        scanned = await self._scanned.get()
        if isinstance(scanned, Exception):
            raise scanned
        return scanned
