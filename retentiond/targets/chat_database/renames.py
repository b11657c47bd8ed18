"""The names that an account has had: a hold is on chats, and stays on them when the configuration calls them otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.targets.chat_database.throttle import SQL

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.context import ChatContext


async def note_name(connection: Conn, context: ChatContext, account: str) -> None:
    """Remember where the chats of an account are."""
    await connection.execute(SQL["note_name"], *_whereabouts(context, account), account)


async def names_of(connection: Conn, context: ChatContext, account: str) -> list[str]:
    """Return the account's name, and those under which its chats were known before."""
    if not await connection.fetchval(SQL["knows_names"]):
        return [account]
    rows = await connection.fetch(SQL["names"], *_whereabouts(context, account))
    return [account, *(row["account"] for row in rows if row["account"] != account)]


def _whereabouts(context: ChatContext, account: str) -> tuple[str, str]:
    return context.schema_of(account), context.column_value_of(account) or ""
