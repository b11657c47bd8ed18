"""The purge of one room by hand, at any age, for content that must not stay: local users leave first, then the room is purged.

A hold always stops it. After the users have left it waits until sync has all of the room and nothing has happened in it for
a while: a purge beside a membership event can stop dendrite.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.adapters.postgres_errors import describe
from retentiond.engine.passes import conclude
from retentiond.engine.target import STOPPED, StoppedError
from retentiond.ledger.lease import hold_lease
from retentiond.ledger.ledger import PassHeader
from retentiond.ledger.records import Record, add_record
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.model.report import PassReport
from retentiond.model.request import REQUESTED
from retentiond.model.room_purge import RoomOrder, expected_duration
from retentiond.model.text import printable
from retentiond.targets.dendrite_rooms.context import KIND, ensure_tables
from retentiond.targets.dendrite_rooms.purges.due import purger_of
from retentiond.targets.dendrite_rooms.purges.second_look import (
    SQL,
    count_previous_events,
    is_held,
    look_at_room,
    sync_knows,
)

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.room_purge import RoomLook
    from retentiond.targets.dendrite_rooms.context import RoomContext
    from retentiond.targets.dendrite_rooms.purges.purge import Purger

_POLL: Final = 2.0
_NAMED: Final = 10
_EVACUATION_GRACE: Final = 3.0
"""Seconds that a stop leaves to an evacuation under way."""
_LONGEST_WAIT: Final = timedelta(minutes=30)
"""The wait for a quiet room holds the lock of all passes on the database."""


async def plan_by_hand(context: RoomContext, room_id: str) -> PassReport:
    """Return what a purge by hand would do: who leaves, what goes, and what stops it. Nothing is changed."""
    report = PassReport(context.name, KIND, dry_run=True, started_at=datetime.now(UTC))
    await ensure_tables(context.pool)
    async with context.pool.acquire() as connection:
        ledger = await context.ledger.exists(connection)
        row = await connection.fetchrow(SQL["size"], room_id)
        if row is None:
            report.remarks.append(
                f"no such room: {printable(room_id)}; look for its ID in the client's room settings"
            )
        elif ledger and await is_held(connection, room_id):
            report.kept["hold"] += 1
        else:
            report.remove(REQUESTED, 1, row["bytes"])
            users = [one["name"] for one in await connection.fetch(SQL["joined_users"], room_id)]
            report.remarks += _warnings(row["events"], row["invites"], users)
            duration = expected_duration(row["events"], await count_previous_events(context.pool))
            if duration > context.config.limits.max_duration:
                report.kept["too_large"] += 1
                report.removed.clear()
    conclude_plan(report)
    return report


def conclude_plan(report: PassReport) -> None:
    """Set the end of a plan; its state stays `planned`."""
    report.finished_at = datetime.now(UTC)


def _warnings(events: int, invites: int, users: list[str]) -> list[str]:
    told = [f"{events:,} events go for good: there is no way back"]
    if users:
        named = ", ".join(map(printable, users[:_NAMED]))
        more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
        told.append(f"{len(users)} local users leave the room first: {named}{more}")
    if invites:
        told.append(f"{invites} pending invites of local users vanish")
    told.append(
        "members on other servers keep their copies; a user of this server may not be able to join again for an hour"
    )
    return told


async def purge_by_hand(context: RoomContext, room_id: str, options: PassOptions) -> PassReport:
    """Let local users leave, and purge the room; refusals and interruptions are in the report."""
    report = PassReport(context.name, KIND, dry_run=False, started_at=datetime.now(UTC))
    await ensure_tables(context.pool)
    await context.make_ledger()
    async with (
        hold_lease(
            context.settings.database, options.command, patience=options.patience, stop=options.stop
        ) as lease,
        purger_of(context) as purger,
        context.pool.acquire() as connection,
    ):
        try:
            await options.stop.unless_asked(purger.ensure_ready())
            await _refuse_held(connection, room_id)
            await _begin(context, connection, lease, room_id, options, report)
            await _Removal(context, purger, lease, options, report).run(room_id)
        except RefusedError as error:
            report.refused = error.refusal
        except UnreachableError as error:
            report.state, report.error = "interrupted", str(error)
        except StoppedError:
            report.state, report.error = "interrupted", STOPPED
        except LOST as error:
            report.state, report.error = "interrupted", f"the database {describe(error)}"
    conclude(report)
    return report


async def _refuse_held(connection: Conn, room_id: str) -> None:
    if await is_held(connection, room_id):
        raise RefusedError(
            Refusal(
                "hold",
                f"the room {printable(room_id)} is on hold",
                None,
                "nothing was changed; `retentiond hold list` shows the hold and its reason",
            )
        )


async def _begin(
    context: RoomContext,
    connection: Conn,
    lease: Lease,
    room_id: str,
    options: PassOptions,
    report: PassReport,
) -> None:
    header = PassHeader(
        target=context.name,
        kind=KIND,
        command=options.command,
        started_at=report.started_at,
        rules={"request": {"room": room_id, "purge": True}},
        grace=timedelta(0),
        settle=timedelta(0),
    )
    async with connection.transaction():
        await lease.check(connection)
        report.pass_id = await context.ledger.begin_pass(connection, header)


class _Removal:
    """The steps, once the lease is held and the pass has begun."""

    def __init__(
        self,
        context: RoomContext,
        purger: Purger,
        lease: Lease,
        options: PassOptions,
        report: PassReport,
    ) -> None:
        self._context = context
        self._purger = purger
        self._lease = lease
        self._options = options
        self._report = report

    async def run(self, room_id: str) -> None:
        """Evacuate, wait, and purge."""
        look = await self._look(room_id)
        if look is None:
            self._report.kept["room_gone"] += 1
            return
        if look.joined:
            await self._evacuate(room_id)
        # A look from before the users left says nothing.
        known = not look.joined and look.unchanged_for >= self._purger.terms.quiet
        watched = None if known else await self._wait_until_quiet(room_id)
        order = RoomOrder(
            room_id, REQUESTED, await self._context.pool.fetchval(SQL["bytes"], room_id) or 0, by_hand=True
        )
        outcome = await self._purger.purge_room(
            order,
            lease=self._lease,
            pass_id=self._report.pass_id,
            stop=self._options.stop,
            watched=watched,
        )
        if outcome.kind == "purged":
            self._report.remove(REQUESTED, 1, order.bytes)
        elif outcome.kind == "kept" and outcome.obstacle is not None:
            self._report.kept[outcome.obstacle] += 1
        else:
            self._report.failed["room_not_purged"] += 1
            self._report.remarks.append(f"{outcome.reason}; run the same command again to go on")
        if outcome.trouble is not None:
            raise RefusedError(outcome.trouble)

    async def _look(self, room_id: str) -> RoomLook | None:
        async with self._context.pool.acquire() as connection:
            return await look_at_room(connection, room_id)

    async def _evacuate(self, room_id: str) -> None:
        """Let all local users leave, and see in the database that they did: dendrite says so even where it did not."""
        # On another server its own users would leave.
        await self._purger.ensure_own_dendrite()
        before = await self._joined(room_id)
        users: set[str] = set()
        try:
            users |= set(
                await self._options.stop.unless_asked(self._purger.api.evacuate(room_id), _EVACUATION_GRACE)
            )
        finally:
            # An answer that was lost, or that no one waited for, undoes no leave.
            await self._record_evacuation(room_id, users | (before - await self._joined(room_id)))
        left = await self._context.pool.fetchval(SQL["joined"], room_id)
        if left:
            raise RefusedError(
                Refusal(
                    "room_not_evacuated",
                    f"{left} local users are still in the room",
                    0,
                    "the room was not purged; look into dendrite's log why it rejects that they leave, and run the same command again",
                )
            )

    async def _joined(self, room_id: str) -> set[str]:
        return {
            printable(row["name"], 300)
            for row in await self._context.pool.fetch(SQL["joined_users"], room_id)
        }

    async def _record_evacuation(self, room_id: str, users: set[str]) -> None:
        if not users:
            return
        get_logger(target=self._context.name).warning("room_evacuated", room=room_id, users=len(users))
        body = {"room": room_id, "users": sorted(users)}
        async with self._context.pool.acquire() as connection, connection.transaction():
            await self._lease.check(connection)
            await add_record(
                connection, Record("room_evacuated", self._context.name, self._report.pass_id, body)
            )

    async def _wait_until_quiet(self, room_id: str) -> tuple[int, datetime] | None:
        """Wait until sync has the room's last event and the room had none for a while; return that event and its time."""
        quiet = self._purger.terms.quiet
        newest: tuple[int, datetime] | None = None
        began: datetime | None = None
        while True:
            look = await self._look(room_id)
            if look is None:
                return None
            if newest is None or newest[0] != look.last_event_nid:
                newest = look.last_event_nid, look.at
            in_sync, _ = await sync_knows(self._purger.databases.sync_api, room_id, look.last_event)
            rest = quiet - (look.at - newest[1])
            if in_sync and rest <= timedelta(0):
                return newest
            began = began or look.at
            if look.at - began > quiet + _LONGEST_WAIT:
                found = "events arrive again and again" if in_sync else "dendrite's sync lacks its last event"
                raise RefusedError(
                    Refusal(
                        "room_not_quiet",
                        f"{found}, for {_LONGEST_WAIT}",
                        f"{quiet} without one",
                        "the room was not purged; look into dendrite's log, and run the same command again",
                    )
                )
            self._options.progress.note(f"waiting until nothing has happened in the room for {quiet}")
            await self._options.stop.wait(min(_POLL, max(rest.total_seconds(), 0.1)))
            if self._options.stop.asked:
                raise StoppedError
