"""A plan: the effects of a pass now. It changes nothing: no row, no file, no schema, no index."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from retentiond.adapters.postgres import named_queries, read_only_connection, translate_errors
from retentiond.model.errors import RefusedError
from retentiond.model.quota import disk_shortage
from retentiond.model.report import Item, PassReport
from retentiond.targets.dendrite_media.database.rows import SQL as MEDIA_SQL
from retentiond.targets.dendrite_media.database.rows import key_columns
from retentiond.targets.dendrite_media.disk.look import file_missing
from retentiond.targets.dendrite_media.quotas.criteria import Chooser, QuotaCriteria
from retentiond.targets.dendrite_media.quotas.space import (
    free_now,
    ineffective_remark,
    ineffective_since,
    read_space,
)
from retentiond.targets.dendrite_media.quotas.survey import SQL as QUOTA_SQL
from retentiond.targets.dendrite_media.store.check import check_belonging
from retentiond.targets.dendrite_media.store.context import open_media
from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
from retentiond.targets.dendrite_media.surveys.assess import Assessed, assess
from retentiond.targets.dendrite_media.surveys.criteria import criteria_of
from retentiond.targets.dendrite_media.surveys.plan_context import PlanContext
from retentiond.targets.dendrite_media.surveys.survey import SQL as DUE_SQL
from retentiond.targets.dendrite_media.surveys.thumbnails import freed_thumbnails, make_gone_thumbnails
from retentiond.targets.dendrite_media.views.plan_thumbnails import plan_thumbnails

if TYPE_CHECKING:
    from collections.abc import Callable

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import Hash
    from retentiond.model.quota import Quota
    from retentiond.model.request import Request
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.check import StoreCheck
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.criteria import SurveyCriteria
    from retentiond.targets.dendrite_media.surveys.survey import Survey

SQL: Final = named_queries(__package__, "plan.sql")


async def plan(
    context: TargetContext,
    listen: Callable[[Item], None] | None,
    progress: Progress,
    request: Request | None = None,
    witness: Witness | None = None,
) -> PassReport:
    """Survey the store and look at the due rows; refusals are reported, and the counts are as complete as possible.

    A `witness` is called at the end, while the plan's connection still has its temporary tables.
    """
    report = PassReport(context.name, "dendrite_media", dry_run=True, started_at=datetime.now(UTC))
    async with read_only_connection(context.settings.database) as connection:
        with translate_errors("the database"):
            opened = await open_media(context, connection)
            if isinstance(opened, str):
                report.remarks.append(opened)
            else:
                with opened as tree:
                    planner = _Planner(context, connection, tree, report, progress, request)
                    await planner.look_at_store(listen, witness)
    report.state = "refused" if report.refused else "planned"
    report.finished_at = datetime.now(UTC)
    return report


class Witness(Protocol):
    """A reader of a plan's temporary tables, called at its end."""

    async def __call__(self, connection: Conn, tree: MediaTree, *, ledger: bool) -> None:
        """Read the facts; without a ledger there are no holds and no restored items."""


@dataclass(slots=True)
class _Group:
    """The rows of one blob as they are counted: the number to delete, the policy of the last, the bytes freed."""

    blob: Hash
    going: int = 0
    policy: str = ""
    bytes: int = 0


class _Bearers(NamedTuple):
    """The number of rows that still have a blob, and the number deleted by then."""

    rows: int = 0
    gone: int = 0


class _Planner:
    def __init__(
        self,
        context: TargetContext,
        connection: Conn,
        tree: MediaTree,
        report: PassReport,
        progress: Progress,
        request: Request | None,
    ) -> None:
        self._context = context
        self._connection = connection
        self._tree = tree
        self._report = report
        self._progress = progress
        self._request = request

    async def look_at_store(self, listen: Callable[[Item], None] | None, witness: Witness | None) -> None:
        """Run the plan, and then let the witness read; a refusal of either is in the report."""
        try:
            belonging = await self.session(listen)
            if witness is not None:
                await witness(self._connection, self._tree, ledger=belonging.ledger)
        except RefusedError as error:
            self._report.refused = error.refusal

    async def session(self, listen: Callable[[Item], None] | None) -> StoreCheck:
        context, connection = self._context, self._connection
        belonging = await check_belonging(context, connection, self._tree)
        now = await connection.fetchval("SELECT clock_timestamp()")
        criteria = criteria_of(context, connection, self._request, now)
        copy = await criteria.references.copy_for_plan(connection)
        if belonging.ledger:
            await context.hold_references.copy_for_plan(connection)
        accesses = AccessTimes(context, self._tree, connection, now)
        if criteria.by_access:
            await accesses.prepare(self._report, plan=True, ledger=belonging.ledger)
        for statement in ("make_gone", "make_evicted"):
            await connection.execute(SQL[statement])
        await make_gone_thumbnails(connection)
        await criteria.surveyor.learn(copy, criteria.references.asked, plan=True)
        means = PlanContext(accesses, belonging, copy, now)
        if self._request is not None:
            await self._survey(criteria, means, listen)
            await self._warn_of_encryption(self._request)
            return belonging
        quotas = context.settings.quotas
        await self._survey(criteria, means, None if quotas else listen)
        await connection.execute(SQL["note_gone"])
        await plan_thumbnails(context, connection, self._tree, means, self._report, self._progress, listen)
        for quota in quotas:
            await self._plan_quota(quota, means, listen)
            await connection.execute(SQL["note_gone"])
            await connection.execute(SQL["note_evicted"])
        if quotas and listen is not None:
            await self._tell_the_rest(criteria, means, listen)
        return belonging

    async def _warn_of_encryption(self, request: Request) -> None:
        if request.kind != "room":
            return
        encryption = await self._context.hold_references.encryption(self._connection, request.name)
        if encryption == "encrypted":
            self._report.remarks.append(
                "the room is encrypted: references in its messages cannot be read, and their media stay"
            )
        elif encryption == "unknown":
            self._report.remarks.append(
                "it is unknown whether the room is encrypted: media in encrypted messages stay"
            )

    async def _survey(
        self, criteria: SurveyCriteria, means: PlanContext, listen: Callable[[Item], None] | None
    ) -> None:
        context, connection, belonging = self._context, self._connection, means.belonging
        accesses, now, copy = means.accesses, means.now, means.copy
        surveyor = criteria.surveyor
        self._progress.stage("survey", None)
        survey = await surveyor.judge(now, self._progress, listen)
        await accesses.drop_accessed(survey, self._progress, listen)
        await surveyor.keep(
            survey,
            ledger=belonging.ledger,
            copy=copy,
            protections=criteria.references.protections,
            plan=True,
        )
        self._report.count_policies(surveyor.matched, await surveyor.due_by())
        self._report.remarks += surveyor.encryption.remarks()
        self._report.kept.update(survey.kept + survey.kept_due)
        self._report.orphan_thumbnail_row = await connection.fetchval(MEDIA_SQL["orphan_thumbnail_rows"])
        sample = survey.sample.contents()
        missing = await context.disk.share(file_missing(self._tree), sample)
        self._report.refused = await criteria.over_limit(
            survey, self._report, sum(missing), len(sample), first=belonging.first
        )
        self._report.ownership = criteria.ownership()
        self._progress.stage("look", survey.due + survey.kept_due.total())
        await self._look(criteria, accesses, listen)

    async def _plan_quota(
        self, quota: Quota, means: PlanContext, listen: Callable[[Item], None] | None
    ) -> None:
        """Find the rows that a quota would remove after the others; quarantine, this plan's too, counts as freed."""
        context, connection, ledger = self._context, self._connection, means.belonging.ledger
        short = await self._disk_shortage(quota, ledger=ledger)
        criteria = QuotaCriteria(context, connection, quota, means.now)
        await criteria.surveyor.learn(means.copy, context.references.asked, plan=True)

        async def keep(survey: Survey) -> None:
            await criteria.surveyor.keep(
                survey, ledger=ledger, copy=means.copy, protections=context.references.protections, plan=True
            )

        chooser = Chooser(self._tree, means.accesses, self._progress, keep)
        survey = await chooser.choose(quota, criteria, means.now, short, self._report)
        self._report.count_policies(criteria.surveyor.matched, {})
        if survey is None:
            await connection.execute(DUE_SQL["drop_due"])
            await connection.execute(DUE_SQL["make_due"])
            return
        self._report.refused = self._report.refused or await criteria.over_limit_with(survey, self._report)
        await self._look(criteria, None, listen)

    async def _disk_shortage(self, quota: Quota, *, ledger: bool) -> int:
        """Return the shortage of disk space; zero if purging frees nothing, for then a pass evicts nothing for it."""
        context, connection = self._context, self._connection
        if not ledger:
            return disk_shortage(quota, await free_now(context, self._tree), self._report.removed_bytes)
        now = await read_space(context, self._tree, connection)
        held = await connection.fetchval(QUOTA_SQL["held_bytes"])
        short = disk_shortage(quota, now.free, held + self._report.removed_bytes)
        if short and await ineffective_since(connection, context.name, quota, now):
            self._report.remarks.append(ineffective_remark(quota, self._tree.path))
            return 0
        return short

    async def _tell_the_rest(
        self, criteria: SurveyCriteria, means: PlanContext, listen: Callable[[Item], None]
    ) -> None:
        """Read the rows once more for the list alone.

        Rows that quotas remove are listed already, all others are not.
        """
        report = self._report
        self._report = PassReport(self._context.name, report.kind, dry_run=True, started_at=report.started_at)
        await self._connection.execute(SQL["forget_gone"])
        await self._survey(criteria, means, listen)
        self._report = report

    async def _look(
        self, criteria: SurveyCriteria, accesses: AccessTimes | None, listen: Callable[[Item], None] | None
    ) -> None:
        await self._connection.execute(SQL["drop_bearers"])
        await self._connection.execute(SQL["count_bearers"])
        await self._connection.execute(SQL["sort_bearers"])
        group: _Group | None = None
        async for batch in criteria.surveyor.due(self._context.batch):
            freed = await freed_thumbnails(self._connection, {due.blob for due in batch})
            assessed = await assess(self._tree, self._context.disk, batch, accesses, freed)
            bearers = await self._bearers([item.due.blob for item in assessed])
            size = 0
            for item in assessed:
                if group is None or group.blob != item.due.blob:
                    group = _Group(item.due.blob)
                reason = criteria.name_of(item.due)
                leaving = self._count(item, reason, group, bearers[item.due.blob], criteria.stayed(item.due))
                size += leaving
                if listen is not None:
                    listen(self._item(item, reason, leaving))
            if self._report.ownership is not None:
                going = key_columns([item.due.key for item in assessed if item.goes])
                counts = await self._connection.fetch(SQL["uploaders"], *going)
                self._report.ownership.removed.update({row["user_id"]: row["items"] for row in counts})
            self._progress.advance(len(batch), size)
            # A thousand items may be printed on a slow terminal: other tasks of the loop get their turn.
            await asyncio.sleep(0)

    async def _bearers(self, blobs: list[Hash]) -> defaultdict[Hash, _Bearers]:
        rows = await self._connection.fetch(SQL["bearers_of"], sorted(set(blobs)))
        found = ((row["hash"], _Bearers(row["rows"], row["gone"])) for row in rows)
        return defaultdict(_Bearers, found)

    def _count(
        self, item: Assessed, policy: str, group: _Group, bearers: _Bearers, stayed: str | None
    ) -> int:
        """Count one row; return the bytes freed with it, if it is the last row of its blob to be deleted."""
        report = self._report
        if item.kept is not None:
            report.keep(item.kept, counted=stayed, also=item.due.kept)
            return 0
        report.stays_no_more(stayed)
        if item.failed is not None:
            report.failed[item.failed] += 1
            return 0
        if not item.look.has_file:
            report.missing_file += 1
        group.going += 1
        if group.going == 1 and bearers.rows > 1 and not bearers.gone:
            report.shared_blobs += 1
        leaving = 0
        if group.going == bearers.rows:
            leaving = item.look.bytes
            report.shared_blobs -= bearers.rows + bearers.gone > 1
        report.remove(policy, 1, leaving)
        return leaving

    def _item(self, item: Assessed, policy: str, leaving: int) -> Item:
        uri = item.due.key.uri
        if item.kept is not None:
            return Item(self._context.name, uri, "keep", item.kept, policy, 0)
        if item.failed is not None:
            return Item(self._context.name, uri, "fail", item.failed, policy, 0)
        return Item(self._context.name, uri, "remove", "due", policy, leaving)
