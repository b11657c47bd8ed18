"""A dry run: the plan of a pass now, counted. It changes nothing: no row, no file, no schema, no index."""

from __future__ import annotations

import sys
from array import array
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from retentiond.adapters.postgres import named_queries, read_only_connection, translate_errors
from retentiond.engine.target import Stop
from retentiond.model.errors import RefusedError
from retentiond.model.report import PassReport
from retentiond.targets.dendrite_media.database.rows import key_columns
from retentiond.targets.dendrite_media.passes.plan import Plan
from retentiond.targets.dendrite_media.quarantine.release import BatchReleaser, ReleasedBatch
from retentiond.targets.dendrite_media.quotas.space import shortage_in_plan
from retentiond.targets.dendrite_media.store.context import PlanContext, open_media
from retentiond.targets.dendrite_media.store.safety import check_belonging
from retentiond.targets.dendrite_media.surveys.gone import (
    forget_gone,
    free_thumbnails,
    freed_thumbnails,
    make_gone,
    note_gone,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.errors import Refusal
    from retentiond.model.media import Hash, MediaKey
    from retentiond.model.quota import Quota
    from retentiond.model.report import Item
    from retentiond.model.request import Request
    from retentiond.targets.dendrite_media.disk.layout import Thumbnail
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.assess import Assessed
    from retentiond.targets.dendrite_media.surveys.criteria import SurveyCriteria

SQL: Final = named_queries(__package__, "plan.sql")
FILTER_SQL: Final = named_queries(__package__, "blob_filter.sql")
_BITS: Final = 1 << 23
_MOST: Final = 500_000
"""With more blobs the bitmap would leave out too few rows to be worth its time."""


class Witness(Protocol):
    """A reader of a plan's temporary tables, called at its end."""

    async def __call__(self, connection: Conn, tree: MediaTree, *, ledger: bool) -> None:
        """Read the facts; without a ledger there are no holds and no restored items."""


async def plan(
    context: TargetContext,
    listen: Callable[[Item], None] | None,
    progress: Progress,
    request: Request | None = None,
    witness: Witness | None = None,
    run: Callable[[PlanContext, Request | None], DryRun] | None = None,
) -> PassReport:
    """Survey the store and look at the due rows; refusals are reported, and the counts are as complete as possible.

    A `witness` is called at the end, while the plan's connection still has its temporary tables. `run` makes the dry
    run, in place of one of the whole store.
    """
    report = PassReport(context.name, "dendrite_media", dry_run=True, started_at=datetime.now(UTC))
    async with read_only_connection(context.settings.database) as connection:
        with translate_errors("the database"):
            opened = await open_media(context, connection)
            if isinstance(opened, str):
                report.remarks.append(opened)
            else:
                with opened as tree:
                    try:
                        about = await _begin(context, connection, tree, listen, progress)
                        await (run or DryRun)(about, request).count(report)
                        await _warn_of_encryption(about, request, report)
                        if witness is not None:
                            await witness(connection, tree, ledger=about.ledger)
                    except RefusedError as error:
                        report.refused = error.refusal
    report.state = "refused" if report.refused else "planned"
    report.finished_at = datetime.now(UTC)
    return report


async def _begin(
    context: TargetContext, connection: Conn, tree: MediaTree, listen: Callable[[Item], None] | None,
    progress: Progress,
) -> PlanContext:  # fmt: skip
    """Check the store as a pass does, and begin a plan at this moment."""
    belonging = await check_belonging(context, connection, tree)
    now = await connection.fetchval("SELECT clock_timestamp()")
    return PlanContext(
        context, tree, connection, now, progress, Stop(), dry=True, ledger=belonging.ledger, first=belonging.first,
        listen=listen,
    )  # fmt: skip


async def _warn_of_encryption(about: PlanContext, request: Request | None, report: PassReport) -> None:
    if request is None or request.kind != "room":
        return
    encryption = await about.target.hold_references.encryption(about.connection, request.name)
    if encryption == "encrypted":
        report.remarks.append(
            "the room is encrypted: references in its messages cannot be read, and their media stay"
        )
    elif encryption == "unknown":
        report.remarks.append("it is unknown whether the room is encrypted: media in encrypted messages stay")


class DryRun(Plan):
    """The plan, counted: each removal of it notes the rows that a pass would have removed by then."""

    _copy: int | None = None
    _evicting = False
    _noting = True
    """Whether a later removal, or its list, asks for the rows of this one."""

    async def count(self, report: PassReport) -> None:
        """Count all removals, beyond the limits, too."""
        plan, connection = self._plan, self._connection
        self._copy = await self._criteria.references.copy_for_plan(connection)
        if plan.ledger:
            await self._context.hold_references.copy_for_plan(connection)
        await make_gone(connection)
        settings = self._context.settings
        self._noting = self._request is None and bool(settings.quotas or settings.rules.thumbnail_policies)
        report.refused = await self.survey(report)
        report.ownership = self._criteria.ownership()
        await self.remove(report)
        if settings.quotas and self._request is None and plan.listen is not None:
            await self._tell_the_rest(report)

    async def _tell_the_rest(self, report: PassReport) -> None:
        """Read the rows once more for the list alone.

        Rows that quotas remove are listed already, all others are not.
        """
        again = PassReport(self._context.name, report.kind, dry_run=True, started_at=report.started_at)
        await forget_gone(self._connection)
        self._noting = False
        self._listen = self._plan.listen
        await self._survey_first(again)
        removal = await self._removal(self._criteria, self._survey, again, self._accesses, self._plan.listen)
        await removal.run()

    @asynccontextmanager
    async def _references(self, references: References, begun_after: datetime) -> AsyncIterator[int | None]:
        del references, begun_after
        yield self._copy

    async def _note_backlog(self) -> None:
        """Record nothing."""

    async def _read_holds(self, begun_after: datetime) -> None:
        """Hear nothing: they were read at the beginning."""

    def _refuse(self, refusal: Refusal | None, report: PassReport) -> None:
        report.refused = report.refused or refusal

    async def _shortage(self, quota: Quota, report: PassReport) -> int:
        plan = self._plan
        return await shortage_in_plan(
            self._context, plan.tree, self._connection, quota, report, ledger=plan.ledger
        )

    async def _begin_eviction(self, quota: Quota, short: int, report: PassReport) -> None:
        """Note from now on that quotas remove the rows."""
        del quota, short, report
        self._evicting = True

    async def _releaser(self, criteria: SurveyCriteria, report: PassReport) -> DryReleaser:
        if not criteria.newest:
            near = await due_blobs_filter(self._connection, 1)
            await self._connection.execute(SQL["drop_bearers"])
            counting = SQL["count_bearers"].replace("{near}", near.condition)
            await self._connection.execute(counting, *near.arguments)
            await self._connection.execute(SQL["sort_bearers"])
        return DryReleaser(self._connection, criteria, report, self._note if self._noting else None)

    async def _note(self, keys: Sequence[MediaKey]) -> None:
        await note_gone(self._connection, keys, evicted=self._evicting)


class _Bearers(NamedTuple):
    """The number of rows that still have a blob, and the number removed before."""

    rows: int = 0
    gone: int = 0


class DryReleaser(BatchReleaser):
    """Finds the outcome of a release, a batch at a time, and changes nothing; the batches are sorted by hash."""

    def __init__(
        self,
        connection: Conn,
        criteria: SurveyCriteria,
        report: PassReport,
        note: Callable[[Sequence[MediaKey]], Awaitable[None]] | None,
    ) -> None:
        self._connection = connection
        self._criteria = criteria
        self._report = report
        self._note = note
        self._blob: Hash | None = None
        self._going = 0

    async def freed(self, blobs: Collection[Hash]) -> Mapping[Hash, Collection[Thumbnail]]:
        """Return the thumbnails of these blobs that an earlier removal has counted."""
        return {} if self._criteria.newest else await freed_thumbnails(self._connection, blobs)

    async def release(self, batch: Sequence[Assessed]) -> ReleasedBatch:
        """Return the rows as gone, with the bytes that leave with the last row of each blob."""
        if self._criteria.newest:
            leaving = await free_thumbnails(self._connection, batch, self._criteria.newest)
            return ReleasedBatch(list(batch), leaving=leaving)
        leaving = await self._leaving(batch)
        keys = [item.due.key for item in batch]
        if self._note is not None:
            await self._note(keys)
        if self._report.ownership is not None:
            counts = await self._connection.fetch(SQL["uploaders"], *key_columns(keys))
            self._report.ownership.removed.update({row["user_id"]: row["items"] for row in counts})
        return ReleasedBatch(list(batch), leaving=leaving)

    async def _leaving(self, batch: Sequence[Assessed]) -> dict[Hash, int]:
        bearers = await self._bearers({item.due.blob for item in batch})
        leaving = {}
        for item in batch:
            blob = item.due.blob
            if blob != self._blob:
                self._blob, self._going = blob, 0
            self._going += 1
            rows, gone = bearers[blob]
            if self._going == 1 and rows > 1 and not gone:
                self._report.shared_blobs += 1
            if self._going == rows:
                leaving[blob] = item.look.bytes
                self._report.shared_blobs -= rows + gone > 1
        return leaving

    async def _bearers(self, blobs: Collection[Hash]) -> defaultdict[Hash, _Bearers]:
        rows = await self._connection.fetch(SQL["bearers_of"], sorted(blobs))
        found = ((row["hash"], _Bearers(row["rows"], row["gone"])) for row in rows)
        return defaultdict(_Bearers, found)


class BlobFilter(NamedTuple):
    """A condition on rows `m` of the media table, and the arguments of its parameter."""

    condition: str
    arguments: tuple[bytes, ...]


async def due_blobs_filter(connection: Conn, parameter: int) -> BlobFilter:
    """Return the filter of this connection's due blobs; its parameter has that number."""
    (found,) = await connection.fetch(FILTER_SQL["due_bits"], _BITS - 1, _MOST + 1)
    bits = array("i", found["bits"] or b"")
    if len(bits) > _MOST:
        return BlobFilter("true", ())
    if sys.byteorder == "little":
        bits.byteswap()
    bitmap = bytearray(_BITS // 8)
    for bit in bits:
        bitmap[bit >> 3] |= 1 << (bit & 7)
    condition = (
        FILTER_SQL["in_bitmap"].replace("{bitmap}", f"${parameter}::bytea").replace("{mask}", str(_BITS - 1))
    )
    return BlobFilter(condition, (bytes(bitmap),))
