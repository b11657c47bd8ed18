"""The client of dendrite's admin API, on the answers that a dendrite 0.15.2 was recorded with, and on those of what stands before one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

import pytest
from aiohttp import web

from retentiond.targets.dendrite_rooms.admin_api import (
    NEXT_STEPS,
    AdminAddress,
    AdminApi,
    AdminApiError,
    AdminFailure,
    open_admin_api,
    quoted,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKEN = "a-secret-token"
ROOM = "!room:hall.test"
JSON = "application/json"
UNRECOGNIZED = '{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}'

ANSWERS: list[tuple[str, int, str, str, AdminFailure]] = [
    ("no token", 401, JSON, '{"errcode":"M_MISSING_TOKEN","error":"missing access token"}', "no_token"),
    (
        "another scheme",
        401,
        JSON,
        '{"errcode":"M_MISSING_TOKEN","error":"invalid Authorization header"}',
        "no_token",
    ),
    ("logged out", 401, JSON, '{"errcode":"M_UNKNOWN_TOKEN","error":"Unknown token"}', "unknown_token"),
    (
        "an ordinary user",
        403,
        JSON,
        '{"errcode":"M_FORBIDDEN","error":"This API can only be used by admin users."}',
        "not_an_administrator",
    ),
    (
        "a guest",
        403,
        JSON,
        '{"errcode":"M_GUEST_ACCESS_FORBIDDEN","error":"Guest access not allowed"}',
        "guest",
    ),
    ("another server", 404, JSON, UNRECOGNIZED, "wrong_address"),
    ("another method", 405, JSON, UNRECOGNIZED, "wrong_address"),
    ("a proxy's page", 404, "text/html", "<html>404 Not Found</html>", "not_dendrite"),
    ("a page with 200", 200, "text/html", "<html>Welcome to nginx!</html>", "not_dendrite"),
    ("no JSON after all", 200, JSON, "{", "not_dendrite"),
    ("JSON that is nested too deep", 200, JSON, "[" * 100_000, "not_dendrite"),
    ("a list", 200, JSON, "[]", "not_dendrite"),
    ("an object that anything may send", 200, JSON, "{}", "not_dendrite"),
    ("half a character", 200, JSON, '{"empty_rooms":["!\\ud800:hall.test"]}', "not_dendrite"),
    ("a text that no database has", 200, JSON, '{"empty_rooms":["!\\u0000:hall.test"]}', "not_dendrite"),
    ("a broken path", 400, "text/plain", "400 Bad Request", "not_dendrite"),
    ("a database error", 500, JSON, '{"message":"failed to lock the room: pq: too many clients"}', "refused"),
    ("a malformed ID", 500, JSON, '{"message":"domain is invalid"}', "refused"),
    ("a redirect", 301, "text/html", "", "redirect"),
]
"""What came, and what the client makes of it."""

IDS = {
    "!nosuchroom:hall.test": "%21nosuchroom%3Ahall.test",
    "!we/ird room?#%41+ü:yard.test": "%21we%2Fird%20room%3F%23%2541%2B%C3%BC%3Ayard.test",
    "!dots..%2F..:yard.test": "%21dots..%252F..%3Ayard.test",
    "!plus+amp&=;:yard.test": "%21plus%2Bamp%26%3D%3B%3Ayard.test",
    "!CaseFold:yard.test": "%21CaseFold%3Ayard.test",
    "!aVm3BVysGWh4mBZOMHMxJ4Hrv1doFZ09sjB5tbLNUu8": "%21aVm3BVysGWh4mBZOMHMxJ4Hrv1doFZ09sjB5tbLNUu8",
}
"""Rooms, and the paths by which a dendrite purged them."""


@dataclass
class Canned:
    """A server that gives one answer, and keeps the requests."""

    status: int = 200
    kind: str = JSON
    body: str = "{}"
    healthy: bool = False
    silent: bool = False
    cut: bool = False
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path, request.headers.get("Authorization")))
        if request.path == "/_dendrite/monitor/health":
            return web.Response(status=200 if self.healthy else 404)
        if self.silent:
            await asyncio.Event().wait()
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
        headers = {"Location": "http://127.0.0.1:9/elsewhere", "Content-Type": self.kind}
        return web.Response(status=self.status, body=self.body.encode(), headers=headers)


@asynccontextmanager
async def serving(canned: Canned, socket: Path | None = None) -> AsyncIterator[Canned]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", canned.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        if socket is not None:
            await web.UnixSite(runner, str(socket)).start()
        else:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            canned.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield canned
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(canned: Canned) -> AsyncIterator[AdminApi]:
    async with serving(canned), open_admin_api(AdminAddress(canned.url, None, TOKEN)) as api:
        yield api


@pytest.mark.parametrize(
    ("name", "status", "kind", "body", "failure"), ANSWERS, ids=[one[0] for one in ANSWERS]
)
async def test_each_answer_has_its_own_sentence_with_the_next_step(
    name: str, status: int, kind: str, body: str, failure: AdminFailure
) -> None:
    async with client(Canned(status, kind, body)) as api:
        with pytest.raises(AdminApiError) as caught:
            await api.empty_rooms()
    assert caught.value.failure == failure, name
    assert str(caught.value).endswith(NEXT_STEPS[failure])
    assert TOKEN not in str(caught.value)


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    canned = Canned(307)
    async with client(canned) as api:
        with pytest.raises(AdminApiError):
            await api.empty_rooms()
    assert len(canned.requests) == 1


async def test_a_text_that_repeats_the_token_is_shown_without_it() -> None:
    async with client(Canned(500, body=f'{{"message":"no {TOKEN} here"}}')) as api:
        with pytest.raises(AdminApiError) as caught:
            await api.empty_rooms()
    assert "no … here" in str(caught.value)


async def test_no_empty_rooms_are_null() -> None:
    async with client(Canned(body='{"empty_rooms":null}')) as api:
        assert await api.empty_rooms() == frozenset()


@pytest.mark.parametrize("body", ['{"empty_rooms":{}}', '{"empty_rooms":[1]}', '{"empty_rooms":"!a:b"}'])
async def test_another_document_is_no_list_of_rooms(body: str) -> None:
    async with client(Canned(body=body)) as api:
        with pytest.raises(AdminApiError) as caught:
            await api.empty_rooms()
    assert caught.value.failure == "not_dendrite"


async def test_an_older_dendrite_is_told_from_another_server() -> None:
    async with client(Canned(404, JSON, UNRECOGNIZED, healthy=True)) as api:
        with pytest.raises(AdminApiError) as caught:
            await api.purge(ROOM, 5)
    assert (caught.value.failure, caught.value.sent) == ("no_endpoint", False)


@pytest.mark.parametrize(("room", "path"), IDS.items())
async def test_the_id_of_a_room_is_encoded_once(room: str, path: str) -> None:
    canned = Canned()
    async with client(canned) as api:
        assert await api.purge(room, 5) == "done"
    assert canned.requests == [("POST", f"/_dendrite/admin/purgeRoom/{path}", f"Bearer {TOKEN}")]
    assert quoted(room) == path


async def test_a_room_that_dendrite_does_not_know_is_not_there() -> None:
    async with client(Canned(500, body=f'{{"message":"room {ROOM} does not exist"}}')) as api:
        assert await api.purge(ROOM, 5) == "not_there"


async def test_a_relation_that_does_not_exist_is_no_room_that_does_not_exist() -> None:
    async with client(
        Canned(500, body='{"message":"pq: relation \\"roomserver_rooms\\" does not exist"}')
    ) as api:
        with pytest.raises(AdminApiError) as caught:
            await api.purge(ROOM, 5)
    assert caught.value.failure == "refused"


@pytest.mark.parametrize(
    "canned",
    [
        Canned(cut=True),
        Canned(silent=True),
        Canned(504, "text/html", "<html>Gateway Time-out</html>"),
        Canned(502, "text/html", "<html>Bad Gateway</html>"),
        Canned(200, JSON, "{"),
        Canned(body=" " * (2 << 20)),
    ],
    ids=["closed", "silent", "gateway time-out", "bad gateway", "half an answer", "too long"],
)
async def test_an_answer_that_is_lost_is_not_a_failure(canned: Canned) -> None:
    async with client(canned) as api:
        assert await api.purge(ROOM, 0.3 if canned.silent else 20) == "lost"


async def test_a_purge_that_is_turned_away_at_the_door_was_not_sent() -> None:
    forbidden = Canned(
        403, JSON, '{"errcode":"M_FORBIDDEN","error":"This API can only be used by admin users."}'
    )
    async with client(forbidden) as api:
        with pytest.raises(AdminApiError) as caught:
            await api.purge(ROOM, 5)
    assert not caught.value.sent


async def test_a_server_that_is_not_there_was_sent_nothing() -> None:
    async with serving(Canned()) as gone:
        url = gone.url
    async with open_admin_api(AdminAddress(url, None, TOKEN)) as api:
        with pytest.raises(AdminApiError) as caught:
            await api.purge(ROOM, 5)
    assert (caught.value.failure, caught.value.sent) == ("not_reachable", False)
    assert "cannot be reached: Connection refused; start dendrite" in str(caught.value)


async def test_a_unix_socket_is_an_address_too(tmp_path: Path) -> None:
    socket = tmp_path / "dendrite.sock"
    async with (
        serving(Canned(body='{"empty_rooms":["!a:b"]}'), socket),
        open_admin_api(AdminAddress(None, socket, TOKEN)) as api,
    ):
        assert await api.empty_rooms() == {"!a:b"}
    async with open_admin_api(AdminAddress(None, tmp_path / "nowhere.sock", TOKEN)) as api:
        with pytest.raises(AdminApiError) as caught:
            await api.empty_rooms()
    assert caught.value.failure == "not_reachable"


async def test_a_server_without_tls_at_an_https_address_is_an_error_of_the_certificate() -> None:
    async with (
        serving(Canned()) as plain,
        open_admin_api(AdminAddress(plain.url.replace("http:", "https:"), None, TOKEN)) as api,
    ):
        with pytest.raises(AdminApiError) as caught:
            await api.check_health()
    assert caught.value.failure in {"certificate", "not_reachable"}
    assert not caught.value.sent


async def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdminApiError) as caught:
        async with open_admin_api(AdminAddress("https://localhost", None, TOKEN, tmp_path / "ca.pem")):
            pass
    assert "ca.pem" in str(caught.value)


async def test_evacuation_returns_the_users_that_left() -> None:
    async with client(Canned(body='{"affected":["@ann:hall.test","@ben:hall.test"]}')) as api:
        assert await api.evacuate(ROOM) == ("@ann:hall.test", "@ben:hall.test")
    async with client(Canned(404, body='{"errcode":"M_NOT_FOUND","error":"room does not exist"}')) as api:
        with pytest.raises(AdminApiError):
            await api.evacuate(ROOM)


def test_every_failure_has_a_next_step() -> None:
    assert set(NEXT_STEPS) == set(get_args(AdminFailure))
