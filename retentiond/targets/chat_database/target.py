"""The target `chat_database`, put together from its parts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import asyncpg

from retentiond.adapters.postgres import LOST, connection_to, pool, translate_errors
from retentiond.adapters.postgres_errors import describe
from retentiond.engine.capabilities import (
    AcceptsStores,
    ErasesVisitors,
    HasHolds,
    HasRecords,
    HasSamples,
    HasStatistics,
    HasUsage,
    PurgesChats,
)
from retentiond.engine.passes import conclude, run_steps
from retentiond.engine.target import STOPPED, PassOptions, PurgeRequest, StoppedError
from retentiond.ledger.acceptance import look_at_ledger, save_acceptance
from retentiond.ledger.leadership import Leadership
from retentiond.ledger.lease import hold_lease
from retentiond.ledger.reader import LedgerReader
from retentiond.model.acceptance import Acceptance
from retentiond.model.floor import day_before
from retentiond.model.purge import PurgeReport
from retentiond.model.report import PassReport, SweepReport
from retentiond.targets.chat_database.context import KIND, SCHEMA, ChatContext, ChatLedger, resolve_chats
from retentiond.targets.chat_database.holds import ChatHolds
from retentiond.targets.chat_database.requests import carry_out
from retentiond.targets.chat_database.state import check, collect_statistics, read_status
from retentiond.targets.chat_database.steps import ChatSteps, Planner, record_end, sum_up
from retentiond.targets.chat_database.stores import STORES
from retentiond.targets.chat_database.throttle import (
    read_replication,
    refuse_waiting_commits,
)
from retentiond.targets.chat_database.usage import divisions_of, read_usage, take_sample
from retentiond.targets.chat_database.visitor import check_erasure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from retentiond.config.chats import ChatTarget
    from retentiond.engine.target import Erasure, Progress
    from retentiond.ledger.lease import Lease
    from retentiond.model.check import Check
    from retentiond.model.replication import Replication
    from retentiond.model.report import Item, TargetStatus
    from retentiond.model.statistics import StoreStatistics
    from retentiond.model.usage import UsageBy, UsageRow

_TURNS: Final[WeakValueDictionary[str, asyncio.Lock]] = WeakValueDictionary()
"""A lock for each database: targets of one daemon that share it wait for each other. By the lease alone the second would
be refused each time."""


@asynccontextmanager
async def open_chat_database(
    name: str,
    config: ChatTarget,
    look_at_replicas: Callable[[], Awaitable[Replication]] | None = None,
) -> AsyncIterator[ChatDatabase]:
    """Open the target and connect to its database, without changes.

    `look_at_replicas` reads the state of the replicas; from the database itself, unless given.
    """
    settings = resolve_chats(config)
    async with pool(settings.database) as opened, Leadership(settings.database, name) as leadership:

        async def look_at_own() -> Replication:
            return await read_replication(opened)

        context = ChatContext(name, config, settings, opened, ChatLedger(), look_at_replicas or look_at_own)
        yield ChatDatabase(context, leadership)


class ChatDatabase(
    LedgerReader,
    HasHolds,
    HasRecords,
    HasSamples,
    HasStatistics,
    HasUsage,
    AcceptsStores,
    PurgesChats,
    ErasesVisitors,
):
    """The chats of one database. Purged chats cannot be restored."""

    def __init__(self, context: ChatContext, leadership: Leadership) -> None:
        super().__init__(context)
        self._context = context
        self._leadership = leadership
        self._turn = _TURNS.setdefault(context.settings.database, asyncio.Lock())

    @property
    def name(self) -> str:
        """The target's name in the configuration."""
        return self._context.name

    @property
    def kind(self) -> str:
        """The kind of the target."""
        return KIND

    @property
    def holds(self) -> ChatHolds:
        """The holds on chats."""
        return ChatHolds(self._context)

    async def plan(self, listen: Callable[[Item], None] | None, progress: Progress) -> PassReport:
        """Return the deletions of a pass now; change nothing."""
        options, requests = PassOptions("plan", progress=progress), self._scheduled(datetime.now(UTC))
        report = await Planner(self._context, requests, options, by_hand=False).plan(listen)

        async def plan_erasure(erasure: Erasure) -> PassReport:
            request = self._erasing(erasure, report.started_at)
            return await Planner(self._context, [request], options, by_hand=False).plan(listen)

        await carry_out(self._context, report, options, plan_erasure)
        return report

    async def run_pass(self, options: PassOptions) -> PassReport:
        """Purge all accounts that have a `keep`, and then carry out the requests of the configured file."""
        report = await self._run(self._scheduled, options, by_hand=False)

        async def erase(erasure: Erasure) -> PassReport:
            return await self._run(lambda now: [self._erasing(erasure, now)], options, by_hand=False)

        with translate_errors("the database"):
            await carry_out(self._context, report, options, erase)
        return report

    async def purge_chats(self, request: PurgeRequest, options: PassOptions, *, dry_run: bool) -> PurgeReport:
        """Purge one account up to a date, as requested by hand."""
        self._context.account(request.account)
        return await self._by_hand(lambda _now: request, options, dry_run=dry_run)

    async def erase(self, erasure: Erasure, options: PassOptions, *, dry_run: bool) -> PurgeReport:
        """Erase the chats of one visitor, as requested by hand."""
        check_erasure(self._context, erasure)
        return await self._by_hand(lambda now: self._erasing(erasure, now), options, dry_run=dry_run)

    def _erasing(self, erasure: Erasure, now: datetime) -> PurgeRequest:
        """Return the purge of an erasure: with files, in every store; the floor sets its date later."""
        stores = tuple(store for store in STORES if getattr(self._context.config, store) is not None)
        return PurgeRequest(erasure.account, now.date(), file_messages=True, stores=stores, erasure=erasure)

    async def _by_hand(
        self, make_request: Callable[[datetime], PurgeRequest], options: PassOptions, *, dry_run: bool
    ) -> PurgeReport:
        request = make_request(datetime.now(UTC))
        if dry_run:
            report = await Planner(self._context, [request], options, by_hand=True).plan()
        else:
            report = await self._run(lambda now: [make_request(now)], options, by_hand=True)
        if report.purges:
            return report.purges[0]
        # It was refused before an account was read.
        refused = PurgeReport(
            request.account, request.to_date, dry_run, refused=report.refused, error=report.error
        )
        refused.state = "interrupted" if report.state == "interrupted" else "refused"
        return refused

    def _scheduled(self, now: datetime) -> list[PurgeRequest]:
        """Return the purges that the configuration asks for now."""
        config = self._context.config
        return [
            PurgeRequest(
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
        self, make_requests: Callable[[datetime], list[PurgeRequest]], options: PassOptions, *, by_hand: bool
    ) -> PassReport:
        context = self._context
        report = PassReport(context.name, KIND, dry_run=False, started_at=datetime.now(UTC))
        with translate_errors("the database"):
            if options.command == "run":
                await self._leadership.take()
            # Before the first commit, which would wait; hidden lag is refused here, too, and not half-way.
            refuse_waiting_commits(await context.look_at_replicas())
            async with context.pool.acquire() as connection:
                await context.ledger.make(connection, SCHEMA)
            async with AsyncExitStack() as opened:
                try:
                    if options.command == "run":
                        await options.stop.unless_asked(opened.enter_async_context(self._turn))
                except StoppedError:
                    report.state, report.error = "interrupted", STOPPED
                    return report
                lease = await opened.enter_async_context(
                    hold_lease(
                        context.settings.database,
                        options.command,
                        patience=options.patience,
                        stop=options.stop,
                    )
                )
                await self._work(make_requests, options, lease, report, by_hand=by_hand)
        return report

    async def _work(
        self,
        make_requests: Callable[[datetime], list[PurgeRequest]],
        options: PassOptions,
        lease: Lease,
        report: PassReport,
        *,
        by_hand: bool,
    ) -> None:
        async with connection_to(self._context.settings.database) as connection:
            report.started_at = await connection.fetchval("SELECT clock_timestamp()")
            # Use the clock of the floor: with a clock slightly ahead, purges at midnight would be refused.
            steps = ChatSteps(
                self._context, connection, lease, options, make_requests(report.started_at), by_hand=by_hand
            )
            try:
                await run_steps(steps, options, report)
            except (*LOST, asyncpg.PostgresError) as error:
                # The running batch was rolled back: the next purge continues from there.
                report.state, report.error = "interrupted", f"the database {describe(error)}"
                conclude(report)
                sum_up(report, steps.purges)
                await record_end(self._context, report, steps.purges)

    async def sweep(self, *, everything: bool) -> SweepReport:
        """Check that the database answers; purged chats need no sweep."""
        del everything
        with translate_errors("the database"):
            await self._context.ledger.exists(self._context.pool)
        return SweepReport()

    async def accept(self, *, yes: bool) -> Acceptance:
        """Report the state of the ledger; with `yes` accept the clock."""
        context = self._context
        acceptance = Acceptance(context.name)
        with translate_errors("the database"):
            if await context.ledger.exists(context.pool):
                await context.ledger.check_version(context.pool)
                await look_at_ledger(
                    context.pool, await context.ledger.store(context.pool, context.name, KIND), acceptance
                )
            if yes and acceptance.ledger.store is not None:
                async with (
                    hold_lease(context.settings.database, "quarantine accept", patience=10.0) as lease,
                    context.pool.acquire() as connection,
                    connection.transaction(),
                ):
                    await lease.check(connection)
                    await save_acceptance(connection, context.ledger, acceptance, last_pass=0)
                acceptance.accepted = True
        return acceptance

    async def statistics(self, progress: Progress) -> StoreStatistics:
        """Collect the statistics of the store for the report, without changes."""
        progress.stage("draw", None)
        with translate_errors("the database"):
            return await collect_statistics(self._context)

    @property
    def divisions(self) -> tuple[UsageBy, ...]:
        """The divisions of chats."""
        return divisions_of(self._context)

    async def usage(self, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
        """Divide the chats; change nothing."""
        with translate_errors("the database"):
            return await read_usage(self._context, by, top, progress)

    async def take_sample(self, command: str, progress: Progress) -> bool:
        """Take the sample of today; return False if it exists, or without a ledger."""
        context = self._context
        with translate_errors("the database"):
            if not await context.ledger.exists(context.pool):
                return False
            if command == "run":
                await self._leadership.take()
            async with context.pool.acquire() as connection:
                await context.ledger.make(connection, SCHEMA)
            return await take_sample(context, progress)

    async def status(self) -> TargetStatus:
        """Read the status from the ledger."""
        with translate_errors("the database"):
            return await read_status(self._context)

    async def check(self) -> Check:
        """Check the requirements of a pass, and return the problems."""
        return await check(self._context, self._scheduled(datetime.now(UTC)))
