"""The findings of an audit for the following repair: in a temporary table, so that memory stays flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.audit import Finding
from retentiond.model.media import Hash, MediaKey

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.model.audit import FindingKind

SQL: Final = named_queries(__package__, "repair.sql")
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
