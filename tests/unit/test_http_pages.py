"""The paths of the daemon's HTTP server: what each shows, before and after a computation, and to whom."""

from __future__ import annotations

import asyncio
import functools
import gzip
import os
import re
import ssl
import stat
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, ClientSSLError, UnixConnector

from retentiond import __version__
from retentiond.daemon import pages
from retentiond.daemon.http import openapi
from retentiond.model.errors import UnreachableError
from retentiond.model.usage import UsageRow
from tests.support.certificates import make_certificate
from tests.support.fake_clock import NOON
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aiohttp import ClientResponse

_TOKEN = "0123456789abcdef0123"
_LISTEN = {"listen": "127.0.0.1:0"}
_HOSTILE = '</style><script>alert("x")</script>'


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path)
    yield running
    await running.close()


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


async def _start(daemon: RunningDaemon, http: dict[str, Any] | None = None, **targets: Any) -> str:
    """Start the daemon with a server on a free port, and return its URL."""
    daemon.configure(http=_LISTEN | (http or {}), **(targets or {"media": media()}))
    daemon.begin()
    await daemon.until(lambda: daemon.told("READY=1"))
    return f"http://{daemon.entries('http_served')[-1]['listen']}"


async def _until(
    client: ClientSession, url: str, holds: Callable[[ClientResponse, str], bool]
) -> tuple[ClientResponse, str]:
    """Ask until it holds; the test's own time-out is the bound."""
    while True:
        answer = await client.get(url)
        text = await answer.text()
        if holds(answer, text):
            return answer, text
        await asyncio.sleep(0.005)


def _is_there(answer: ClientResponse, _text: str) -> bool:
    return answer.status == 200


async def test_the_report_says_that_it_is_not_there_yet_and_then_is_with_its_age(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    store = daemon.stores["media"]
    store.let_draw.clear()
    store.servers = (UsageRow(_HOSTILE, 1, 5),)
    url = await _start(daemon)
    early = await client.get(f"{url}/report")
    assert (early.status, early.headers["Retry-After"]) == (503, "60")
    assert "not computed yet; a computation is under way" in await early.text()
    assert "not computed yet" in await (await client.get(f"{url}/")).text()
    store.let_draw.set()
    answer, page = await _until(client, f"{url}/report", _is_there)
    assert "<h2>media" in page
    assert _HOSTILE not in page
    assert answer.headers["Age"] == "0"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.endswith("; frame-ancestors 'none'")
    assert policy.removesuffix("; frame-ancestors 'none'") in unescape(page)
    assert re.search(r"script-src ('sha256-[A-Za-z0-9+/=]{44}' ?)+;", policy)
    await daemon.clock.advance(120)
    assert (await client.get(f"{url}/report")).headers["Age"] == "120"
    assert "2 minutes old" in await (await client.get(f"{url}/")).text()
    assert await daemon.stop() == 0


async def test_the_first_page_of_a_daemon_does_not_say_that_no_daemon_is_running(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    """It was computed before the daemon had its lock, and was shown for `http.refresh`."""
    url = await _start(daemon)
    _, page = await _until(client, f"{url}/report", _is_there)
    assert "No daemon is running" not in page
    assert f", pid {os.getpid()}" in page
    assert await daemon.stop() == 0


async def test_no_request_computes_and_the_next_computation_waits_for_its_time(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    store = daemon.stores["media"]
    url = await _start(daemon, {"refresh": "10m"})
    await _until(client, f"{url}/report", _is_there)
    for path in ("/", "/report", "/api/v1/status", "/api/v1/usage", "/metrics"):
        await (await client.get(f"{url}{path}")).read()
    await daemon.clock.advance(599)
    assert store.drawn == 1
    await daemon.clock.advance(2)
    await daemon.until(lambda: store.drawn == 2)
    assert await daemon.stop() == 0


async def test_the_report_is_sent_compressed_or_plain_as_the_client_wishes(daemon: RunningDaemon) -> None:
    async with ClientSession(auto_decompress=False) as client:
        url = await _start(daemon)
        await _until_status(client, f"{url}/report", 200)
        packed = await client.get(f"{url}/report", headers={"Accept-Encoding": "gzip, br"})
        plain = await client.get(f"{url}/report", headers={"Accept-Encoding": "identity"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert gzip.decompress(await packed.read()) == await plain.read()
    assert await daemon.stop() == 0


async def _until_status(client: ClientSession, url: str, status: int) -> None:
    while (answer := await client.get(url)).status != status:
        await answer.read()
        await asyncio.sleep(0.005)


async def test_a_computation_that_fails_keeps_the_page_and_says_since_when(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    store = daemon.stores["media"]
    url = await _start(daemon, {"refresh": "10m"})
    await _until(client, f"{url}/report", _is_there)
    store.statistics_error = UnreachableError("the disk <b>is</b> gone at file 12; check it")
    await daemon.clock.advance(601)
    _, page = await _until(client, f"{url}/report", lambda _, text: "fails since" in text)
    assert "<h2>media" in page
    assert "the disk &lt;b&gt;is&lt;/b&gt; gone" in page
    assert "computations fail since" in await (await client.get(f"{url}/")).text()
    # The same episode, at another file.
    store.statistics_error = UnreachableError("the disk <b>is</b> gone at file 345; check it")
    await daemon.clock.advance(601)
    await daemon.until(lambda: store.drawn == 3)
    store.statistics_error = None
    await daemon.clock.advance(601)
    await _until(client, f"{url}/report", lambda _, text: "fails since" not in text)
    assert [entry["error"] for entry in daemon.entries("page_failed")] == [
        "the disk <b>is</b> gone at file 12; check it"
    ]
    assert await daemon.stop() == 0


def _has_drawn(daemon: RunningDaemon, times: int) -> bool:
    return daemon.stores["other"].drawn >= times


async def test_pages_of_a_store_that_a_reload_took_away_are_gone_before_the_next_are_there(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    for name in ("old", "other"):
        daemon.stores[name].servers = (UsageRow(f"{name}.test", 1, 1),)
    url = await _start(daemon, old=media(), other=media())
    await _until(client, f"{url}/report", lambda _, text: "old.test" in text)
    daemon.stores["other"].let_draw.clear()
    for number, database in enumerate(("nowhere", "elsewhere")):
        daemon.configure(http=_LISTEN, other=media(database=f"postgresql://{database}/media"))
        await daemon.reload()
        await daemon.until(functools.partial(_has_drawn, daemon, number + 2))
        assert (await client.get(f"{url}/report")).status == 503
        assert "old.test" not in await (await client.get(f"{url}/api/v1/usage")).text()
    # The computation of the store before is of no use, and has ended.
    assert daemon.stores["other"].drawing_cancelled == 1
    assert 'target="old"' not in await (await client.get(f"{url}/metrics")).text()
    assert await daemon.stop() == 0


async def test_a_mistake_of_ours_in_a_page_is_logged_whole_and_ends_nothing(
    daemon: RunningDaemon, client: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.stores["media"].statistics_error = ValueError("a mistake")
    url = await _start(daemon)
    _, text = await _until(client, f"{url}/report", lambda _, text: "fails since" in text)
    assert "unexpected ValueError; see the log" in text
    assert [entry["level"] for entry in daemon.entries("page_error")] == ["error"]
    daemon.stores["media"].statistics_error = None
    monkeypatch.setattr(pages, "render", lambda *_: 1 / 0)
    await daemon.clock.advance(901)
    await daemon.until(lambda: daemon.entries("report_failed"))
    assert await daemon.stop() == 0


async def test_a_computation_ends_when_a_pass_begins_and_follows_it(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    store = daemon.stores["media"]
    store.let_draw.clear()
    store.let_pass.clear()
    url = await _start(daemon, media=media(schedule={"every": "5m"}))
    await daemon.until(lambda: store.drawn == 1)
    # An opened target finds when its last pass was; a shorter interval then makes one due.
    store.last_pass = {"started_at": NOON - timedelta(days=5), "state": "finished"}
    for every in ("6m", "4m"):
        beats = store.beats
        daemon.configure(http=_LISTEN, media=media(schedule={"every": every}))
        await daemon.reload()
        while store.beats == beats:
            await asyncio.sleep(0.001)
    await daemon.until(lambda: store.running)
    await daemon.until(lambda: store.drawing_cancelled)
    answer = await client.get(f"{url}/report")
    assert "a pass is running, and the computation follows it" in await answer.text()
    drawn = store.drawn
    await daemon.clock.advance(1000)
    assert store.drawn == drawn
    store.let_draw.set()
    store.let_pass.set()
    await _until(client, f"{url}/report", _is_there)
    assert await daemon.stop() == 0


async def test_health_is_that_of_the_process_and_readiness_that_of_each_target(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    daemon.stores["lost"].down = True
    url = await _start(daemon, media=media(), lost=media())
    healthy = await client.get(f"{url}/healthz")
    assert (healthy.status, await healthy.text()) == (200, "ok\n")
    answer, _ = await _until(client, f"{url}/readyz", lambda _, text: '"ready": true' in text)
    document = await answer.json()
    assert answer.status == 503
    assert document["targets"]["lost"] == {"ready": False, "reachable": False, "last_heartbeat": None}
    assert document["targets"]["media"]["reachable"]
    daemon.stores["lost"].down = False
    await daemon.clock.advance(120)
    await _until(client, f"{url}/readyz", _is_there)
    assert await daemon.stop() == 0


async def test_a_target_without_a_heartbeat_for_minutes_is_not_ready(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    url = await _start(daemon)
    await _until(client, f"{url}/readyz", _is_there)
    daemon.clock._now += timedelta(minutes=4)
    assert (await client.get(f"{url}/readyz")).status == 503
    assert await daemon.stop() == 0


async def test_each_document_is_as_the_description_says(daemon: RunningDaemon, client: ClientSession) -> None:
    # Beside the other libraries of the tests it is large, and for this test alone.
    from openapi_spec_validator import validate  # noqa: PLC0415

    daemon.stores["lost"].down = True
    daemon.stores["media"].last_pass = {"started_at": NOON, "state": "finished", "pass_id": 7}
    url = await _start(daemon, media=media(), lost=media())
    import jsonschema  # noqa: PLC0415 - it takes seconds, of each process that collects the tests

    description = await (await client.get(f"{url}/api/v1/openapi.json")).json()
    validate(description)
    assert description == openapi()
    assert description["info"]["version"] == __version__
    await _until(client, f"{url}/api/v1/status", lambda _, text: '"pass_id": 7' in text)
    await _until(client, f"{url}/report", _is_there)
    for path, operations in description["paths"].items():
        answer = await client.get(f"{url}{path}")
        response = operations["get"]["responses"][str(answer.status)]
        assert answer.content_type in response["content"], path
        if answer.content_type == "application/json":
            schema = response["content"]["application/json"]["schema"] | {
                "components": description["components"]
            }
            jsonschema.validate(await answer.json(), schema)
    assert await daemon.stop() == 0


async def test_the_token_opens_all_paths_and_without_it_only_health_is_answered(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    url = await _start(daemon, {"token": _TOKEN})
    paths = [*openapi()["paths"]]
    closed = {path for path in paths if (await client.get(f"{url}{path}")).status == 401}
    assert set(paths) - closed == {"/healthz", "/readyz"}
    refused = await client.get(f"{url}/api/v1/status", headers={"Authorization": f"Bearer {_TOKEN}x"})
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert "http.token" in (await refused.json())["error"]
    bearer = await client.get(f"{url}/api/v1/status", headers={"Authorization": f"Bearer {_TOKEN}"})
    browser = await client.get(f"{url}/", headers={"Authorization": "Basic YW5uOjAxMjM0NTY3ODlhYmNkZWYwMTIz"})
    assert (bearer.status, browser.status) == (200, 200)
    assert _TOKEN not in daemon.text
    assert await daemon.stop() == 0


async def test_the_section_metrics_shows_no_page_with_names(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    daemon.configure(metrics=_LISTEN, media=media())
    daemon.begin()
    await daemon.until(lambda: daemon.told("READY=1"))
    url = f"http://{daemon.entries('metrics_served')[0]['listen']}"
    found = {path for path in openapi()["paths"] if (await client.get(f"{url}{path}")).status != 404}
    assert found == {"/metrics", "/healthz", "/readyz"}
    assert daemon.stores["media"].drawn == 0
    assert await daemon.stop() == 0


async def test_a_reload_moves_the_server_and_gives_it_another_token(
    daemon: RunningDaemon, client: ClientSession, tmp_path: Path
) -> None:
    url = await _start(daemon)
    socket = tmp_path / "http.sock"
    daemon.configure(http={"listen": [], "socket": str(socket), "token": _TOKEN}, media=media())
    await daemon.reload()
    with pytest.raises(OSError, match="onnect"):
        await client.get(f"{url}/healthz")
    assert stat.S_IMODE(socket.stat().st_mode) == 0o660
    async with ClientSession(connector=UnixConnector(str(socket))) as local:
        # A proxy forwards the name that it was asked by.
        headers = {"Host": "media.example.org", "Authorization": f"Bearer {_TOKEN}"}
        assert (await local.get("http://media.example.org/", headers=headers)).status == 200
        assert (await local.get("http://media.example.org/")).status == 401
    assert await daemon.stop() == 0
    assert not socket.exists()


async def test_the_landing_page_has_each_target_in_words_no_script_and_one_style(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    daemon.stores["lost"].down = True
    url = await _start(daemon, media=media(), lost=media())
    answer, page = await _until(client, f"{url}/", lambda _, text: "last pass" in text)
    assert "none yet" in page
    assert "the database cannot be reached; check that it runs" in page
    assert "<script" not in page
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
    for link in re.findall(r'href="([^"]+)"', page):
        assert (await client.get(f"{url}/{link}")).status in {200, 503}, link
    assert await daemon.stop() == 0


async def test_a_reload_reads_a_renewed_certificate_and_keeps_the_old_one_before_a_broken_one(
    daemon: RunningDaemon, client: ClientSession, tmp_path: Path
) -> None:
    tls = make_certificate(tmp_path)
    section = _LISTEN | {"tls": {"certificate": str(tls.certificate), "key": str(tls.key)}}
    daemon.configure(http=section, media=media())
    daemon.begin()
    await daemon.until(lambda: daemon.told("READY=1"))
    url = f"https://{daemon.entries('http_served')[0]['listen']}/healthz"

    async def served() -> bytes:
        async with ClientSession() as fresh:
            answer = await fresh.get(url, ssl=ssl.create_default_context(cafile=str(tls.certificate)))
            return await answer.read()

    assert await served() == b"ok\n"
    make_certificate(tmp_path)
    with pytest.raises(ClientSSLError):
        await served()
    await daemon.reload()
    assert await served() == b"ok\n"
    good = tls.key.read_text()
    tls.key.write_text("broken")
    await daemon.reload()
    assert "certificate and key cannot be used" in daemon.entries("config_rejected")[0]["problems"][0]
    tls.key.write_text(good)
    assert await served() == b"ok\n"
    assert await daemon.stop() == 0


async def test_the_usage_is_served_from_what_was_computed_cut_as_the_command_cuts_it(
    daemon: RunningDaemon, client: ClientSession
) -> None:
    store = daemon.stores["media"]
    store.servers = (UsageRow(_HOSTILE, 5, 50), UsageRow("b.test", 3, 30), UsageRow("(others)", 2, 20))
    url = await _start(daemon)
    early = await client.get(f"{url}/api/v1/usage")
    assert early.status in {200, 503}
    await _until(client, f"{url}/api/v1/usage", _is_there)
    answer = await client.get(f"{url}/api/v1/usage", params={"by": "server", "top": "1", "target": "media"})
    assert answer.headers["Age"] == "0"
    assert await answer.json() == {
        "usage": [
            {
                "target": "media",
                "by": "server",
                "rows": [
                    {"key": _HOSTILE, "items": 5, "bytes": 50},
                    {"key": "(others)", "items": 5, "bytes": 50},
                ],
            }
        ]
    }
    whole = await (await client.get(f"{url}/api/v1/usage")).json()
    assert [row["key"] for row in whole["usage"][0]["rows"]] == [_HOSTILE, "b.test", "(others)"]
    assert store.drawn == 1
    assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("by=planet", "no division by planet; `by` is one of server, room"),
        ("by=month", "no division by month; `by` is one of server"),
        ("by=server&by=user", "`by` is given more than once"),
        ("top=0", "`top` is a number from 1 to 1000"),
        ("top=1001", "`top` is a number"),
        ("top=-5", "`top` is a number"),
        ("top=%D9%A3", "`top` is a number"),
        ("target=other", "`target` is one of media"),
        ("target=%00%1b[31m", "`target` is one of media"),
        ("limit=5", "no parameter limit; there is target, by, top"),
    ],
)
async def test_a_query_that_asks_for_nothing_there_gets_the_next_step(
    daemon: RunningDaemon, client: ClientSession, query: str, said: str
) -> None:
    daemon.stores["media"].servers = (UsageRow("b.test", 3, 30),)
    url = await _start(daemon)
    await _until(client, f"{url}/api/v1/usage", _is_there)
    answer = await client.get(f"{url}/api/v1/usage?{query}")
    assert answer.status == 400
    assert said in (await answer.json())["error"]
    assert await daemon.stop() == 0
