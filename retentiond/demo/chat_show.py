"""The demo's second part: an account's chats are held, planned and purged up to a date, with progress on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from retentiond.adapters.postgres import named_queries
from retentiond.config.chats import ChatTarget
from retentiond.demo.screen import Screen
from retentiond.engine.target import PassOptions, PurgeRequest
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database.statements import quoted
from retentiond.targets.chat_database.target import ChatDatabase, open_chat_database
from retentiond.terminal.purge import show_purge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from retentiond.adapters.postgres import Conn
    from retentiond.demo.postgres import EmbeddedPostgres
    from retentiond.model.purge import PurgeReport

ACCOUNT: Final = "testcom"
SCHEMA: Final = "pro"


@dataclass(frozen=True, slots=True)
class MadeUpChats:
    """The number of chats, their period, and the interval of each kind of kept chat (0: never)."""

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


_DATABASE: Final = "demo_chats"
_CHATS: Final = 2000
_YEARS: Final = timedelta(days=3 * 365)
_FLOOR: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class ChatDemo:
    """The plan and the result of the purge, and the differences between the two, normally empty."""

    planned: PurgeReport
    purged: PurgeReport
    wrong: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as a part of the demo's document."""
        return {
            "planned": self.planned.as_json(),
            "purged": self.purged.as_json(),
            "wrong": list(self.wrong),
        }


async def show_chats(server: EmbeddedPostgres, console: Console, *, quiet: bool) -> ChatDemo:
    """Make up a product's chats of three years, and purge those of more than one."""
    show = Screen(console, quiet=quiet)
    connection = await _make_database(server)
    try:
        end = datetime.now(UTC)
        made = MadeUpChats(_CHATS, end - _YEARS, end)
        show.head(f"{_CHATS:,} chats of three years, in a database of their own")
        await make_chat_tables(connection)
        await make_up_chats(connection, made)
        config = _config(server.dsn(_DATABASE))
        async with open_chat_database("chats", config) as target:
            return await _purge(target, connection, show, end - _FLOOR)
    finally:
        await connection.close()


async def _purge(
    target: ChatDatabase, connection: asyncpg.Connection[asyncpg.Record], show: Screen, latest: datetime
) -> ChatDemo:
    held = await _oldest_due(connection)
    await target.holds.add(
        HoldRequest(HoldSubject("account", ACCOUNT, Narrowing(chat=str(held))), reason="demo")
    )
    request = PurgeRequest(ACCOUNT, latest.date(), stats=True)
    words = f"purge-chats --account {ACCOUNT} --to-date {request.to_date} --purge-stats"
    show.head(f"retentiond hold add --account {ACCOUNT} --chat {held}; retentiond {words} --dry-run")
    planned = await target.purge_chats(request, PassOptions("demo"), dry_run=True)
    show.print(lambda console: show_purge(console, planned, ["Nothing was changed."]))
    before = await _counts(connection)
    show.head(f"retentiond {words}")
    purged = await target.purge_chats(request, PassOptions("demo"), dry_run=False)
    next_step = "Each chat was deleted as a whole, in one transaction with all rows that belong to it."
    show.print(lambda console: show_purge(console, purged, [next_step]))
    wrong = tuple(_compare(planned, purged, before, await _counts(connection)))
    if await connection.fetchval(f"SELECT count(*) FROM {SCHEMA}.chatthread WHERE threadid = $1", held) != 1:
        wrong += ("the chat that was held is gone",)
    for problem in wrong:
        show.line(f"WRONG: {problem}")
    return ChatDemo(planned, purged, wrong)


def _compare(
    planned: PurgeReport, purged: PurgeReport, before: dict[str, int], after: dict[str, int]
) -> Iterable[str]:
    if planned.entities != purged.entities or planned.kept != purged.kept:
        yield "the purge did not do what its dry run said"
    for table, rows in before.items():
        if rows - after[table] != purged.entities[table]:
            yield f"{table}: {rows - after[table]} rows are deleted, and {purged.entities[table]} are reported"


async def _make_database(server: EmbeddedPostgres) -> asyncpg.Connection[asyncpg.Record]:
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute(f"CREATE DATABASE {_DATABASE}")
    finally:
        await connection.close()
    return await asyncpg.connect(server.dsn(_DATABASE))


async def _oldest_due(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    chat: int = await connection.fetchval(
        # Of every fifty chats the first three are kept, each for a reason of its own.
        f"SELECT min(threadid) FROM {SCHEMA}.chatthread WHERE threadid % 50 > 3"
    )
    return chat


async def _counts(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    tables = await connection.fetch(
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = $1 ORDER BY 1", SCHEMA
    )
    return {
        row["name"]: await connection.fetchval(f"SELECT count(*) FROM {SCHEMA}.{row['name']}")
        for row in tables
    }


def _config(dsn: str) -> ChatTarget:
    return ChatTarget.model_validate(
        {"kind": "chat_database", "database": dsn, "accounts": {ACCOUNT: {"schema": SCHEMA}}}
    )
