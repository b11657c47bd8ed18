"""Stores that several files of tests ask for: real servers, and stand-ins where the store is not the subject."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from retentiond.targets.chat_database import secondary
from retentiond.targets.chat_database.batch import Batch
from retentiond.targets.dendrite_rooms.context import SCHEMA, RoomLedger
from tests.support.chats import ChatStore
from tests.support.clickhouse_server import ClickHouseServer
from tests.support.closing_lines import not_run
from tests.support.dendrite_admin import RecordedDendrite, recorded_dendrite
from tests.support.room_target import RoomRetention
from tests.support.rooms_store import GONE, STAYS, RoomsStore
from tests.support.secondary import Beside
from tests.support.stats_table import Stats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import asyncpg

    from retentiond.targets.chat_database.batch import Page, Removed


_HOW = "set RETENTIOND_TEST_CLICKHOUSE_URL to a server to test on, or let pip fetch chdb-core"


@pytest.fixture
async def chats(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> ChatStore:
    """The tables of a live-chat product in the test's database, without chats."""
    store = ChatStore(database, connection)
    await store.make()
    return store


@pytest.fixture
async def rooms(connection: asyncpg.Connection[asyncpg.Record]) -> RoomsStore:
    """Three rooms that their local users left long ago, seen empty since, and one with a local user."""
    store = RoomsStore(connection)
    await store.prepare()
    await RoomLedger().make(connection, SCHEMA)
    for room in GONE:
        await store.add(room)
    await store.add(STAYS, members={"@in:here.test": "join"})
    await store.see_empty()
    return store


@pytest.fixture
async def dendrite(database: str) -> AsyncIterator[RecordedDendrite]:
    """The recorded server over the test's database."""
    async with recorded_dendrite(database) as server:
        yield server


@pytest.fixture
def room_retention(database: str, dendrite: RecordedDendrite) -> RoomRetention:
    """Passes over the rooms of that server."""
    return RoomRetention(database, dendrite.url)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many chats each try of a batch was about."""
    tried: list[int] = []
    remove = Batch.remove

    async def count(self: Batch, page: Page) -> Removed:
        tried.append(len(page))
        return await remove(self, page)

    monkeypatch.setattr(Batch, "remove", count)
    return tried


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody answers at, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="session")
def clickhouse_process(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ClickHouseServer | None]:
    """The server of the run; None where one is named, which nobody kills."""
    if os.environ.get("RETENTIOND_TEST_CLICKHOUSE_URL"):
        yield None
        return
    try:
        started = ClickHouseServer(tmp_path_factory.mktemp("clickhouse"))
    except (subprocess.CalledProcessError, OSError) as error:
        not_run(request.config, "ClickHouse", _HOW)
        pytest.skip(f"chdb-core cannot be fetched ({error}); {_HOW}")
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def clickhouse_server(clickhouse_process: ClickHouseServer | None) -> ClickHouseServer | None:
    """That server, which runs: a test that failed may have left it killed."""
    if clickhouse_process is not None and not clickhouse_process.runs:
        clickhouse_process.start()
    return clickhouse_process


@pytest.fixture
def stores(chats: ChatStore, monkeypatch: pytest.MonkeyPatch) -> Beside:
    """The stores beside a database of chats, in memory."""
    made = Beside(chats)
    monkeypatch.setattr(secondary, "open_store", made.open)
    return made


@pytest.fixture
def stats(clickhouse_server: ClickHouseServer | None) -> Stats:
    """A table of statistics on that server, which a test makes."""
    return Stats(clickhouse_server.url if clickhouse_server else os.environ["RETENTIOND_TEST_CLICKHOUSE_URL"])
