"""The erasure of one visitor in the database, the statistics and the search, each of them real."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.demo.chat_show import ACCOUNT
from retentiond.engine.target import Erasure, PassOptions
from retentiond.targets.chat_database.search.store import Elasticsearch
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import OLD, ChatStore
from tests.support.secondary import DiedError
from tests.support.stats_table import Stats

if TYPE_CHECKING:
    import asyncpg

    from retentiond.model.purge import PurgeReport
    from tests.support.clickhouse_server import ClickHouseServer
    from tests.support.search_index import Chats


# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)
VISITOR = 4711
OTHER = 77
RECENT = datetime.now(UTC) - timedelta(days=30)


class Everywhere:
    """Chats of two visitors in three stores; a store's orphans are those that the database does not have."""

    def __init__(self, store: ChatStore, stats: Stats, search: Chats) -> None:
        self.store = store
        self.stats = stats
        self.search = search

    async def make(self) -> None:
        """Make all of them, empty."""
        await self.store.make()
        await self.store.connection.execute(
            f"INSERT INTO pro.visitor VALUES ({VISITOR}, 'Vera'), ({OTHER}, 'Otto')"
        )
        await self.stats.make(others=", visitorid Int64")
        await self.search.make(visitorid={"type": "long"})

    async def chat(
        self, visitor: int, *, recent: bool = False, there: bool = True, late: bool = False
    ) -> int:
        """Add a chat everywhere, or, where it is not `there`, in the stores alone; `late`: the stores date it today."""
        day: dict[str, Any] = {"created": RECENT, "modified": RECENT, "messages": (RECENT,)} if recent else {}
        made = await self.store.chat(**day)
        await self.store.connection.execute(
            f"UPDATE pro.chatthread SET visitorid = {visitor} WHERE threadid = {made}"
        )
        if not there:
            await self.store.connection.execute("BEGIN")
            for table in ("chatmessage", "chatthreadhistory", "chatrate", "thread_category"):
                await self.store.connection.execute(f"DELETE FROM pro.{table} WHERE threadid = {made}")
            await self.store.connection.execute(
                f"DELETE FROM pro.surveyanswer WHERE surveylaunchid = {made};"
                f"DELETE FROM pro.surveylaunch WHERE threadid = {made}; DELETE FROM pro.chatthread WHERE threadid = {made}"
            )
            await self.store.connection.execute("COMMIT")
        created = datetime.now(UTC) - timedelta(hours=1) if late else RECENT if recent else OLD
        for account in (ACCOUNT, "other"):
            await self.stats.do(
                "INSERT INTO retentiond_test.thread (account, created, threadid, visitorid) VALUES "
                f"('{account}', '{created:%Y-%m-%d %H:%M:%S}', {made}, {visitor})"
            )
            document = {
                "account": account,
                "created": created.isoformat(),
                "threadid": made,
                "visitorid": visitor,
            }
            await self.search.bulk([{"index": {}}, document], parameters="?refresh=true")
        return made

    async def erase(self, *, named: bool, dry_run: bool = False, **wish: Any) -> PurgeReport:
        """Erase the visitor; `named`: the stores are configured with where they name visitors."""
        visitors = {"visitor_column": "visitorid"}, {"visitor_field": "visitorid"}
        stores = [
            config.model_dump() | (more if named else {})
            for config, more in zip((self.stats.config, self.search.config), visitors, strict=True)
        ]
        config = self.store.config(clickhouse=stores[0], elasticsearch=stores[1])
        async with open_chat_database("chats", config) as target:
            erasure = Erasure(ACCOUNT, str(VISITOR), **wish)
            return await target.erase(erasure, PassOptions("purge-chats"), dry_run=dry_run)

    async def left(self, account: str = ACCOUNT) -> tuple[set[int], set[int]]:
        """Return the chats of an account that the two stores have."""
        return await self.stats.chats(account), await self.search.chats(account)


@pytest.fixture
async def everywhere(
    chats: Chats,
    clickhouse_server: ClickHouseServer | None,
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
) -> Everywhere:
    url = clickhouse_server.url if clickhouse_server else os.environ["RETENTIOND_TEST_CLICKHOUSE_URL"]
    made = Everywhere(ChatStore(database, connection), Stats(url), chats)
    await made.make()
    return made


async def two_are_gone(
    everywhere: Everywhere, reports: tuple[PurgeReport, PurgeReport], gone: set[int], stay: set[int]
) -> None:
    """The plan and the erasure count two chats in each store, which has lost these and no others."""
    for report in reports:
        assert {name: store.rows for name, store in report.stores.items()} == {
            "clickhouse": 2,
            "elasticsearch": 2,
        }
    assert await everywhere.left() == (stay, stay)
    assert await everywhere.left("other") == (gone | stay, gone | stay)


async def test_every_store_loses_the_chats_of_the_visitor_whatever_date_it_has_for_them_and_no_others(
    everywhere: Everywhere,
) -> None:
    gone = {await everywhere.chat(VISITOR), await everywhere.chat(VISITOR, late=True)}
    stay = {
        await everywhere.chat(VISITOR, recent=True),
        await everywhere.chat(VISITOR, there=False),
        await everywhere.chat(OTHER),
        await everywhere.chat(OTHER, there=False),
    }
    dry = await everywhere.erase(named=False, dry_run=True)
    report = await everywhere.erase(named=False)
    assert (report.state, report.chats) == ("finished", 2)
    await two_are_gone(everywhere, (dry, report), gone, stay)


async def test_a_store_that_names_visitors_loses_their_old_rows_of_chats_that_the_database_lost(
    everywhere: Everywhere,
) -> None:
    gone = {await everywhere.chat(VISITOR), await everywhere.chat(VISITOR, there=False)}
    stay = {
        await everywhere.chat(VISITOR, recent=True, there=False),
        await everywhere.chat(VISITOR, recent=True),
        await everywhere.chat(OTHER),
        await everywhere.chat(OTHER, there=False),
    }
    dry = await everywhere.erase(named=True, dry_run=True)
    report = await everywhere.erase(named=True)
    assert report.state == "finished"
    await two_are_gone(everywhere, (dry, report), gone, stay)


async def test_an_erasure_that_died_between_the_stores_goes_on_with_the_chats_that_are_gone_from_the_database(
    everywhere: Everywhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    await everywhere.chat(VISITOR)
    stays = {await everywhere.chat(OTHER, there=False)}

    async def die(*_: object) -> None:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(Elasticsearch, "purge", die)
        with pytest.raises(DiedError):
            await everywhere.erase(named=False)
    report = await everywhere.erase(named=False)
    assert (report.state, report.chats) == ("finished", 0)
    assert await everywhere.left() == (stays, stays)
    assert report.erasure is not None
    assert (report.erasure.done, report.erasure.chats) == (True, 1)
    assert report.erasure.stores == {
        "clickhouse": {"state": "finished", "rows": 1},
        "elasticsearch": {"state": "finished", "rows": 1},
    }
