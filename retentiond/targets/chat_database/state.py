"""The target's state: its status from the ledger, the checks of `check-config --connect`, and the report's statistics."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import connection_to, translate_errors
from retentiond.engine.target import PassOptions, PurgeRequest
from retentiond.ledger.holds import count_holds
from retentiond.ledger.leadership import daemon_of
from retentiond.ledger.lease import current_holder, try_session
from retentiond.ledger.migrations import part_version
from retentiond.ledger.past import read_backlog, read_freed, read_last_pass, read_last_success, read_totals
from retentiond.model.check import AccountRows, Check, StoreOverview
from retentiond.model.errors import RefusedError, RetentiondError, UnreachableError, UsageError
from retentiond.model.floor import day_before
from retentiond.model.replication import find_delay
from retentiond.model.report import StoreStatus, Tally, TargetStatus
from retentiond.model.statistics import StoreStatistics
from retentiond.model.text import printable
from retentiond.targets.chat_database import store_notes
from retentiond.targets.chat_database.account import look_at
from retentiond.targets.chat_database.catalogue import refuse
from retentiond.targets.chat_database.context import KIND
from retentiond.targets.chat_database.requests import read_requests
from retentiond.targets.chat_database.steps import Planner
from retentiond.targets.chat_database.stores import STORES, open_store
from retentiond.targets.chat_database.visitor import has_requests, read_unfinished_requests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.context import ChatContext
    from retentiond.targets.chat_database.store import StoreName


_REASON_LIMIT: Final = 300
_STORE_STATES_SINCE: Final = 3
"""The first version of the ledger with a table of store states."""


async def read_status(context: ChatContext) -> TargetStatus:
    """Read the target's last pass, its daemon, and the unfinished work of purges."""
    async with context.pool.acquire() as connection:
        if not await context.ledger.exists(connection):
            daemon = await daemon_of(connection, context.name, ledger=False)
            return TargetStatus(context.name, KIND, ledger=False, daemon=daemon)
        await context.ledger.check_version(connection)
        holder = await current_holder(connection)
        version = await part_version(connection, __package__)
        known = version is not None
        at_work = holder is not None
        undone = await store_notes.read_unfinished(connection, context.name, at_work=at_work) if known else []
        has_states = (version or 0) >= _STORE_STATES_SINCE
        stores = await store_notes.read_stores(connection, context.name) if has_states else []
        return TargetStatus(
            context.name,
            KIND,
            ledger=True,
            last_pass=await read_last_pass(connection, context.name),
            holds=await count_holds(connection),
            backlog=await read_backlog(connection, context.name),
            holder=holder,
            daemon=await daemon_of(connection, context.name, ledger=True),
            problems=(
                *(_undone(context, row) for row in undone),
                *await _open_requests(context, connection, holder),
            ),
            last_success=await read_last_success(connection, context.name),
            stores=tuple(_store(row) for row in stores),
        )


def _store(row: Record) -> StoreStatus:
    shards = json.loads(row["shards"])
    return StoreStatus(
        row["account"],
        row["store"],
        row["state"],
        row["cutoff"],
        row["undone_since"],
        row["reason"],
        shards,
    )


async def _open_requests(context: ChatContext, connection: Conn, holder: str | None) -> list[str]:
    """Return the unfinished requests to erase a visitor, a sentence each."""
    if not await has_requests(connection):
        return []
    rows = await read_unfinished_requests(connection, context.name, at_work=holder is not None)
    return [_open_request(row) for row in rows]


def _open_request(row: Record) -> str:
    named = f"the request `{printable(row['name'])}`" if row["name"] else f"erasure {row['erasure_id']}"
    opening = f"{printable(row['account'])}: {named} of {row['requested_at']:%Y-%m-%d} is not done"
    if row["store"] is None:
        return (
            f"{opening}: chats of the visitor are left, or it was interrupted; the next scheduled pass or the same "
            "command continues it"
        )
    why = f" ({printable(row['reason'], _REASON_LIMIT)})" if row["reason"] else ""
    return f"{opening}: {row['store']} is {row['state']}{why}; the next scheduled pass or the same command continues it"


def _undone(context: ChatContext, row: Record) -> str:
    """Describe the unfinished purge of a store, and the command that continues it."""
    day = row["cutoff"].astimezone(context.config.zone).date()
    opening = f"{printable(row['account'])}: {row['store']} is {row['state']} since {row['undone_since']:%Y-%m-%d %H:%M}"
    why = f" ({printable(row['reason'], _REASON_LIMIT)})" if row["reason"] else ""
    if row["account"] not in context.config.accounts:
        return (
            f"{opening}{why}; {context.name} no longer has this account: add it again, and purge it up to {day} to "
            "continue"
        )
    account = context.config.accounts[row["account"]]
    next_step = f"purge it again up to {day} to continue"
    if account.keep is None or day <= day_before(datetime.now(UTC), account.keep, context.config.zone):
        return f"{opening}{why}; {next_step}"
    if not getattr(account, row["store"]):
        # No scheduled pass purges this store.
        return (
            f"{opening}{why}; {next_step}: this also deletes chats that its `keep` would keep until "
            f"{day + account.keep}"
        )
    return (
        f"{opening}{why}; with its present `keep` the schedule continues it on {day + account.keep}; a purge by hand "
        f"up to {day} would delete chats before that day"
    )


async def check(context: ChatContext, requests: Sequence[PurgeRequest]) -> Check:
    """Check the tables of each account, the rights, the stores and a plan; return the problems and an overview."""
    problems: list[RetentiondError] = []
    stores: list[StoreOverview] = []
    try:
        with translate_errors("the database"):
            await try_session(context.settings.database)
            problems += map(UnreachableError, await _check_rights(context))
            problems += await _check_replicas(context)
            found: dict[str, AccountRows] = {}
            for name in context.config.accounts:
                problems += await _check_account(context, name, found)
            version = await context.pool.fetchval("SHOW server_version")
            stores.append(StoreOverview("postgresql", f"PostgreSQL {version}", found))
            if not problems:
                report = await Planner(context, requests, PassOptions("check-config"), by_hand=False).plan()
                if report.refused is not None:
                    problems.append(RefusedError(report.refused))
        if context.config.erasure_requests is not None:
            _, wrong = await asyncio.to_thread(
                read_requests, context.config.erasure_requests, context.config.accounts
            )
            problems += [UsageError(str(problem)) for problem in wrong]
    except RetentiondError as error:
        problems.append(error)
    for store in STORES:
        if getattr(context.config, store) is not None:
            problems += await _check_store(context, store, stores)
    return Check(problems, stores=stores)


async def _check_rights(context: ChatContext) -> list[str]:
    async with context.pool.acquire() as connection:
        missing = await context.ledger.missing_right(connection)
        return [missing] if missing else []


async def _check_replicas(context: ChatContext) -> list[RetentiondError]:
    """Return the replica that a purge would wait for: one that is behind, lost or hidden."""
    try:
        replication = await context.look_at_replicas()
    except UnreachableError as error:
        return [error]
    delay = find_delay(replication, context.config.pace.max_replica_lag)
    return [UnreachableError(f"a purge would wait: {delay}")] if delay is not None else []


async def _check_account(
    context: ChatContext, name: str, found: dict[str, AccountRows]
) -> list[RetentiondError]:
    async with context.pool.acquire() as connection:
        try:
            now = datetime.now(UTC)
            request = PurgeRequest(name, now.date(), stats=context.account(name).stats)
            purge = await look_at(context, connection, request, 0, dry_run=True, now=now)
            items, oldest = await purge.chats.overview()
        except RetentiondError as error:
            return [error]
    day = oldest.astimezone(context.config.zone).date().isoformat() if oldest else None
    found[name] = AccountRows(items, day)
    return [refuse(purge.missing)] if purge.missing and not context.config.create_index else []


async def _check_store(
    context: ChatContext, name: StoreName, stores: list[StoreOverview]
) -> list[RetentiondError]:
    try:
        async with open_store(name, context.config) as store:
            problems = await store.check()
            if not problems:
                stores.append(await store.look(list(context.config.accounts)))
            return [UnreachableError(problem) for problem in problems]
    except RetentiondError as error:
        return [error]


async def collect_statistics(context: ChatContext) -> StoreStatistics:
    """Count the chats of all accounts, and read why the last pass kept chats."""
    now = datetime.now(UTC)
    status = await read_status(context)
    last = status.last_pass or {}
    async with connection_to(context.settings.database) as connection:
        chats = 0
        for number, name in enumerate(context.config.accounts):
            request = PurgeRequest(name, now.date())
            purge = await look_at(context, connection, request, number, dry_run=True, now=now)
            chats += await purge.chats.count_all()
        freed = await read_freed(connection, context.name) if status.ledger else ()
        totals = await read_totals(connection, context.name) if status.ledger else None
    kept = last.get("kept", {}).get("by_reason", {})
    return StoreStatistics(context.name, KIND, now, Tally(chats, 0), freed=freed, kept=kept, totals=totals)
