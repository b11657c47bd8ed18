"""One purge of chats in the database, the statistics and the search, each of them real."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

import pytest

from retentiond.demo.chat_show import ACCOUNT
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database.search.store import Elasticsearch
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chance import NIGHTLY
from tests.support.chats import OLD, ChatStore
from tests.support.search_server import Product
from tests.support.stats_table import Stats

if TYPE_CHECKING:
    import asyncpg

    from retentiond.engine.target import Progress
    from retentiond.model.purge import StoreReport
    from retentiond.targets.chat_database.store import StoreName, StorePurge
    from tests.support.clickhouse_server import ClickHouseServer
    from tests.support.search_index import Chats


# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)


class DiedError(BaseException):
    """What a power cut is to the daemon."""


async def die(_store: Elasticsearch, _purge: StorePurge, _progress: Progress) -> StoreReport:
    """Die when it comes to the search."""
    raise DiedError


@pytest.mark.parametrize(
    ("way", "server"),
    # By day each way has one of the servers.
    [
        (way, server)
        for place, way in enumerate(("by hand, after a death between the stores", "by schedule"))
        for server in get_args(Product)
        if NIGHTLY or get_args(Product).index(server) == place
    ],
    indirect=["server"],
)
async def test_one_purge_takes_a_chat_from_every_store_and_leaves_those_that_stay_in_every_store(
    chats: Chats,
    clickhouse_server: ClickHouseServer | None,
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    store = ChatStore(database, connection)
    await store.make()
    recent = datetime.now(UTC) - timedelta(days=30)
    due = {await store.chat(), await store.chat()}
    held = await store.chat()
    stay = {
        held,
        await store.chat(state="chatting"),
        await store.chat(messages=(OLD, recent)),
        await store.chat(files=1),
    }
    newer = await store.chat(created=recent, modified=recent, messages=(recent,))
    stats = Stats(
        clickhouse_server.url if clickhouse_server else os.environ["RETENTIOND_TEST_CLICKHOUSE_URL"]
    )
    await stats.make()
    await chats.make()
    lines: list[dict[str, Any]] = []
    for account in (ACCOUNT, "other"):
        for chat in due | stay | {newer}:
            created = recent if chat == newer else OLD
            await stats.row(account, created, chat)
            lines += [
                {"index": {}},
                {"account": account, "created": created.isoformat(), "threadid": chat},
            ]
    await chats.bulk(lines, parameters="?refresh=true")
    config: dict[str, Any] = {
        "clickhouse": stats.config.model_dump(),
        "elasticsearch": chats.config.model_dump(),
    }
    both: tuple[StoreName, ...] = ("clickhouse", "elasticsearch")
    async with open_chat_database("chats", store.config()) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", ACCOUNT, Narrowing(chat=str(held)))))
    if way == "by schedule":
        scheduled = {"schema": store.schema, "keep": "400d", "clickhouse": True, "elasticsearch": True}
        (report,) = (await store.run_pass(accounts={ACCOUNT: scheduled}, **config)).purges
    else:
        with monkeypatch.context() as patched:
            patched.setattr(Elasticsearch, "purge", die)
            with pytest.raises(DiedError):
                await store.purge(wish={"stores": both}, **config)
        report = await store.purge(wish={"stores": both}, **config)
    assert (report.state, report.exit_status) == ("finished", 0)
    assert await store.chats() == stay | {newer}
    assert await stats.chats(ACCOUNT) == await chats.chats(ACCOUNT) == stay | {newer}
    assert await stats.chats("other") == await chats.chats("other") == due | stay | {newer}
