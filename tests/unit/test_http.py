"""The daemon's HTTP server stays bounded and keeps answering, whatever its clients do."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientConnectionError, ClientSession, web
from structlog.testing import capture_logs

from retentiond.adapters import http, http_connections
from retentiond.adapters.http import Endpoint, Listener
from retentiond.adapters.http_access import Access
from retentiond.adapters.http_connections import MAX_CONNECTIONS
from tests.support.fake_clock import NOON
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from retentiond.adapters.http import Route

_MANY = 300
_ANYBODY = Access()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path)
    yield running
    await running.close()


async def _greet(request: web.BaseRequest) -> web.Response:
    return web.Response(text=f"hello {request.path}")


async def _fail(request: web.BaseRequest) -> web.Response:
    raise ValueError("a mistake of ours")


@asynccontextmanager
async def _listening(
    routes: Mapping[str, Route], access: Access = _ANYBODY, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    listener = Listener("http", routes)
    await listener.adopt(Endpoint((("127.0.0.1", 0),), access, tls))
    (port,) = listener.ports
    try:
        yield port
    finally:
        await listener.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with _listening({"/hello": _greet, "/broken": _fail}) as chosen:
        yield chosen


async def _fetch(port: int, path: str = "/metrics") -> str:
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}{path}") as answer:
        return await answer.text()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send a byte at each turn of the loop until the server hangs up; return what it said."""
    writer.write(b"GET /")
    try:
        while not reader.at_eof():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()
    except ConnectionError:
        return b""


async def _metrics_port(daemon: RunningDaemon) -> int:
    await daemon.until(lambda: daemon.entries("metrics_served"))
    return int(daemon.entries("metrics_served")[0]["listen"].rpartition(":")[2])


async def test_300_clients_that_trickle_take_few_descriptors_and_hold_up_neither_a_scrape_nor_a_pass(
    daemon: RunningDaemon,
) -> None:
    store = daemon.stores["media"]
    store.last_pass = {"started_at": NOON - timedelta(days=5), "state": "finished"}
    store.opening_held = asyncio.Event()
    daemon.configure(metrics={"listen": "127.0.0.1:0"}, media=media())
    daemon.begin()
    port = await _metrics_port(daemon)
    before = len(os.listdir("/proc/self/fd"))
    async with AsyncExitStack() as clients:
        for _ in range(_MANY):
            _, writer = await clients.enter_async_context(_connected(port))
            for byte in b"GET /metrics HTTP/1.1\r\nHos":
                writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        store.opening_held.set()
        await daemon.until(lambda: store.orders)
        assert "retentiond_target_reachable{" in await _fetch(port)
        of_server = len(os.listdir("/proc/self/fd")) - before - _MANY
        assert of_server <= MAX_CONNECTIONS
    assert await daemon.stop() == 0


async def test_a_client_that_sends_a_byte_at_a_time_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_LINE_SIZE", 2**30)
    monkeypatch.setattr(http_connections, "REQUEST_TIMEOUT", 0.01)
    async with _listening({"/hello": _greet}) as port, _connected(port) as (reader, writer):
        assert await _trickle(reader, writer) == b""


async def test_an_answer_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "ANSWER_TIMEOUT", 0.01)
    ended = asyncio.Event()

    async def endless(request: web.BaseRequest) -> web.Response:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with _listening({"/endless": endless}) as port, _connected(port) as (_, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
        await ended.wait()


async def test_a_request_line_or_a_header_without_end_is_refused_and_not_logged(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    for start in (b"GET /", b"GET /hello HTTP/1.1\r\nHost: "):
        async with _connected(port) as (reader, writer):
            writer.write(start + b"a" * 2**16)
            assert (await reader.readline()).startswith(b"HTTP/1.0 400")
    assert not caplog.records


async def test_a_connection_carries_one_request(port: int) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(b"GET /hello HTTP/1.1\r\nHost: here\r\nConnection: keep-alive\r\n\r\n")
        answer = await reader.read()
    assert answer.endswith(b"hello /hello")


async def test_each_path_is_answered_by_its_route_and_no_other_is(port: int) -> None:
    async with ClientSession(f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/hello")).status == 200
        assert (await client.head("/hello")).status == 200
        assert (await client.get("/hallo")).status == 404
        assert (await client.post("/hello", data=b"x" * 2**20)).status == 405


async def test_a_mistake_of_ours_is_a_500_and_an_error_in_the_log(port: int) -> None:
    with capture_logs() as log:
        assert await _fetch(port, "/broken") == "internal error; see the log\n"
    assert [(entry["event"], entry["log_level"]) for entry in log] == [("http_answer_failed", "error")]


async def test_a_port_in_use_is_an_error_in_the_log_and_nothing_worse(daemon: RunningDaemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.configure(metrics={"listen": f"127.0.0.1:{taken.getsockname()[1]}"}, media=media())
        daemon.begin()
        await daemon.until(lambda: daemon.told("READY=1") == 1)
        assert [entry["level"] for entry in daemon.entries("metrics_not_served")] == ["error"]
    await daemon.reload()
    assert daemon.entries("metrics_served")
    assert await daemon.stop() == 0


async def test_the_daemon_serves_how_its_targets_stand_until_a_reload_says_otherwise(
    daemon: RunningDaemon,
) -> None:
    daemon.configure(metrics={"listen": "127.0.0.1:0"}, media=media())
    daemon.begin()
    port = await _metrics_port(daemon)
    page = ""
    while "retentiond_last_success_timestamp_seconds{" not in page:
        page = await _fetch(port)
    assert 'retentiond_target_reachable{target="media"} 1.0' in page
    daemon.configure(media=media())
    await daemon.reload()
    with pytest.raises(ClientConnectionError):
        await _fetch(port)
    assert await daemon.stop() == 0
