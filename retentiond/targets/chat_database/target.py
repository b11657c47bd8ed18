"""The target `chat_database`: what the verbs and the daemon ask of it, put together from its parts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import asyncpg

from retentiond.adapters.postgres import LOST, connected, pool, reaching
from retentiond.adapters.postgres_errors import describe
from retentiond.engine.capabilities import (
    AcceptsStores,
    ErasesVisitors,
    HasHolds,
    HasRecords,
    HasStatistics,
    PurgesChats,
)
from retentiond.engine.passes import conclude, run_steps
from retentiond.engine.purge import PurgeWish
from retentiond.engine.target import STOPPED, Order, StoppedError
from retentiond.ledger.acceptance import look_at_ledger, note_acceptance
from retentiond.ledger.leadership import Leadership
from retentiond.ledger.lease import hold_lease
from retentiond.ledger.ledger import Ledger
from retentiond.ledger.reader import LedgerReader
from retentiond.model.acceptance import Acceptance
from retentiond.model.floor import day_before
from retentiond.model.purge import PurgeReport
from retentiond.model.report import PassReport, SweepReport
from retentiond.targets.chat_database.holds import ChatHolds
from retentiond.targets.chat_database.picture import draw
from retentiond.targets.chat_database.place import KIND, SCHEMA, Place
from retentiond.targets.chat_database.planning import Planner
from retentiond.targets.chat_database.replication import (
    read_replication,
    refuse_waiting_commits,
)
from retentiond.targets.chat_database.requests import carry_out
from retentiond.targets.chat_database.settings import resolve_chats
from retentiond.targets.chat_database.state import check, read_status
from retentiond.targets.chat_database.steps import ChatSteps, record_end, sum_up
from retentiond.targets.chat_database.stores import STORES
from retentiond.targets.chat_database.visitor import check_erasure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from retentiond.config.chats import ChatTarget
    from retentiond.engine.purge import Erasure
    from retentiond.engine.target import Progress
    from retentiond.ledger.lease import Lease
    from retentiond.model.check import Check
    from retentiond.model.picture import Picture
    from retentiond.model.replication import Replication
    from retentiond.model.report import Item, TargetStatus

_TURNS: Final[WeakValueDictionary[str, asyncio.Lock]] = WeakValueDictionary()
"""One a database: targets of one daemon that share it, and are due at the same hour, wait for each other. By the lease
alone the second would be refused each time."""


@asynccontextmanager
async def open_chat_database(
    name: str,
    config: ChatTarget,
    look_at_replicas: Callable[[], Awaitable[Replication]] | None = None,
) -> AsyncIterator[ChatDatabase]:
    """Open the target: reach its database. Nothing is changed before something is asked of it.

    `look_at_replicas` reads the state of the replicas; from the database itself, unless given.
    """
    settings = resolve_chats(config)
    async with pool(settings.database) as opened, Leadership(settings.database, name) as leadership:

        async def look_at_own() -> Replication:
            return await read_replication(opened)

        place = Place(name, config, settings, opened, Ledger(), look_at_replicas or look_at_own)
        yield ChatDatabase(place, leadership)


class ChatDatabase(
    LedgerReader, HasHolds, HasRecords, HasStatistics, AcceptsStores, PurgesChats, ErasesVisitors
):
    """The chats of one database. Purged chats cannot be restored."""

    def __init__(self, place: Place, leadership: Leadership) -> None:
        super().__init__(place)
        self._place = place
        self._leadership = leadership
        self._turn = _TURNS.setdefault(place.settings.database, asyncio.Lock())

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._place.name

    @property
    def kind(self) -> str:
        """What it is."""
        return KIND

    @property
    def holds(self) -> ChatHolds:
        """What must stay because somebody said so."""
        return ChatHolds(self._place)

    async def plan(self, listen: Callable[[Item], None] | None, progress: Progress) -> PassReport:
        """Return what a pass would purge now; change nothing."""
        order, wishes = Order("plan", progress=progress), self._scheduled(datetime.now(UTC))
        report = await Planner(self._place, wishes, order, by_hand=False).plan(listen)

        async def plan_erasure(erasure: Erasure) -> PassReport:
            wish = self._erasing(erasure, report.started_at)
            return await Planner(self._place, [wish], order, by_hand=False).plan(listen)

        await carry_out(self._place, report, order, plan_erasure)
        return report

    async def run_pass(self, order: Order) -> PassReport:
        """Purge all accounts that have a `keep`, and then carry out the requests of the configured file."""
        report = await self._run(self._scheduled, order, by_hand=False)

        async def erase(erasure: Erasure) -> PassReport:
            return await self._run(lambda now: [self._erasing(erasure, now)], order, by_hand=False)

        with reaching("the database"):
            await carry_out(self._place, report, order, erase)
        return report

    async def purge_chats(self, wish: PurgeWish, order: Order, *, dry_run: bool) -> PurgeReport:
        """Purge one account up to a date, as asked for by hand."""
        self._place.account(wish.account)
        return await self._by_hand(lambda _now: wish, order, dry_run=dry_run)

    async def erase(self, erasure: Erasure, order: Order, *, dry_run: bool) -> PurgeReport:
        """Erase the chats of one visitor, as asked for by hand."""
        check_erasure(self._place, erasure)
        return await self._by_hand(lambda now: self._erasing(erasure, now), order, dry_run=dry_run)

    def _erasing(self, erasure: Erasure, now: datetime) -> PurgeWish:
        """Return the purge that an erasure is: files and all, in every store; its date is set by the floor later."""
        stores = tuple(store for store in STORES if getattr(self._place.config, store) is not None)
        return PurgeWish(erasure.account, now.date(), file_messages=True, stores=stores, erasure=erasure)

    async def _by_hand(
        self, wished: Callable[[datetime], PurgeWish], order: Order, *, dry_run: bool
    ) -> PurgeReport:
        wish = wished(datetime.now(UTC))
        if dry_run:
            report = await Planner(self._place, [wish], order, by_hand=True).plan()
        else:
            report = await self._run(lambda now: [wished(now)], order, by_hand=True)
        if report.purges:
            return report.purges[0]
        # It was refused before anything was looked at.
        told = PurgeReport(wish.account, wish.to_date, dry_run, refused=report.refused, error=report.error)
        told.state = "interrupted" if report.state == "interrupted" else "refused"
        return told

    def _scheduled(self, now: datetime) -> list[PurgeWish]:
        """Return what the configuration wants purged by now."""
        config = self._place.config
        return [
            PurgeWish(
                account=name,
                to_date=day_before(now, account.keep, config.zone),
                file_messages=account.delete_file_messages,
                stats=account.stats,
                stores=tuple(store for store in STORES if getattr(account, store)),
                orphans=account.purge_orphans,
            )
            for name, account in config.accounts.items()
            if account.keep is not None
        ]

    async def _run(
        self, wishes: Callable[[datetime], list[PurgeWish]], order: Order, *, by_hand: bool
    ) -> PassReport:
        place = self._place
        report = PassReport(place.name, KIND, dry_run=False, started_at=datetime.now(UTC))
        with reaching("the database"):
            if order.command == "run":
                await self._leadership.take()
            # Before the first commit, which would wait; and no lag that is hidden is met half-way.
            refuse_waiting_commits(await place.look_at_replicas())
            async with place.pool.acquire() as connection:
                await place.ledger.make(connection, SCHEMA)
            async with AsyncExitStack() as opened:
                try:
                    if order.command == "run":
                        await order.stop.unless_asked(opened.enter_async_context(self._turn))
                except StoppedError:
                    report.state, report.error = "interrupted", STOPPED
                    return report
                lease = await opened.enter_async_context(
                    hold_lease(place.settings.database, order.command, patience=order.patience)
                )
                await self._work(wishes, order, lease, report, by_hand=by_hand)
        return report

    async def _work(
        self,
        wishes: Callable[[datetime], list[PurgeWish]],
        order: Order,
        lease: Lease,
        report: PassReport,
        *,
        by_hand: bool,
    ) -> None:
        async with connected(self._place.settings.database) as connection:
            report.started_at = await connection.fetchval("SELECT clock_timestamp()")
            # By the clock that the floor goes by, too: by one that is a little ahead, each midnight would be refused.
            steps = ChatSteps(
                self._place, connection, lease, order, wishes(report.started_at), by_hand=by_hand
            )
            try:
                await run_steps(steps, order, report)
            except (*LOST, asyncpg.PostgresError) as error:
                # The batch under way was rolled back: the next purge goes on from there.
                report.state, report.error = "interrupted", f"the database {describe(error)}"
                conclude(report)
                sum_up(report, steps.purges)
                await record_end(self._place, report, steps.purges)

    async def sweep(self, *, everything: bool) -> SweepReport:
        """See that the database is there; what was purged needs no looking after."""
        del everything
        with reaching("the database"):
            await self._place.ledger.exists(self._place.pool)
        return SweepReport()

    async def accept(self, *, yes: bool) -> Acceptance:
        """Say what the ledger knows; with `yes` accept the clock."""
        place = self._place
        acceptance = Acceptance(place.name)
        with reaching("the database"):
            if await place.ledger.exists(place.pool):
                await look_at_ledger(
                    place.pool, place.ledger, await place.ledger.store(place.pool), acceptance
                )
            if yes and acceptance.ledger.store is not None:
                async with (
                    hold_lease(place.settings.database, "quarantine accept", patience=10.0) as lease,
                    place.pool.acquire() as connection,
                    connection.transaction(),
                ):
                    await lease.check(connection)
                    await note_acceptance(connection, place.ledger, acceptance, last_pass=0)
                acceptance.accepted = True
        return acceptance

    async def picture(self, progress: Progress) -> Picture:
        """Draw the store for the report, changing nothing."""
        progress.stage("draw", None)
        with reaching("the database"):
            return await draw(self._place)

    async def status(self) -> TargetStatus:
        """Tell what the ledger knows."""
        with reaching("the database"):
            return await read_status(self._place)

    async def check(self) -> Check:
        """Try what a pass needs, and return the problems found."""
        return await check(self._place, self._scheduled(datetime.now(UTC)))
