"""The purge of one room: the last look, the intent, the request, and the verification in dendrite's databases.

dendrite checks nothing, and its answer may be lost: what counts is what its databases have. A purge is done when the room
server has no row of the room and sync has no events and no state of it. After a crash of either side the next sweep goes on
from the recorded intent. One purge is sent at a time, and the first sign of trouble stops the target.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import pool
from retentiond.engine.target import StoppedError
from retentiond.ledger.claims import claimant
from retentiond.ledger.holds import lock_holds
from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.room_purge import (
    BY_HAND,
    PurgeOutcome,
    PurgeTerms,
    expected_duration,
    find_obstacle,
)
from retentiond.targets.dendrite_rooms.admin_api import AdminApiError, open_admin_api
from retentiond.targets.dendrite_rooms.purges.purge_table import (
    Purge,
    change_state,
    claim,
    intend,
    leave,
    note_returned,
    unfinished,
)
from retentiond.targets.dendrite_rooms.purges.second_look import (
    count_previous_events,
    ensure_own_dendrite,
    is_locked,
    is_there,
    look_at_room,
    sync_knows,
)
from retentiond.targets.dendrite_rooms.purges.tables import Databases, left_rows, read_lag
from retentiond.targets.dendrite_rooms.purges.trouble import find_stop, stop_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from retentiond.engine.target import Stop
    from retentiond.ledger.claims import ClaimOwner
    from retentiond.ledger.lease import Lease
    from retentiond.model.room_purge import Obstacle, RoomLook, RoomOrder, Trouble
    from retentiond.targets.dendrite_rooms.admin_api import AdminAddress, AdminApi, PurgeAnswer

_POOL: Final = 2
_MOMENT: Final = 5.0


@dataclass(slots=True)
class Swept:
    """The outcome of a sweep: the purges that are over now, those still open, those whose rows stay, and rooms that came back."""

    purged: list[Purge] = field(default_factory=list)
    open: int = 0
    stay: int = 0
    returned: list[str] = field(default_factory=list)


@asynccontextmanager
async def open_purger(
    target: str,
    databases: Mapping[str, str],
    address: AdminAddress,
    terms: PurgeTerms,
    server_names: AbstractSet[str],
) -> AsyncIterator[Purger]:
    """Open dendrite's databases by component (room_server's has the ledger) and its admin API, and become a claim owner."""
    async with (
        pool(databases["room_server"], size=_POOL) as rooms,
        pool(databases["sync_api"], "the database of sync", size=_POOL) as sync,
        pool(databases["user_api"], "the database of users", size=_POOL) as users,
        pool(databases["federation_api"], "the database of the federation", size=_POOL) as federation,
        open_admin_api(address) as api,
        claimant(databases["room_server"]) as owner,
    ):
        yield Purger(target, Databases(rooms, sync, users, federation), api, owner, terms, server_names)


class Purger:
    """Purges rooms of one dendrite, one after the other, and finishes what was left open."""

    def __init__(
        self,
        target: str,
        databases: Databases,
        api: AdminApi,
        owner: ClaimOwner,
        terms: PurgeTerms,
        server_names: AbstractSet[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.databases = databases
        self.api = api
        self._target = target
        self._ledger = databases.room_server
        self._owner = owner
        self.terms = terms
        self._server_names = server_names
        self._clock = clock
        self._log = get_logger(target=target)
        self._active: set[int] = set()

    async def ensure_ready(self) -> None:
        """Raise RefusedError for a target that is stopped or a sync that is behind, AdminApiError for an unhealthy dendrite."""
        refusal = await find_stop(self._ledger, self._target)
        if refusal is not None:
            raise RefusedError(refusal)
        await self.api.check_health()
        behind = await self._persistent_lag()
        if behind:
            raise RefusedError(
                Refusal(
                    "sync_behind",
                    f"dendrite's sync lacks the {behind} newest events",
                    0,
                    "nothing was purged; look into dendrite's log, and try again when its clients receive messages",
                )
            )

    async def ensure_own_dendrite(self) -> frozenset[str]:
        """Return the rooms that dendrite calls empty; raise RefusedError where the API is of another server."""
        return await ensure_own_dendrite(self._ledger, self.api, self._server_names)

    async def purge_room(
        self,
        order: RoomOrder,
        *,
        lease: Lease,
        pass_id: int | None,
        stop: Stop,
        watched: tuple[int, datetime] | None = None,
    ) -> PurgeOutcome:
        """Purge one room if everything allows it now, and verify it; a trouble is in the outcome, and stops the target.

        `watched` is for a caller that has watched the room itself: its newest event, and since when. Raise AdminApiError where
        dendrite cannot be asked, RefusedError where the target is stopped.
        """
        await stop.unless_asked(self.ensure_ready())
        listed = order.room_id in await stop.unless_asked(self.ensure_own_dendrite())
        first = await self._look(order.room_id, watched)
        if first is None:
            return _kept("room_gone")
        rows = await self.databases.count_rows(first.room_id, first.room_nid)
        previous = await count_previous_events(self._ledger)
        if expected_duration(first.events, previous) > self.terms.max_duration:
            return _kept("too_large")
        began = self._clock()
        found = await self._decide(
            order, first, rows, listed=listed, lease=lease, pass_id=pass_id, watched=watched
        )
        if not isinstance(found, Purge):
            return _kept(found)
        if stop.asked or self._clock() - began > self.terms.look_lasts.total_seconds():
            await change_state(self._ledger, found, "withdrawn", reason="purge_too_late")
            return _kept("purge_too_late")
        lease.guard.ensure()
        self._active.add(found.purge_id)
        try:
            return await self._carry_out(found, stop)
        except StoppedError:
            await leave(self._ledger, found)
            return PurgeOutcome("open", reason="stopped; the next sweep goes on", rows=found.rows)
        finally:
            # After a lost connection a sweep of ours may go on with it.
            self._active.discard(found.purge_id)

    async def _look(self, room_id: str, watched: tuple[int, datetime] | None) -> RoomLook | None:
        async with self._ledger.acquire() as connection:
            return await look_at_room(connection, room_id, watched=watched)

    async def _decide(
        self,
        order: RoomOrder,
        first: RoomLook,
        rows: Mapping[str, int],
        *,
        listed: bool,
        lease: Lease,
        pass_id: int | None,
        watched: tuple[int, datetime] | None,
    ) -> Purge | Obstacle:
        """Look a last time, and record the intent in the same transaction; no hold can be added between the two."""
        in_sync, invited = await sync_knows(self.databases.sync_api, first.room_id, first.last_event)
        async with self._ledger.acquire() as connection, connection.transaction():
            await lease.check(connection)
            await lock_holds(connection)
            look = await look_at_room(connection, first.room_id, watched=watched)
            obstacle = find_obstacle(
                look,
                self.terms,
                listed=listed,
                in_sync=in_sync and look is not None and look.last_event == first.last_event,
                invited_in_sync=invited,
                events=first.events,
                passed_over=BY_HAND if order.by_hand else frozenset(),
            )
            if look is None or obstacle is not None:
                return obstacle or "room_gone"
            purge = await intend(
                connection, self._target, pass_id, order, look, rows, self._owner.claimant_id
            )
            return purge or "purge_under_way"

    async def _carry_out(self, purge: Purge, stop: Stop) -> PurgeOutcome:
        """Send the request, and follow it in the databases until it is over, or waited for long enough."""
        try:
            answer = await stop.unless_asked(
                self.api.purge(
                    purge.room_id, self.terms.answer.total_seconds(), self.terms.look_lasts.total_seconds()
                )
            )
        except AdminApiError as error:
            if error.failure != "refused":
                # It was never begun: not sent, or turned away at the door.
                await change_state(self._ledger, purge, "withdrawn", reason=error.summary)
                raise
            if await self._has_room(purge) and not await is_locked(self._ledger, purge.room_id):
                await change_state(self._ledger, purge, "refused", reason=error.summary)
                self._log.error("room_not_purged", room=purge.room_id, reason=error.summary)
                return PurgeOutcome("failed", reason=str(error))
            answer = "lost"
        if answer != "done":
            self._log.warning("purge_unanswered", room=purge.room_id, answer=answer)
        emptied, done = await self._follow(purge, stop)
        if done:
            return await self._close(purge, stop)
        return await self._end_undone(purge, answer, stop, emptied=emptied)

    async def _follow(self, purge: Purge, stop: Stop) -> tuple[bool, bool]:
        """Wait until the room server's rows are gone, and then those of sync; return both."""
        emptied = False
        until = self._deadline()
        while True:
            if not emptied and not await self._has_room(purge):
                await change_state(self._ledger, purge, "emptied")
                emptied, until = True, self._deadline()
            if emptied and not await self.databases.awaited_rows(purge.room_id):
                return True, True
            if not emptied and await is_locked(self._ledger, purge.room_id):
                # The purge goes on without its client.
                until = self._deadline()
            if self._clock() >= until:
                return emptied, False
            await self._pause(stop)

    async def _close(self, purge: Purge, stop: Stop) -> PurgeOutcome:
        """Count what is left, record the end, and look at dendrite; on a stop the next purge looks."""
        left = await self._count_left(purge)
        await change_state(self._ledger, purge, "purged", rows=left)
        self._log.info("room_purged", room=purge.room_id, rows=sum(purge.rows.values()), left=left_rows(left))
        trouble = await self._find_trouble(purge, stop)
        return PurgeOutcome("purged", rows=purge.rows, left=left, trouble=trouble)

    async def _count_left(self, purge: Purge) -> dict[str, int]:
        """Count the rows that are left; other parts of dendrite remove theirs a moment after sync."""
        until = self._clock() + min(_MOMENT, self.terms.patience.total_seconds())
        while True:
            left = await self.databases.count_rows(purge.room_id, purge.room_nid)
            if not left_rows(left) or self._clock() >= until:
                return left
            await self._pause()

    async def _end_undone(
        self, purge: Purge, answer: PurgeAnswer, stop: Stop, *, emptied: bool
    ) -> PurgeOutcome:
        """End a purge that is not done in time: it stays open while rows of sync stay, else the room is whole."""
        if emptied:
            await leave(self._ledger, purge)
            trouble = await self._find_trouble(purge, stop)
            if trouble is None:
                trouble = await self._stop(purge, "rows_stay")
            return PurgeOutcome("open", reason="rows of sync stay", rows=purge.rows, trouble=trouble)
        await change_state(self._ledger, purge, "undone", reason=f"answer: {answer}")
        self._log.error("room_not_purged", room=purge.room_id, reason=f"the room is whole; answer: {answer}")
        trouble = await self._find_trouble(purge, stop)
        if trouble is None and answer != "lost":
            trouble = await self._stop(purge, "room_stays")
        return PurgeOutcome(
            "failed", reason="dendrite was interrupted, and the room is whole", trouble=trouble
        )

    async def _find_trouble(self, purge: Purge, stop: Stop) -> Refusal | None:
        """Look at dendrite after a purge; stop the target where it is down, or its sync is stuck."""
        try:
            return await stop.unless_asked(self._look_at_dendrite(purge))
        except StoppedError:
            return None

    async def _look_at_dendrite(self, purge: Purge) -> Refusal | None:
        until = self._deadline()
        while True:
            try:
                await self.api.check_health()
                break
            except AdminApiError as error:
                if self._clock() >= until:
                    return await self._stop(purge, "dendrite_down", error.summary)
                await self._pause()
        behind = await self._persistent_lag()
        return await self._stop(purge, "sync_stuck", f"{behind} events") if behind else None

    async def _persistent_lag(self) -> int:
        """Return how many of the newest events do not reach sync although they are waited for."""
        first = await read_lag(self.databases)
        until = self._deadline()
        lag = first
        while lag.missing & first.missing and self._clock() < until:
            await self._pause()
            lag = await read_lag(self.databases)
        return len(lag.missing & first.missing)

    async def _stop(self, purge: Purge, sign: Trouble, detail: str = "") -> Refusal:
        return await stop_target(self._ledger, self._target, sign, purge.room_id, detail)

    async def resume(self) -> Swept:
        """Go on with purges that nobody works on: one look at each, without a wait."""
        swept = Swept()
        claims = await unfinished(self._ledger, self._target)
        dead = await self._owner.find_dead({one for one in claims.values() if one is not None})
        for purge_id in claims:
            if purge_id in self._active:
                swept.open += 1
                continue
            purge = await claim(
                self._ledger, purge_id, self._owner.claimant_id, [*dead, self._owner.claimant_id]
            )
            if purge is None:
                swept.open += 1
                continue
            state = await self._go_on(purge)
            if state == "purged":
                swept.purged += [purge] if purge.state != "rows_stay" else []
                continue
            await leave(self._ledger, purge)
            swept.open += state == "open"
            swept.stay += state == "rows_stay"
        swept.returned = await note_returned(self._ledger, self._target)
        return swept

    async def _go_on(self, purge: Purge) -> Literal["open", "purged", "rows_stay"]:
        """Take one look at a purge; return what it is now."""
        emptied = purge.state != "sent"
        if not emptied:
            if await self._has_room(purge):
                await self._end_if_undone(purge)
                return "open"
            await change_state(self._ledger, purge, "emptied")
        # Rows of a room that came back are its own.
        returned = await is_there(self._ledger, purge.room_id)
        if returned or not await self.databases.awaited_rows(purge.room_id):
            left = {} if returned else await self._count_left(purge)
            await change_state(self._ledger, purge, "purged", rows=left)
            self._log.info(
                "room_purged", room=purge.room_id, rows=sum(purge.rows.values()), left=left_rows(left)
            )
            return "purged"
        if purge.state == "rows_stay" or (purge.state == "emptied" and await self._judge_rows(purge)):
            return "rows_stay"
        return "open"

    async def _end_if_undone(self, purge: Purge) -> None:
        """End a purge whose room is whole, once its request can be under way no more."""
        assert purge.sent_ago is not None  # noqa: S101 - `claim` has read it
        if purge.sent_ago > self.terms.patience and not await is_locked(self._ledger, purge.room_id):
            await change_state(self._ledger, purge, "undone", reason="interrupted")
            self._log.warning("room_not_purged", room=purge.room_id, reason="interrupted; the room is whole")

    async def _judge_rows(self, purge: Purge) -> bool:
        """Stop the target where rows of sync stay although dendrite runs; return whether they are reported as staying now.

        That is once an administrator has accepted them, or after a long time.
        """
        if purge.emptied_ago is None or purge.emptied_ago <= self.terms.patience:
            return False
        if not purge.accepted:
            try:
                await self.api.check_health()
            except AdminApiError:
                return False  # sync removes them after dendrite's next start
            await self._stop(purge, "rows_stay")
            if purge.emptied_ago <= self.terms.gives_up:
                return False
        left = await self.databases.count_rows(purge.room_id, purge.room_nid)
        await change_state(self._ledger, purge, "rows_stay", rows=left)
        self._log.error("purged_room_rows_stay", room=purge.room_id, left=left_rows(left))
        return True

    async def _has_room(self, purge: Purge) -> bool:
        """Return whether the room server still has the room; one that came back has another number."""
        return await is_there(self._ledger, purge.room_id, purge.room_nid)

    def _deadline(self) -> float:
        return self._clock() + self.terms.patience.total_seconds()

    async def _pause(self, stop: Stop | None = None) -> None:
        if stop is None:
            await asyncio.sleep(self.terms.poll.total_seconds())
            return
        await stop.wait(self.terms.poll.total_seconds())
        if stop.asked:
            raise StoppedError


def _kept(obstacle: Obstacle) -> PurgeOutcome:
    return PurgeOutcome("kept", obstacle=obstacle)
