"""Evictions: each quota of a target is checked in turn, and its excess is removed through the protocol.

Under `min_free_disk` the entries whose grace is over are purged first; then, if the quota says so, the grace of the
oldest entries in quarantine is ended. A rename frees nothing by itself, so each check evicts the shortage and no
more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.ledger.records import Record, add_record
from retentiond.model.errors import RefusedError
from retentiond.model.quota import disk_shortage, purged_in_vain, size_shortage
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.release import Releaser
from retentiond.targets.dendrite_media.quarantine.removal import Removal
from retentiond.targets.dendrite_media.quotas.criteria import Chooser, QuotaCriteria
from retentiond.targets.dendrite_media.quotas.space import ineffective_remark, ineffective_since, read_space
from retentiond.targets.dendrite_media.quotas.survey import SQL
from retentiond.targets.dendrite_media.references.copies import LARGEST_AGE
from retentiond.targets.dendrite_media.sweeps.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.quota import Quota, SpaceReading
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.store.context import StoreSession
    from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
    from retentiond.targets.dendrite_media.surveys.survey import Survey


class Evictions:
    """The quotas of one target, for a pass, or for a check between two.

    `begin` gives the pass a number if it has none yet.
    """

    def __init__(
        self,
        session: StoreSession,
        connection: Conn,
        lease: Lease,
        order: PassOptions,
        accesses: AccessTimes,
        begin: Callable[[PassReport], Awaitable[int]],
    ) -> None:
        self._session = session
        self._context = session.context
        self._connection = connection
        self._lease = lease
        self._order = order
        self._accesses = accesses
        self._begin = begin

    async def run(self, report: PassReport) -> None:
        """Check each quota in turn; raise RefusedError if a removal would exceed the limits."""
        quotas = self._context.settings.quotas
        names = [quota.name for quota in quotas]
        await self._connection.execute(SQL["forget_other_evictions"], self._context.name, names)
        for quota in quotas:
            if self._order.stop.asked:
                return
            short = await self._make_room(quota, report)
            if short or await self._may_be_too_large(quota):
                await self._evict(quota, short, report)

    async def _may_be_too_large(self, quota: Quota) -> bool:
        if quota.max_size is None:
            return False
        return size_shortage(quota, await self._connection.fetchval(SQL["size_bound"])) > 0

    async def _make_room(self, quota: Quota, report: PassReport) -> int:
        """Purge if the disk is short of space; return the shortage that is left once the quarantine is purged, too."""
        before = await self._read()
        if not disk_shortage(quota, before.free):
            await self._connection.execute(SQL["forget_eviction"], self._context.name, quota.name)
            return 0
        await sweep(self._session, everything=False, fresh=True)
        after = await self._read()
        still = disk_shortage(quota, after.free)
        if still and quota.shorten_grace:
            await self._shorten_grace(quota, still, report)
            await sweep(self._session, everything=False, fresh=True)
            after = await self._read()
        short = disk_shortage(quota, after.free, await self._connection.fetchval(SQL["held_bytes"]))
        if short and (
            purged_in_vain(before, after, 0)
            or await ineffective_since(self._connection, self._context.name, quota, after)
        ):
            self._say_in_vain(quota, report)
            return 0
        return short

    async def _shorten_grace(self, quota: Quota, wanted: int, report: PassReport) -> None:
        async with self._connection.transaction():
            shortened = await released_rows.shorten_grace(self._connection, wanted)
            if not shortened:
                return
            body = {"by": quota.name, "contents": shortened}
            await add_record(
                self._connection, Record("grace_ended", self._context.name, report.pass_id, body)
            )
        report.remarks.append(
            f"{quota.name}: the grace of {shortened:,} contents was ended, as the disk is short of {wanted:,} bytes"
        )
        get_logger(target=self._context.name).warning(
            "grace_shortened", quota=quota.name, contents=shortened, short=wanted
        )

    async def _read(self) -> SpaceReading:
        return await read_space(self._context, self._session.tree, self._connection)

    def _say_in_vain(self, quota: Quota, report: PassReport) -> None:
        remark = ineffective_remark(quota, self._session.tree.path)
        report.remarks.append(remark)
        get_logger(target=self._context.name).warning("quota_stopped", quota=quota.name, reason=remark)

    async def _evict(self, quota: Quota, short: int, report: PassReport) -> None:
        context, connection = self._context, self._connection
        now = await connection.fetchval("SELECT clock_timestamp()")
        criteria = QuotaCriteria(context, connection, quota, now)
        oldest = now - LARGEST_AGE
        # An unreadable source refuses the quota before the long survey of every row.
        async with context.references.held(connection, begun_after=oldest) as copy:
            await criteria.surveyor.learn(copy, context.references.asked, plan=False)
        await context.hold_references.refresh(connection, begun_after=oldest)

        async def keep(survey: Survey) -> None:
            async with context.references.held(connection, begun_after=oldest) as copy:
                await criteria.surveyor.keep(
                    survey, ledger=True, copy=copy, protections=context.references.protections, plan=False
                )

        chooser = Chooser(self._session.tree, self._accesses, self._order.progress, keep)
        survey = await chooser.choose(quota, criteria, now, short, report)
        if survey is None:
            return
        refusal = await criteria.over_limit_with(survey, report)
        if refusal is not None and not self._order.over_limits:
            raise RefusedError(refusal)
        pass_id = report.pass_id if report.pass_id is not None else await self._begin(report)
        if short:
            reading = await self._read()
            await connection.execute(
                SQL["note_eviction"], context.name, quota.name, reading.free, reading.purged
            )
        releaser = Releaser(self._session, connection, self._lease, pass_id, criteria)
        await Removal(self._session, releaser, criteria, None, report, self._order).run()
