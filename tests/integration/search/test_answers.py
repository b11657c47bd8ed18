"""What is said in a search server's place, or by one that lets nobody in: told as such, whatever it is."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.config.chat_stores import ElasticsearchStore
from retentiond.engine.target import NullProgress
from retentiond.model.errors import UnreachableError, UsageError
from retentiond.targets.chat_database.search.store import open_elasticsearch
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.model.purge import StoreReport

SEARCH = '{"version": {"number": "3.4.0", "distribution": "opensearch"}}'
PAGE = "Back in five minutes"


@asynccontextmanager
async def answering(*answers: tuple[int, str, str]) -> AsyncIterator[str]:
    """Answer one request after the other (status, type and body); the last answer is for all that follow."""
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status, kind, body = left.pop(0) if len(left) > 1 else left[0]
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def purge(url: str, **changes: Any) -> StoreReport:
    config = ElasticsearchStore(url=url, index="chats", **changes)
    async with open_elasticsearch(config, 1000) as store:
        return await store.purge(Purge("acme", CUTOFF), NullProgress())


async def test_a_wrong_password_is_told_as_such_and_not_shown() -> None:
    async with answering((401, "application/json", '{"error": "Unauthorized"}')) as url:
        with pytest.raises(UnreachableError, match="check `user`") as caught:
            await purge(url, user="retentiond", password="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [("text/html", PAGE), ("text/plain", PAGE), ("application/json", '{"version": 3}')]
)
async def test_what_is_no_search_server_is_told_as_such(body: tuple[str, str]) -> None:
    async with answering((200, *body)) as url:
        with pytest.raises(UnreachableError):
            await purge(url)


async def test_a_proxys_page_in_the_place_of_an_answer_is_a_failure_of_the_store() -> None:
    async with answering((200, "application/json", SEARCH), (200, "text/plain", PAGE)) as url:
        report = await purge(url)
    assert report.state == "finished_with_failures"
    assert "Back in five minutes" in (report.error or "")


async def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ca\.pem"):
        await purge("https://127.0.0.1:1", ca_file=tmp_path / "ca.pem")


async def test_what_the_server_refuses_is_ours_to_tell_and_not_the_clients_to_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    no = (404, "application/json", '{"error": "no such index"}')
    async with answering((200, "application/json", SEARCH), no) as url:
        assert (await purge(url)).state == "refused"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_server_that_has_joined_no_cluster_is_not_asked_anything() -> None:
    lonely = '{"version": {"number": "3.4.0", "distribution": "opensearch"}, "cluster_uuid": "_na_"}'
    async with answering((200, "application/json", lonely)) as url:
        with pytest.raises(UnreachableError, match="joined no cluster"):
            await purge(url)
