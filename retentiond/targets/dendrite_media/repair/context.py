"""The context of each step of a repair, and the findings of its audit, in a temporary table: memory stays flat."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, pages
from retentiond.engine.passes import Pace
from retentiond.model.audit import Finding
from retentiond.model.media import Hash, MediaKey
from retentiond.targets.dendrite_media.audit.confirm import Confirmer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import AuditOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.audit import AuditReport, FindingKind
    from retentiond.targets.dendrite_media.audit.contents import ContentOnDisk
    from retentiond.targets.dendrite_media.audit.judge import ContentInDatabase
    from retentiond.targets.dendrite_media.audit.telling import Telling
    from retentiond.targets.dendrite_media.store.context import StoreSession


SQL: Final = named_queries(__package__, "context.sql")
_COLUMNS: Final = (
    "kind", "path", "size", "hash", "media_id", "media_origin", "width", "height", "method"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notes:
    """The findings of one audit."""

    connection: Conn
    page_size: int

    async def make(self) -> None:
        """Begin with an empty table."""
        await self.connection.execute(SQL["drop_findings"])
        await self.connection.execute(SQL["make_findings"])

    async def add(self, findings: Sequence[Finding]) -> None:
        """Add findings."""
        records = [
            (
                finding.kind,
                # Names on the disk are untrusted, and may not be valid text.
                finding.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
                finding.bytes,
                finding.blob,
                *(finding.key or (None, None)),
                *(finding.thumbnail or (None, None, None)),
            )
            for finding in findings
        ]
        await self.connection.copy_records_to_table(
            "finding", schema_name="pg_temp", records=records, columns=_COLUMNS
        )

    async def of_kind(self, kind: FindingKind) -> AsyncGenerator[list[Finding], None]:
        """Yield the findings of one kind, a page at a time."""
        async for page in pages(self.connection, SQL["finding_page"], kind, size=self.page_size, after=(0,)):
            yield [_finding(row, kind) for row in page]


def _finding(row: Record, kind: FindingKind) -> Finding:
    return Finding(
        kind,
        row["path"],
        row["size"],
        key=None if row["media_id"] is None else MediaKey(row["media_id"], row["media_origin"]),
        blob=None if row["hash"] is None else Hash(row["hash"]),
        thumbnail=None if row["width"] is None else (row["width"], row["height"], row["method"]),
    )


@dataclass(frozen=True, slots=True)
class RepairContext:
    """A running repair: the store, the connection and lease of its transactions, and the findings to repair.

    Files changed after `before` (seconds since the epoch) may be in use.
    """

    session: StoreSession
    connection: Conn
    lease: Lease
    notes: Notes
    telling: Telling
    options: AuditOptions
    pass_id: int
    before: float

    @property
    def report(self) -> AuditReport:
        """The report of the repair."""
        return self.telling.report

    async def findings(self, *kinds: FindingKind) -> AsyncIterator[list[Finding]]:
        """Yield the findings of these kinds at the configured pace, until a stop is requested."""
        # A slow pace must not keep a stop waiting.
        pace = Pace(self.session.context.config.pace.max_items_per_second, sleep=self.options.stop.wait)
        for kind in kinds:
            async with aclosing(self.notes.of_kind(kind)) as noted:
                async for page in noted:
                    await pace.take(len(page))
                    if self.options.stop.asked:
                        self.report.leave(kind, "stopped", len(page))
                        continue
                    yield page
                    self.options.progress.advance(len(page))

    async def look(self, blobs: Sequence[Hash]) -> dict[Hash, tuple[ContentInDatabase, ContentOnDisk]]:
        """Look once more, before anything is removed."""
        confirmer = Confirmer(self.session.context, self.session.tree, ledger=True, before=self.before)
        return await confirmer.once(blobs)
