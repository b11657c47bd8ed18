"""The demo's part about rooms: invented rooms are seen, planned and purged, with progress on the screen.

A stand-in in this process answers the requests of dendrite's admin API and deletes as dendrite does; it is no dendrite.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from aiohttp import web

from retentiond.adapters.postgres import connection_to, named_queries
from retentiond.config.rooms import RoomTarget
from retentiond.demo.screen import Screen
from retentiond.demo.store import make_tables
from retentiond.engine.target import NullProgress, PassOptions
from retentiond.targets.dendrite_rooms.survey import let_pass
from retentiond.targets.dendrite_rooms.target import open_dendrite_rooms
from retentiond.terminal.account import show_pass
from retentiond.terminal.explanations import show_any_explanation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from rich.console import Console

    from retentiond.adapters.postgres import Conn
    from retentiond.demo.postgres import EmbeddedPostgres
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_rooms.target import DendriteRooms

SQL: Final = named_queries(__package__, "room_rows.sql")
_DATABASE: Final = "demo_rooms"
_KEPT: Final = ("joined", "invited", "alias", "child")
_DUE: Final = ("left", "upgraded")
_EACH: Final = 4
_MESSAGES: Final = 50
_LATER: Final = timedelta(days=200)


@dataclass(frozen=True, slots=True)
class RoomDemo:
    """The plan and the result of the pass, and the differences from what each room was made for, normally empty."""

    planned: PassReport
    purged: PassReport
    wrong: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as a part of the demo's document."""
        return {
            "planned": self.planned.as_json(),
            "purged": self.purged.as_json(),
            "wrong": list(self.wrong),
        }


async def show_rooms(server: EmbeddedPostgres, console: Console, *, quiet: bool) -> RoomDemo:
    """Make up rooms, and purge those that no local user is in."""
    show = Screen(console, quiet=quiet)
    dsn = await _make_database(server)
    async with connection_to(dsn) as connection:
        show.head(f"{_EACH * len((*_KEPT, *_DUE))} rooms, some of them without local members")
        await _make_rooms(connection)
        async with (
            stand_in(connection) as (url, token),
            open_dendrite_rooms("rooms", _config(dsn, url, token)) as target,
        ):
            return await _purge(target, connection, show)


async def _make_database(server: EmbeddedPostgres) -> str:
    """Make a database with dendrite's tables; a connection of ours finds them when it is opened."""
    for database, work in (
        (None, lambda connection: connection.execute(f"CREATE DATABASE {_DATABASE}")),
        (_DATABASE, make_tables),
    ):
        connection = await asyncpg.connect(server.dsn(database) if database else server.dsn())
        try:
            await work(connection)
        finally:
            await connection.close()
    return server.dsn(_DATABASE)


async def _make_rooms(connection: Conn) -> None:
    await connection.execute(SQL["rooms"], _EACH, [*_KEPT, *_DUE])
    await connection.execute(SQL["members"])
    await connection.execute(SQL["events"], _MESSAGES, datetime.now(UTC))
    for name in ("sent", "timeline", "state", "aliases"):
        await connection.execute(SQL[name])


async def _purge(target: DendriteRooms, connection: Conn, show: Screen) -> RoomDemo:
    show.head("the daemon sees the rooms for the first time; a purge waits for its cool-off")
    seen = await target.run_pass(PassOptions("demo"))
    show.print(lambda console: show_pass(console, seen, ["Nothing was purged."]))
    await let_pass(connection, _LATER)
    show.head(
        f"`retentiond plan rooms`, {_LATER.days} days later (the demo sets the ledger's first looks back)"
    )
    planned = await target.plan(None, NullProgress())
    show.print(lambda console: show_pass(console, planned, ["Nothing was changed."]))
    story = await target.explain("#alias1:demo.example", NullProgress())
    show.print(lambda console: show_any_explanation(story, console))
    show.head("`retentiond once rooms`: the first purge needs a confirmation")
    refused = await target.run_pass(PassOptions("demo"))
    show.print(lambda console: show_pass(console, refused, []))
    show.head("`retentiond once rooms --yes`: the pass, through a stand-in for dendrite's admin API")
    purged = await target.run_pass(PassOptions("demo", over_limits=True))
    next_step = "A purge cannot be undone; `retentiond records rooms` prints what is kept of it."
    show.print(lambda console: show_pass(console, purged, [next_step]))
    remaining = {row["room_id"] for row in await connection.fetch(SQL["remaining"])}
    wrong = tuple(_compare(planned, purged, remaining))
    for problem in wrong:
        show.line(f"WRONG: {problem}")
    return RoomDemo(planned, purged, wrong)


def _compare(planned: PassReport, purged: PassReport, remaining: set[str]) -> Iterable[str]:
    expected = {f"!{case}{number}:demo.example" for case in _KEPT for number in range(1, _EACH + 1)}
    if remaining != expected:
        yield f"{len(remaining ^ expected)} rooms are not as they should be"
    if planned.removed != purged.removed:
        yield "the pass did not do what its plan said"


@asynccontextmanager
async def stand_in(connection: Conn) -> AsyncIterator[tuple[str, str]]:
    """Answer the requests of a pass on this machine, and purge in the demo's tables; yield the URL and the token."""
    token = secrets.token_hex(16)

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"code": 200})

    async def whoami(_request: web.Request) -> web.Response:
        return web.json_response({"user_id": "@admin:demo.example"})

    def is_allowed(request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {token}"

    async def empty_rooms(request: web.Request) -> web.Response:
        if not is_allowed(request):
            return web.json_response({"errcode": "M_UNKNOWN_TOKEN"}, status=401)
        return web.json_response(
            {"empty_rooms": [row["room_id"] for row in await connection.fetch(SQL["empty"])]}
        )

    async def purge_room(request: web.Request) -> web.Response:
        if not is_allowed(request):
            return web.json_response({"errcode": "M_UNKNOWN_TOKEN"}, status=401)
        purged = await connection.fetchval(SQL["purge"], request.match_info["room"])
        return web.json_response({}, status=200 if purged else 500)

    app = web.Application()
    app.router.add_get("/_dendrite/monitor/health", health)
    app.router.add_get("/_matrix/client/v3/account/whoami", whoami)
    app.router.add_get("/_dendrite/admin/emptyRooms", empty_rooms)
    app.router.add_post("/_dendrite/admin/purgeRoom/{room}", purge_room)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", token
    finally:
        await runner.cleanup()


def _config(dsn: str, url: str, token: str) -> RoomTarget:
    return RoomTarget.model_validate(
        {
            "kind": "dendrite_rooms",
            "database": dsn,
            "server_name": "demo.example",
            "admin_api": {"url": url, "token": token},
            "keep_state": True,
            "pace": {"pause": "0s"},
            "policies": [
                {"name": "upgraded", "match": {"upgraded": True}, "keep": "30d"},
                {"name": "left", "match": {"left_by_all": True}, "keep": "180d"},
            ],
        }
    )
