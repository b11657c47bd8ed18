"""Attacks on the daemon's HTTP server over real sockets: it stays bounded, and keeps answering others."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web
from structlog.testing import capture_logs

from retentiond.adapters import http_connections
from retentiond.adapters.http import Endpoint, Listener
from retentiond.adapters.http_access import LOOPBACK_NAMES, Access
from retentiond.adapters.http_connections import MAX_CONNECTIONS, MAX_OF_A_PEER
from tests.support.certificates import make_certificate
from tests.support.fake_clock import NOON
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from pathlib import Path

    from retentiond.config.http import Tls

_TOKEN = "correct-horse-battery-staple"
_MANY = 1000
_BIG = b"x" * 8 * 2**20
_ACCESS = Access(
    hosts=LOOPBACK_NAMES | {"media.example.org"}, token=_TOKEN, open_paths=frozenset({"/healthz"})
)


async def _health(_request: web.BaseRequest) -> web.Response:
    return web.Response(text="ok\n")


async def _secret(_request: web.BaseRequest) -> web.Response:
    return web.Response(text="@ann:here.test\n")


async def _big(_request: web.BaseRequest) -> web.Response:
    return web.Response(body=_BIG)


_ROUTES = {"/healthz": _health, "/secret": _secret, "/big": _big}


@asynccontextmanager
async def _serving(access: Access = _ACCESS, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    listener = Listener("http", _ROUTES)
    await listener.adopt(Endpoint((("127.0.0.1", 0),), access, tls))
    (port,) = listener.ports
    try:
        yield port
    finally:
        await listener.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with _serving() as chosen:
        yield chosen


@pytest.fixture
async def open_port() -> AsyncIterator[int]:
    async with _serving(Access()) as chosen:
        yield chosen


@asynccontextmanager
async def _connected(port: int, peer: str = "127.0.0.1") -> AsyncIterator[tuple[Any, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(peer, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _say(port: int, request: str | bytes) -> str:
    """Send a request, and return the whole answer; empty for a connection that was hung up on."""
    async with _connected(port) as (reader, writer):
        writer.write(request if isinstance(request, bytes) else request.encode("latin-1"))
        try:
            return str((await reader.read()).decode("latin-1"))
        except ConnectionError:
            return ""


async def _get(port: int, path: str = "/secret", host: str = "localhost", extra: str = "") -> str:
    return await _say(port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n")


def _status(answer: str) -> int:
    return int(answer.split(" ", 2)[1])


def _bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_thousand_idle_connections_hold_few_descriptors_and_shut_out_nobody(port: int) -> None:
    before = _descriptors()
    async with AsyncExitStack() as clients:
        for number in range(_MANY):
            # Of 50 peers, each far below its own limit.
            await clients.enter_async_context(_connected(port, f"127.0.1.{number % 50 + 1}"))
        assert _status(await _get(port, "/healthz")) == 200
        assert _descriptors() - before - _MANY <= MAX_CONNECTIONS


async def test_a_peer_with_too_many_connections_displaces_its_own_and_nobody_elses(port: int) -> None:
    async with AsyncExitStack() as clients:
        others = [
            await clients.enter_async_context(_connected(port, f"127.0.2.{number + 1}"))
            for number in range(MAX_CONNECTIONS - MAX_OF_A_PEER)
        ]
        for _ in range(5 * MAX_OF_A_PEER):
            await clients.enter_async_context(_connected(port, "127.0.3.1"))
        for reader, writer in others:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.read()).endswith(b"ok\n")


async def test_a_client_that_reads_a_byte_at_a_time_is_cut_off(
    open_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "ANSWER_TIMEOUT", 0.2)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    with reader:
        await loop.sock_connect(reader, ("127.0.0.1", open_port))
        await loop.sock_sendall(reader, b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = 0
        with suppress(ConnectionResetError):
            while part := await loop.sock_recv(reader, 1):
                received += len(part)
                await asyncio.sleep(0)
        assert 0 < received < len(_BIG)


async def test_a_body_is_not_read_and_a_second_request_is_not_answered(open_port: int) -> None:
    endless = b"GET /secret HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 2**20
    answer = await _say(open_port, endless)
    assert answer.count("HTTP/1.1") <= 1
    two = "GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert (await _say(open_port, two * 2)).count("HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 2**16 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /secret HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2**16 + b"\r\n\r\n",
        b"GET /secret HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /secret HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
        b"GET /secret HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /secret\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 5000,
    ],
    ids=["line", "header", "headers", "space", "smuggling", "nul", "tls", "http2", "empty lines"],
)
async def test_a_request_that_is_none_gets_no_page_and_no_echo_and_no_line_in_the_log(
    open_port: int, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as log:
        async with _connected(open_port) as (reader, writer):
            writer.write(request_)
            writer.write_eof()
            try:
                answer = (await reader.read()).decode("latin-1")
            except ConnectionError:
                answer = ""
    assert "@ann" not in answer
    assert "aaaa" not in answer
    assert "aiohttp" not in answer
    assert not answer or _status(answer) in range(400, 500)
    assert not log
    assert not caplog.records


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:80",
        "10.0.0.7",
        "[::2]",
        "",
        "localhost@evil",
        "localhost:1@evil.example",
        "[::1]evil.example",
        "localhost, evil.example",
        "a b",
    ],
)
async def test_a_foreign_name_gets_the_next_step_and_nothing_else(port: int, host: str) -> None:
    answer = await _get(port, "/healthz", host)
    assert _status(answer) in {400, 421}
    assert "ok" not in answer.partition("\r\n\r\n")[2].split()
    if _status(answer) == 421:
        assert "add it to `http.hosts`" in answer


async def test_the_names_of_the_machine_and_those_that_are_listed_are_answered(port: int) -> None:
    for host in (
        "localhost",
        "127.0.0.1",
        f"127.0.0.1:{port}",
        "[::1]:80",
        "MEDIA.example.org",
        "localhost.",
    ):
        assert _status(await _get(port, "/healthz", host)) == 200, host


async def test_a_server_at_all_addresses_answers_by_each_of_them_but_by_no_foreign_name() -> None:
    async with _serving(Access(hosts=LOOPBACK_NAMES, any_ip=True)) as port:
        assert _status(await _get(port, "/healthz", "192.0.2.7:80")) == 200
        assert _status(await _get(port, "/healthz", "[2001:db8::1]")) == 200
        assert _status(await _get(port, "/healthz", "evil.example")) == 421


async def test_two_hosts_and_none_are_refused(port: int) -> None:
    two = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert _status(await _say(port, two)) == 400
    assert _status(await _say(port, "GET /healthz HTTP/1.0\r\n\r\n")) == 400
    absolute = "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert _status(await _say(port, absolute)) == 404


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "XYZ"]
)
async def test_no_method_but_get_and_head_does_anything(open_port: int, method: str) -> None:
    target = "localhost:80" if method == "CONNECT" else "/secret"
    answer = await _say(open_port, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert _status(answer) in {400, 404, 405}
    assert "@ann" not in answer


async def test_head_is_answered_without_a_body(open_port: int) -> None:
    answer = await _say(open_port, "HEAD /secret HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200")
    assert answer.endswith("\r\n\r\n")
    assert "Content-Length: 15" in answer


@pytest.mark.parametrize(
    "path",
    [
        "//secret",
        "/secret/",
        "/./secret",
        "/x/../secret",
        "/%73ecret",
        "/secret%00",
        "/secret;x",
        "/SECRET",
        "/%2e%2e/secret",
        "*",
    ],
)
async def test_no_path_but_the_very_one_leads_to_a_page(open_port: int, path: str) -> None:
    answer = await _get(open_port, path)
    assert _status(answer) in {400, 404}
    assert "@ann" not in answer


@pytest.mark.parametrize(
    "header",
    [
        "",
        _bearer(""),
        _bearer(_TOKEN[:-1]),
        _bearer(_TOKEN + "x"),
        _bearer(_TOKEN.upper()),
        _bearer("\xff" * 20),
        f"Authorization: {_TOKEN}\r\n",
        f"Authorization: Digest {_TOKEN}\r\n",
        "Authorization: Basic !!!\r\n",
        "Authorization: Basic \xfc\r\n",
        f"Authorization: Basic {base64.b64encode(_TOKEN.encode()).decode()}\r\n",
        f"Cookie: token={_TOKEN}\r\n",
    ],
)
async def test_a_guessed_token_opens_nothing(port: int, header: str) -> None:
    answer = await _get(port, extra=header)
    assert _status(answer) == 401
    assert "@ann" not in answer
    assert _TOKEN not in answer


async def test_a_hundred_guesses_are_one_line_of_the_log_without_the_guess(port: int) -> None:
    with capture_logs() as log:
        for number in range(100):
            await _get(port, extra=_bearer(f"guess-{number}-of-a-token"))
        await _get(port)
    assert [(entry["event"], entry["client"]) for entry in log] == [("http_token_refused", "127.0.0.1")]
    assert "guess-" not in str(log)


async def test_a_token_in_the_path_opens_nothing_and_the_right_one_does(port: int) -> None:
    assert _status(await _get(port, f"/secret?token={_TOKEN}")) == 401
    assert "@ann" in await _get(port, extra=_bearer(_TOKEN))
    basic = base64.b64encode(f"anybody:{_TOKEN}".encode()).decode()
    assert "@ann" in await _get(port, extra=f"Authorization: Basic {basic}\r\n")


async def test_a_path_that_needs_no_token_lends_its_freedom_to_no_other(port: int) -> None:
    for path in ("/healthz/../secret", "/healthz/secret", "/secret?/healthz", "/secret#/healthz"):
        answer = await _get(port, path)
        assert _status(answer) in {400, 401, 404}
        assert "@ann" not in answer


async def test_each_answer_keeps_out_of_caches_frames_and_other_sites(port: int) -> None:
    for answer in (
        await _get(port, "/healthz"),
        await _get(port, "/nowhere"),
        await _get(port, "/healthz", "evil.example"),
        await _say(port, "GARBAGE\r\n\r\n"),
    ):
        head = answer.partition("\r\n\r\n")[0]
        assert "X-Content-Type-Options: nosniff" in head
        assert "Cache-Control: no-store" in head
        assert "frame-ancestors 'none'" in head
        assert "Cross-Origin-Resource-Policy: same-origin" in head
        assert "Server: retentiond\r\n" in head + "\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_certificate(tmp_path_factory.mktemp("tls"))


async def test_idle_and_garbled_handshakes_hold_few_descriptors_and_shut_out_nobody(
    certificate: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate.certificate))
    async with _serving(tls=certificate.context()) as port, AsyncExitStack() as clients:
        before = _descriptors()
        for number in range(300):
            _, writer = await clients.enter_async_context(_connected(port, f"127.0.4.{number % 50 + 1}"))
            if number % 3:
                writer.write(b"GET / HTTP/1.1\r\n\r\n" if number % 3 == 1 else b"\x16\x03\x01\xff\xff")
        async with ClientSession() as client:
            answer = await client.get(f"https://localhost:{port}/healthz", ssl=trusted)
            assert await answer.text() == "ok\n"
            assert _descriptors() - before - 300 <= MAX_CONNECTIONS + 2  # and the two of this client
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


async def test_tls_1_2_is_the_oldest_that_is_spoken(certificate: Tls) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with _serving(tls=certificate.context()) as port, ClientSession() as client:
        assert (await client.get(f"https://localhost:{port}/healthz", ssl=old)).status == 200
    context = certificate.context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    first, second = Listener("http", _ROUTES), Listener("http", _ROUTES)
    with capture_logs() as log:
        await first.adopt(Endpoint((path,)))
        await second.adopt(Endpoint((path,)))
        await second.close()
        assert path.is_socket()
        await first.close()
    assert [entry["event"] for entry in log] == ["http_served", "http_not_served"]
    assert not path.exists()
    path.write_text("precious")
    with capture_logs() as log:
        await first.adopt(Endpoint((path,)))
    assert log[0]["error"] == "a file that is no socket is in its place"
    assert path.read_text() == "precious"


async def test_a_client_that_connects_while_the_server_leaves_is_no_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(5):
        listener = Listener("http", _ROUTES)
        await listener.adopt(Endpoint((("127.0.0.1", 0),)))
        await asyncio.sleep(0)
        with socket.create_connection(("127.0.0.1", listener.ports[0])):
            # A task of its own: the loop finds the client in the turn in which the server leaves.
            await asyncio.ensure_future(listener.close())
    assert not caplog.records


async def test_a_file_in_the_place_of_the_socket_stays_when_the_server_leaves(tmp_path: Path) -> None:
    """A connection to it is refused, as one to the socket of a dead process is."""
    path, link = tmp_path / "http.sock", tmp_path / "link.sock"
    listener = Listener("http", _ROUTES)
    await listener.adopt(Endpoint((path, link)))
    path.unlink()
    path.write_text("precious")
    link.unlink()
    link.symlink_to(path)
    await listener.close()
    assert path.read_text() == "precious"
    assert link.is_symlink()


async def test_200_clients_that_trickle_hold_up_neither_a_pass_nor_health(tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path)
    store = daemon.stores["media"]
    store.last_pass = {"started_at": NOON - timedelta(days=5), "state": "finished"}
    store.opening_held = asyncio.Event()
    daemon.configure(http={"listen": "127.0.0.1:0"}, media=media())
    daemon.begin()
    try:
        await daemon.until(lambda: daemon.entries("http_served"))
        port = int(daemon.entries("http_served")[0]["listen"].rpartition(":")[2])
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(_connected(port, f"127.0.5.{number % 40 + 1}"))
                for number in range(200)
            ]
            writers = [writer for _, writer in clients]
            trickling = stack.enter_context(_running(_trickle(writers)))
            store.opening_held.set()
            await daemon.until(lambda: store.orders and not store.running)
            answers = [_status(await _get(port, "/healthz")) for _ in range(20)]
            assert answers == [200] * 20
            assert not trickling.done()
        assert await daemon.stop() == 0
    finally:
        await daemon.close()


@contextmanager
def _running(work: Coroutine[Any, Any, None]) -> Iterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(work)
    yield task
    task.cancel()


async def _trickle(writers: list[asyncio.StreamWriter]) -> None:
    """Send a byte by each connection in turn, without an end; who is hung up on does not come again."""
    while True:
        for writer in writers:
            if not writer.transport.is_closing():
                writer.write(b"G")
            await asyncio.sleep(0)
