"""How fast a purge of chats is against the floor: one bulk DELETE a table, in the same order."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import asyncpg

from retentiond.demo.chat_show import ACCOUNT, SCHEMA, MadeUpChats, make_chat_tables, make_up_chats
from retentiond.targets.chat_database.layout import read_layout
from tests.benchmark.frame import Case, Sample, timed
from tests.benchmark.store import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmark.store import Bench

_TO_DATE = "2024-01-01"
_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_END = datetime(2023, 12, 31, tzinfo=UTC)
_MESSAGES = 10


def purge_of_chats(bench: Bench) -> Iterator[Case]:
    """Yield a purge of everything, and one of a tenth, whose memory shows that it does not grow."""
    dsn = bench.server.dsn("bench")
    layout = read_layout("webim")
    order = [*layout.tree(layout.chat), *layout.shared]
    deletes = [f"DELETE FROM {SCHEMA}.{layout.table(entity)}" for entity in order]
    config = bench.directory / "chats.yaml"
    config.write_text(json.dumps(_config(dsn)))
    words = ("--config", str(config), "purge-chats", "--json", "--account", ACCOUNT, "--to-date", _TO_DATE)

    def purge(chats: int) -> Sample:
        _make(bench, chats)
        sample, document = bench.command(*words)
        removed = document["entities"]
        if (removed["chatthread"], removed["chatmessage"]) != (chats, _MESSAGES * chats):
            raise SystemExit(f"{removed} were removed: this is no measurement")
        return sample

    def floor(chats: int) -> Sample:
        _make(bench, chats)
        return timed(bench.server, lambda: execute(dsn, *deletes))

    for chats in (max(1, bench.media // 10), bench.media):
        what = f"purge of {chats:,} chats with {_MESSAGES * chats:,} messages"
        yield Case(what, partial(purge, chats), partial(floor, chats))


def _make(bench: Bench, chats: int) -> None:
    execute(bench.server.dsn(), "DROP DATABASE IF EXISTS bench WITH (FORCE)", "CREATE DATABASE bench")
    asyncio.run(
        _fill(bench.server.dsn("bench"), MadeUpChats(chats, _BEGIN, _END, _MESSAGES, staying_every=0))
    )
    # The writes that made it are not charged to its removal.
    execute(bench.server.dsn(), "CHECKPOINT")


def _config(dsn: str) -> dict[str, object]:
    target = {
        "kind": "chat_database",
        "database": dsn,
        "accounts": {ACCOUNT: {"schema": SCHEMA}},
        "pace": {"max_rows_per_second": 100_000_000},
    }
    return {"targets": {"chats": target}, "logging": {"level": "warning"}}


async def _fill(dsn: str, made: MadeUpChats) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await make_chat_tables(connection)
        await make_up_chats(connection, made)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
