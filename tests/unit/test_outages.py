"""A store beside the database that cannot be reached: each cause has its own words and its own next step."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from retentiond.config.chat_stores import ClickHouseStore, ElasticsearchStore
from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.clickhouse.connection import open_server
from retentiond.targets.chat_database.search import client
from retentiond.targets.chat_database.search.store import open_search
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def told(store: str, url: str) -> str:
    """What is said of a store that cannot be opened."""
    opened = (
        open_server(ClickHouseStore(url=url, table="webim_stats.thread"))
        if store == "clickhouse"
        else open_search(ElasticsearchStore(url=url, index="chats"))
    )
    with pytest.raises(UnreachableError) as caught:
        await opened.__aenter__()
    return str(caught.value)


@asynccontextmanager
async def server_that_says(answer: bytes | None) -> AsyncIterator[int]:
    """A server that gives the same answer to everything, or none; its port."""
    over = asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        if answer is None:
            await over.wait()
        else:
            writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(reply, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        over.set()
        listener.close()


STORES = pytest.mark.parametrize("store", ["clickhouse", "search"])


@STORES
async def test_a_port_that_nothing_listens_on(store: str) -> None:
    text = await told(store, f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in text
    assert "nothing listens there" in text


@STORES
async def test_a_host_without_an_address(store: str) -> None:
    assert "host name that cannot be resolved" in await told(store, "http://host.invalid:9200")


@STORES
async def test_a_server_without_tls(store: str) -> None:
    async with server_that_says(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "cannot be reached over TLS" in await told(store, f"https://127.0.0.1:{port}")


async def test_a_search_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_ANSWER_SECONDS", 0.2)
    async with server_that_says(None) as port:
        text = await told("search", f"http://127.0.0.1:{port}")
    assert "did not answer in time" in text
    assert "nothing listens" not in text


@pytest.mark.parametrize(
    ("status", "happened"),
    [
        ("401 Unauthorized", "refused the login"),
        ("503 Service Unavailable", "accepts no requests now"),
        ("418 I'm a teapot", "did not answer like a search server"),
    ],
)
async def test_a_search_that_says_no_at_the_door(status: str, happened: str) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    async with server_that_says(head.encode()) as port:
        assert happened in await told("search", f"http://127.0.0.1:{port}")
