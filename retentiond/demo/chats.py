"""A made-up live-chat product: its tables, as the layout webim names them, and chats of some years."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.chat_database.names import quoted

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.adapters.postgres import Conn

ACCOUNT: Final = "testcom"
SCHEMA: Final = "pro"


@dataclass(frozen=True, slots=True)
class MadeUpChats:
    """How many chats, when, and every how many one of each kind that stays comes in (0: never)."""

    chats: int
    begin: datetime
    end: datetime
    messages: int = 10
    staying_every: int = 50


async def make_chat_tables(connection: Conn, schema: str = SCHEMA) -> None:
    """Make the tables, in a schema of their own."""
    text = resources.files(__package__).joinpath("chats.sql").read_text(encoding="utf-8")
    await connection.execute(text.replace("{schema}", quoted(schema)))


async def make_up_chats(connection: Conn, made: MadeUpChats, schema: str = SCHEMA) -> None:
    """Fill the tables."""
    sql = named_queries(__package__, "chat_rows.sql", schema=quoted(schema))
    span = (made.begin, made.end)
    for name in ("departments", "operators", "categories", "surveys"):
        await connection.execute(sql[name])
    await connection.execute(sql["visitors"], made.chats)
    await connection.execute(sql["sessions"], made.chats, *span)
    await connection.execute(sql["chats"], made.chats, *span, made.staying_every)
    await connection.execute(sql["messages"], made.messages, made.end, made.staying_every)
    for name in ("history", "rates", "launches", "answers", "thread_categories"):
        await connection.execute(sql[name])
    await connection.execute(sql["stats"], *span)
    await connection.execute(sql["stats_log"])
