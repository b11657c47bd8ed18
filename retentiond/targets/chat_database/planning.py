"""A dry run of a purge. It changes nothing: no row, no schema, no index."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import connection_to, translate_errors
from retentiond.ledger.clocks import check_clocks
from retentiond.ledger.host import read_clock
from retentiond.ledger.ledger import NO_STORE, StoreState
from retentiond.model.errors import RefusedError, UsageError
from retentiond.model.report import Item, PassReport
from retentiond.targets.chat_database.account import check_request, judge_limits, look_at
from retentiond.targets.chat_database.catalogue import refuse
from retentiond.targets.chat_database.context import KIND
from retentiond.targets.chat_database.erasure import count_left
from retentiond.targets.chat_database.orphan_removal import survey_orphans
from retentiond.targets.chat_database.purge_table import database_clock
from retentiond.targets.chat_database.secondary import SecondaryStores
from retentiond.targets.chat_database.steps import sum_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions, PurgeRequest
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.context import ChatContext

_PREFETCH: Final = 1000


class Planner:
    """One dry run over some accounts; by hand the limits do not apply; the floor always does."""

    def __init__(
        self, context: ChatContext, requests: Sequence[PurgeRequest], options: PassOptions, *, by_hand: bool
    ) -> None:
        self._context = context
        self._requests = requests
        self._options = options
        self._by_hand = by_hand
        self._purges: list[AccountPurge] = []

    async def plan(self, listen: Callable[[Item], None] | None = None) -> PassReport:
        """Survey the accounts and count the rows to delete; after a refusal the rest is still counted."""
        report = PassReport(self._context.name, KIND, dry_run=True, started_at=datetime.now(UTC))
        async with connection_to(self._context.settings.database) as connection:
            with translate_errors("the database"):
                try:
                    await self._work(connection, report, listen)
                except RefusedError as error:
                    report.refused = error.refusal
        report.state = "refused" if report.refused is not None else "planned"
        sum_up(report, self._purges)
        report.finished_at = datetime.now(UTC)
        return report

    async def _work(
        self, connection: Conn, report: PassReport, listen: Callable[[Item], None] | None
    ) -> None:
        state = await self._state(connection)
        for number, request in enumerate(self._requests):
            check_request(self._context, request, state.now)
            self._purges.append(
                await look_at(self._context, connection, request, number, dry_run=True, now=state.now)
            )
        stores = SecondaryStores(self._context, connection, self._options)
        await stores.check_stores(self._requests)
        for error in stores.errors.values():
            # A refusal is reported with the counts of the rest; an error of usage by hand ends the plan.
            if self._by_hand and isinstance(error, UsageError):
                raise error
        self._options.progress.stage("survey", len(self._purges))
        for purge in self._purges:
            await purge.survey()
            await purge.count()
            if purge.erasure_request is not None:
                await count_left(connection, purge)
            else:
                limited = not (self._by_hand or self._options.over_limits)
                await survey_orphans(connection, purge, limited=limited)
            self._options.progress.advance(1)
            if not self._by_hand and purge.erasure_request is None:
                report.refused = report.refused or judge_limits(purge, first=state.first)
            if listen is not None:
                await self._list(connection, purge, listen)
            if purge.erasure_request is None or purge.report.refused is None:
                await stores.purge(purge, None)
        missing = [index for purge in self._purges for index in purge.missing]
        if missing and not self._context.config.create_index:
            raise refuse(missing)

    async def _state(self, connection: Conn) -> StoreState:
        """Return the state of the ledger, if there is one, and check that the clocks agree."""
        ledger = self._context.ledger
        if await ledger.exists(connection):
            state = await ledger.store(connection)
            check_clocks(state, await ledger.clock_leap(connection, read_clock()), self._context.name)
        else:
            state = StoreState(NO_STORE, 0, None, await database_clock(connection))
            check_clocks(state, 0.0, self._context.name)
        return state

    async def _list(self, connection: Conn, purge: AccountPurge, listen: Callable[[Item], None]) -> None:
        statement = purge.chats.tree.statement("listing")
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(statement, prefetch=_PREFETCH):
                due = row["verdict"] == "due"
                listen(
                    Item(
                        target=self._context.name,
                        media=f"{purge.request.account}/{row['key']}",
                        action="remove" if due else "keep",
                        reason=row["verdict"],
                        policy=purge.request.account,
                        bytes=0,
                    )
                )
