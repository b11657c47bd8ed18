"""The steps of a pass over chats, as the engine runs them: a scheduled pass or a purge by hand; and their dry run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import connection_to, translate_errors
from retentiond.ledger.clocks import ClockLook, check_clocks, look_at_clock, note_clock
from retentiond.ledger.host import read_clock
from retentiond.ledger.ledger import NO_STORE, PassHeader, StoreState
from retentiond.ledger.past import save_backlog, shrink_backlog
from retentiond.ledger.samples import prune_after
from retentiond.model.errors import RefusedError, UsageError
from retentiond.model.purge import StoreReport
from retentiond.model.report import Item, PassReport
from retentiond.model.text import printable
from retentiond.targets.chat_database.account import judge_limits, look_at_each
from retentiond.targets.chat_database.catalogue import make_indexes, refuse
from retentiond.targets.chat_database.context import KIND
from retentiond.targets.chat_database.erasure import begin_request, count_left, end_request, rules_of
from retentiond.targets.chat_database.orphan_removal import purge_orphans, survey_orphans
from retentiond.targets.chat_database.purge_table import (
    begin_purge,
    committed_report,
    database_clock,
    end_purge,
    note_name,
)
from retentiond.targets.chat_database.removal import Removal
from retentiond.targets.chat_database.secondary import SecondaryStores
from retentiond.targets.chat_database.store_notes import begin_stores_of_account

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions, PurgeRequest
    from retentiond.ledger.lease import Lease
    from retentiond.model.errors import Refusal
    from retentiond.model.purge import PurgeReport
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.context import ChatContext

_PREFETCH: Final = 1000


class ChatSteps:
    """One pass over some accounts, with its own `connection`. By hand the limits do not apply; the floor always does."""

    def __init__(
        self,
        context: ChatContext,
        connection: Conn,
        lease: Lease,
        options: PassOptions,
        requests: Sequence[PurgeRequest],
        *,
        by_hand: bool,
    ) -> None:
        self._context = context
        self._connection = connection
        self._lease = lease
        self._options = options
        self._requests = requests
        self._by_hand = by_hand
        self._first = False
        # An erasure does not change the backlog of scheduled purges.
        self._erases = any(request.erasure is not None for request in requests)
        self._stores = SecondaryStores(context, connection, options, lease)
        self.purges: list[AccountPurge] = []
        self._log = get_logger(target=context.name)

    async def make_safe(self) -> None:
        """Check the clock, the dates, the tables against the layout, and the secondary stores."""
        context, connection = self._context, self._connection
        state = await context.ledger.store(connection, context.name, KIND)
        self._first = state.first
        check_clocks(state, await look_at_clock(connection, context.name))
        await note_clock(connection, context.name)
        await look_at_each(self.purges, context, connection, self._requests, dry_run=False, now=state.now)
        await self._stores.check_stores(self._requests)
        if self._by_hand:
            self._refuse_store_errors()

    def _refuse_store_errors(self) -> None:
        """End a purge by hand before it begins, so that the administrator can repair the store or leave it out."""
        for name, error in self._stores.errors.items():
            if isinstance(error, RefusedError):
                for purge in self.purges:
                    purge.report.stores[name] = StoreReport("refused", refused=error.refusal)
        for error in self._stores.errors.values():
            raise error

    async def sweep(self) -> None:
        """Create the missing indexes, or refuse the pass without them."""
        missing = {index.statement: index for purge in self.purges for index in purge.missing}
        if not missing:
            return
        if not self._context.config.create_index:
            raise refuse(list(missing.values()))
        await make_indexes(self._connection, list(missing.values()))

    async def survey(self, report: PassReport) -> Refusal | None:  # noqa: ARG002 - summed up at the end
        """Judge every chat of the accounts, and compare the counts of a scheduled pass with the limits."""
        self._options.progress.stage("survey", None)
        refused: Refusal | None = None
        for purge in self.purges:
            await purge.survey()
            purge.report.not_reached = purge.chats.due
            if purge.request.orphans:
                limited = not (self._by_hand or self._options.over_limits)
                await survey_orphans(self._connection, purge, limited=limited)
            if purge.report.refused is not None:
                # Raised, not returned: `--yes` overrides limits, but no hold.
                raise RefusedError(purge.report.refused)
            if not self._by_hand and purge.erasure_request is None:
                refused = refused or judge_limits(purge, first=self._first)
        if not self._by_hand and not self._erases:
            await self._note_backlog()
        self._options.progress.stage("remove", sum(purge.affected for purge in self.purges))
        return refused

    async def _note_backlog(self) -> None:
        """Record the due items and since when they are due: a growing backlog is a stalled purge."""
        since: list[datetime] = []
        for purge in self.purges:
            keep, oldest = self._context.config.keeps[purge.request.account], await purge.chats.oldest_due()
            if keep is not None and oldest is not None:
                since.append(oldest + keep)
        due = sum(purge.chats.due for purge in self.purges)
        await save_backlog(self._connection, self._context.name, due, 0, min(since, default=None))

    async def begin(self, report: PassReport) -> None:
        """Create the pass in the ledger, with the terms of each account's purge."""
        header = PassHeader(
            target=self._context.name,
            kind=report.kind,
            command=self._options.command,
            started_at=report.started_at,
            rules={"accounts": [rules_of(purge.request) for purge in self.purges]},
            grace=timedelta(0),
            settle=timedelta(0),
            cutoffs={purge.request.account: purge.cutoff.isoformat() for purge in self.purges},
        )
        async with self._connection.transaction():
            await self._lease.check(self._connection)
            report.pass_id = await self._context.ledger.begin_pass(self._connection, header)
            for purge in self.purges:
                request = purge.request
                await begin_purge(self._connection, report.pass_id, request, purge.cutoff)
                await note_name(self._connection, self._context, request.account)
                await begin_request(self._context, self._connection, purge, report.pass_id)
                if purge.erasure_request is None:
                    await begin_stores_of_account(
                        self._connection,
                        self._context.name,
                        request.account,
                        request.stores,
                        report.pass_id,
                        purge.cutoff,
                    )
        self._log.info("pass_started", pass_id=report.pass_id, command=self._options.command)

    async def remove(self, report: PassReport) -> None:
        """Delete the due rows of each account, and then purge its stores."""
        if report.pass_id is None:
            return
        removal = Removal(self._context, self._connection, self._lease, self._options, report.pass_id)
        for purge in self.purges:
            await removal.run((purge.chats, *purge.others), purge.report)
            await purge_orphans(purge, self._lease, self._options, report.pass_id, self._connection)
            await self._stores.purge(purge, report.pass_id)

    async def account(self, report: PassReport) -> None:
        """Reduce the backlog by the deleted chats; each batch has counted the rest."""
        if not self._by_hand and not self._erases:
            deleted = sum(purge.report.chats for purge in self.purges)
            await shrink_backlog(self._connection, report.target, deleted)

    async def end(self, report: PassReport) -> None:
        """Record the end of each account's purge and of the pass."""
        sum_up(report, self.purges)
        for purge in self.purges:
            await end_request(self._connection, self._lease, purge, report)
        await record_end(self._context, report, self.purges)
        await prune_after(self._connection, report, self._options.keep_records)


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
        await look_at_each(
            self._purges, self._context, connection, self._requests, dry_run=True, now=state.now
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
            await ledger.check_version(connection)
            state = await ledger.store(connection, self._context.name, KIND)
            check_clocks(state, await look_at_clock(connection, self._context.name))
        else:
            state = StoreState(NO_STORE, 0, None, await database_clock(connection))
            check_clocks(state, ClockLook(self._context.name, read_clock()))
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


def sum_up(report: PassReport, purges: Sequence[AccountPurge]) -> None:
    """Conclude the reports of the accounts, and sum them up in the report of the pass."""
    for purge in purges:
        one = purge.report
        if report.state in {"refused", "interrupted"}:
            one.refused, one.error = one.refused or report.refused, one.error or report.error
            one.state = report.state
        one.conclude()
        if report.state != "refused":
            report.remove(one.account, one.chats)
        report.failed.update(one.failed)
        report.await_turn(one.not_reached, 0)
        report.kept.update(one.kept)
        # In an erasure they are counted already, as `under_floor`.
        if "under_floor" not in one.kept:
            report.kept["not_due"] += max(0, one.all_chats - purge.chats.verdicts.total())
        report.purges.append(one)
        report.remarks += [
            f"{printable(one.account)}: {text}" for text in (*one.remarks, *one.orphans.remarks())
        ]
    report.kept = +report.kept
    if report.state != "refused" and any(purge.report.state == "interrupted" for purge in purges):
        report.state = "interrupted"
    elif report.state == "finished" and any(purge.report.exit_status for purge in purges):
        report.state = "finished_with_failures"


async def _learn_committed(context: ChatContext, report: PassReport, purge: PurgeReport) -> None:
    """Count a batch whose COMMIT succeeded without an answer, from the counts that each batch commits."""
    committed = await committed_report(context.pool, report.pass_id, purge.account)
    more = committed.get("chats", 0) - purge.chats
    for entity, rows in committed.get("entities", {}).items():
        purge.entities[entity] = max(purge.entities[entity], rows)
    for entity, rows in (committed.get("orphans") or {}).get("removed", {}).items():
        purge.orphans.removed[entity] = max(purge.orphans.removed[entity], rows)
    if more > 0:
        purge.chats += more
        purge.reach(more)
        report.remove(purge.account, more)
        report.reach(more, 0)


async def record_end(context: ChatContext, report: PassReport, purges: Sequence[AccountPurge]) -> None:
    """Record the end of a pass, and of the purge of each account in it."""

    async def end_purges() -> None:
        for purge in purges:
            await _learn_committed(context, report, purge.report)
            await end_purge(context.pool, report.pass_id, purge.report)

    await context.ledger.record_end(context.pool, report, end_purges)
