"""The steps of a pass over rooms, as the engine asks for them: the plan, carried out, one room after another."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.ledger import past
from retentiond.ledger.clocks import check_clocks, look_at_clock, note_clock
from retentiond.ledger.ledger import PassHeader
from retentiond.ledger.samples import prune_after
from retentiond.model.errors import RefusedError
from retentiond.targets.dendrite_rooms.context import KIND
from retentiond.targets.dendrite_rooms.planning import RoomPlan
from retentiond.targets.dendrite_rooms.purges.due import purge_due_rooms
from retentiond.targets.dendrite_rooms.purges.trouble import find_stop
from retentiond.targets.dendrite_rooms.survey import put_off_seen

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.errors import Refusal
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_rooms.context import RoomContext
    from retentiond.targets.dendrite_rooms.purges.purge import Purger


class RoomSteps:
    """One pass; the connection is its own, for the survey and its temporary tables."""

    def __init__(
        self,
        context: RoomContext,
        connection: Conn,
        lease: Lease,
        options: PassOptions,
        now: datetime,
        purger: Purger,
    ) -> None:
        self._context = context
        self._connection = connection
        self._lease = lease
        self._options = options
        self._plan = RoomPlan(context, connection, now)
        self._purger = purger
        self._open = 0
        self._log = get_logger(target=context.name)

    async def make_safe(self) -> None:
        """Check the clocks, and whether trouble with dendrite has stopped the target."""
        context, connection = self._context, self._connection
        state = await context.ledger.store(connection, context.name, KIND)
        check_clocks(state, await look_at_clock(connection, context.name))
        await note_clock(connection, context.name, put_off_seen)
        stopped = await find_stop(connection, context.name)
        if stopped is not None:
            raise RefusedError(stopped)

    async def sweep(self) -> None:
        """Finish purges that an earlier pass left open."""
        self._open = (await self._purger.resume()).open

    async def survey(self, report: PassReport) -> Refusal | None:
        """Judge every room, and record how much is due."""
        self._options.progress.stage("survey", None)
        refusal = await self._plan.judge(report, seeing=True)
        due = self._plan.due
        await past.save_backlog(self._connection, self._context.name, due.rooms, due.bytes, self._plan.oldest)
        self._options.progress.stage("remove", due.rooms)
        return refusal

    async def begin(self, report: PassReport) -> None:
        """Give the pass its number, and record its rules."""
        config, rules = self._context.config, self._context.settings.rules
        cutoffs = {one.name: one.keep for one in rules.policies if one.keep is not None}
        header = PassHeader(
            target=self._context.name,
            kind=report.kind,
            command=self._options.command,
            started_at=report.started_at,
            rules={
                "policies": [one.model_dump(mode="json", exclude_none=True) for one in config.policies],
                "cool_off_seconds": int(rules.cool_off.total_seconds()),
                "protect": sorted(rules.protect),
                "media": config.media,
            },
            grace=timedelta(0),
            settle=timedelta(0),
            cutoffs={
                name: (report.started_at - max(keep, rules.cool_off)).isoformat()
                for name, keep in cutoffs.items()
            },
        )
        async with self._connection.transaction():
            await self._lease.check(self._connection)
            report.pass_id = await self._context.ledger.begin_pass(self._connection, header)
        self._log.info("pass_started", pass_id=report.pass_id, command=self._options.command)

    async def remove(self, report: PassReport) -> None:
        """Purge the due rooms, one after another; none while dendrite may still be at an earlier purge."""
        if self._open:
            report.remarks.append(
                "nothing is purged in this pass: an earlier purge is not over; a sweep or the next pass goes on with it"
            )
            return
        await purge_due_rooms(
            self._context, self._purger, self._plan.survey, self._lease, self._options, report
        )

    async def account(self, report: PassReport) -> None:
        """Take off the backlog what was purged."""
        due = self._plan.due
        await past.save_backlog(
            self._connection,
            report.target,
            max(due.rooms - report.removed_items, 0),
            max(due.bytes - report.removed_bytes, 0),
            self._plan.oldest if due.rooms > report.removed_items else None,
        )

    async def end(self, report: PassReport) -> None:
        """Record the report, and delete records that are too old."""
        await self._context.ledger.record_end(self._context.pool, report)
        await prune_after(self._connection, report, self._options.keep_records)
