"""The usage of chats by account, month and department, and the daily sample of a target. Reading changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import connection_to, named_queries
from retentiond.engine.target import PurgeRequest
from retentiond.ledger.samples import has_sample, save_sample
from retentiond.model.errors import UnreachableError
from retentiond.model.report import Tally
from retentiond.model.text import printable
from retentiond.model.usage import LARGEST, NOT_KNOWN, UsageRow, key_of, with_rest
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.account import look_at
from retentiond.targets.chat_database.refused_tables import may_count_rows
from retentiond.targets.chat_database.statements import quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.usage import UsageBy
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.context import ChatContext

_SQL: Final = named_queries(__package__, "usage.sql")
_MOST_MONTHS: Final = 100_000
"""More months than there can be up to now."""


def divisions_of(context: ChatContext) -> tuple[UsageBy, ...]:
    """Return the divisions of the target's chats: by department only if the layout names its column."""
    return (
        ("account", "month") if context.layout.root.department is None else ("account", "month", "department")
    )


async def read_usage(context: ChatContext, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
    """Divide the chats of all accounts; they have no bytes, as in plans and the report."""
    items: dict[str, int] = {}
    total = 0
    async with connection_to(context.settings.database) as connection:
        async for account in _accounts(context, connection, progress):
            if by == "account":
                found = {key_of(account.request.account): await account.chats.count_all()}
                total += sum(found.values())
            else:
                found, of_account = await _divided(context, connection, account, by, top)
                total += of_account
            for key, count in found.items():
                items[key] = items.get(key, 0) + count
    largest = sorted(items.items(), key=lambda part: (-part[1], part[0]))[:top]
    if by == "month":
        largest.sort()
    return with_rest([UsageRow(key, count, 0) for key, count in largest if count], Tally(total, 0))


async def _accounts(
    context: ChatContext, connection: Conn, progress: Progress
) -> AsyncIterator[AccountPurge]:
    progress.stage("accounts", len(context.config.accounts))
    now = datetime.now(UTC)
    for number, name in enumerate(context.config.accounts):
        request = PurgeRequest(name, now.date())
        yield await look_at(context, connection, request, number, dry_run=True, now=now)
        progress.advance(1)


async def _divided(
    context: ChatContext, connection: Conn, account: AccountPurge, by: UsageBy, top: int
) -> tuple[dict[str, int], int]:
    """Return the chats of an account by key, and all of them."""
    tree, department = account.chats.tree, context.layout.root.department or ""
    places = {"division": _SQL[f"by_{by}"]}
    if by == "department":
        await _check_department(context, connection, account.schema, department)
        places["department"] = quoted(department)
        # Department IDs are unique only within an account.
        prefix = f"{account.request.account}/"
    else:
        # Months are summed over all accounts, so all of them are needed; they are few.
        prefix, top = "", _MOST_MONTHS
    values = account.chats.values | {"top": top, "until": datetime.now(UTC) + timedelta(days=1)}
    rows = await statements.fetch(connection, tree.fill(_SQL["divided"], **places), values)
    found = {NOT_KNOWN if row["key"] is None else key_of(prefix + row["key"]): row["items"] for row in rows}
    return found, rows[0]["total"] if rows else 0


async def _check_department(context: ChatContext, connection: Conn, schema: str, department: str) -> None:
    """Raise UnreachableError if the column is missing, or not readable: a purge does not need it."""
    table = context.layout.table(context.layout.chat)
    if not await may_count_rows(connection, schema, table, [department]):
        column = f"{printable(table)}.{printable(department)}"
        raise UnreachableError(
            f"the column of departments, {column}, is missing, or this role may not read it; let the role read it, or name "
            "another column as `department` in a copy of the layout"
        )


async def take_sample(context: ChatContext, progress: Progress) -> bool:
    """Add the sample of today to the ledger; return False if it exists already."""
    if await has_sample(context.pool, context.name):
        return False
    accounts = await read_usage(context, "account", LARGEST, progress)
    stored = Tally(sum(row.items for row in accounts), 0)
    # The remaining accounts are the difference from the total.
    named = accounts[:LARGEST]
    return await save_sample(
        context.pool, context.name, stored, classes={}, largest={"account": named}, free_bytes=None
    )
