"""A server with dendrite's admin API over a test's database: it answers, and purges, as a recorded dendrite 0.15.2 does.

A purge empties the tables of the room server in one transaction; a message in its queue lets sync remove its rows a moment
later. The queue is on the disk: it outlasts a kill, and is delivered after the next start. What goes wrong is set by a test.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import asyncpg
from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

ADMIN, USER, GUEST = "admin-token-7f3a", "user-token", "guest-token"
"""The tokens that it knows."""

Step = Literal["request", "transaction", "commit", "answer", "delivery"]
"""The points of a purge at which it may be killed or wait: each before the named effect."""

_PURGE = (
    "DELETE FROM roomserver_room_aliases WHERE room_id = $2",
    "DELETE FROM roomserver_published WHERE room_id = $2",
    (
        "DELETE FROM roomserver_state_block WHERE state_block_nid = ANY"
        " (SELECT DISTINCT unnest(state_block_nids) FROM roomserver_state_snapshots WHERE room_nid = $1)"
    ),
    "DELETE FROM roomserver_state_snapshots WHERE room_nid = $1",
    "DELETE FROM roomserver_invites WHERE room_nid = $1",
    "DELETE FROM roomserver_membership WHERE room_nid = $1",
    (
        "DELETE FROM roomserver_previous_events WHERE event_nids && ANY"
        " (SELECT array_agg(event_nid) FROM roomserver_events WHERE room_nid = $1)"
    ),
    "DELETE FROM roomserver_event_json WHERE event_nid = ANY (SELECT event_nid FROM roomserver_events WHERE room_nid = $1)",
    (
        "DELETE FROM roomserver_redactions WHERE redaction_event_id = ANY"
        " (SELECT event_id FROM roomserver_events WHERE room_nid = $1)"
    ),
    "DELETE FROM roomserver_events WHERE room_nid = $1",
    "DELETE FROM roomserver_rooms WHERE room_nid = $1",
)
_DELIVERED = (
    *(
        f"syncapi_{name}"
        for name in ("output_room_events", "output_room_events_topology", "current_room_state")
    ),
    *(f"syncapi_{name}" for name in ("memberships", "invite_events", "receipts", "notification_data")),
    *(f"syncapi_{name}" for name in ("backward_extremities", "peeks")),
    "federationsender_joined_hosts",
)
_EMPTY = """
SELECT r.room_id FROM roomserver_rooms r
WHERE EXISTS (SELECT FROM roomserver_events e WHERE e.room_nid = r.room_nid AND e.event_type_nid = 5)
  AND NOT EXISTS (SELECT FROM roomserver_membership m
                  WHERE m.room_nid = r.room_nid AND m.target_local AND m.membership_nid = 3)
"""


class _KilledError(Exception):
    """The process is gone: the connection closes without an answer."""


@dataclass
class RecordedDendrite:
    """The server; `url` and `socket` are where it listens.

    `die_at`: it is killed at this point of the next purge. `wait_at`: each purge waits there for `go_on`. `answers`: the
    answer to a purge is sent. `sync`: when its messages are delivered, at once, after a restart, or never. `queue_on_disk`:
    a kill keeps the queue. `evacuates`: users leave as it says. `purges` counts the requests by room, `purged` those that emptied a room.
    """

    database: str
    socket_path: Path | None = None
    tls: ssl.SSLContext | None = None
    url: str = ""
    die_at: Step | None = None
    wait_at: Step | None = None
    answers: bool = True
    sync: Literal["now", "after_restart", "never"] = "now"
    queue_on_disk: bool = True
    healthy: bool = True
    evacuates: bool = True
    purges: Counter[str] = field(default_factory=Counter)
    purged: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str]] = field(default_factory=list)
    queue: list[str] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    user: str = "@admin:here.test"
    _port: int = 0
    _connections: set[asyncpg.Connection[asyncpg.Record]] = field(default_factory=set)
    _deliveries: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def runs(self) -> bool:
        return self._runner is not None

    async def start(self) -> None:
        """Start it, at the same port each time; what is queued is delivered."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        if self.socket_path is not None:
            await web.UnixSite(self._runner, str(self.socket_path)).start()
        else:
            await web.TCPSite(
                self._runner, "127.0.0.1", self._port, ssl_context=self.tls, reuse_address=True
            ).start()
            self._port = self._runner.addresses[0][1]
            self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}"
        if self.sync == "after_restart":
            self.sync = "now"
        self._deliver()

    async def kill(self) -> None:
        """Kill it: connections close, and what is in a transaction is rolled back."""
        runner, self._runner = self._runner, None
        for task in self._deliveries:
            task.cancel()
        for connection in list(self._connections):
            connection.terminate()
        if not self.queue_on_disk:
            self.queue.clear()
        if runner is not None:
            for handler in list(runner.server.connections if runner.server else ()):
                if handler.transport is not None:
                    handler.transport.abort()
            await runner.cleanup()

    async def restart(self) -> None:
        """Kill it, if it runs, and start it."""
        await self.kill()
        await self.start()

    async def delivered(self) -> None:
        """Wait until sync has removed what it is about to remove."""
        while self._deliveries:
            await asyncio.wait(self._deliveries)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        self.requests.append((request.method, path))
        if path == "/_dendrite/monitor/health":
            return web.Response(status=200 if self.healthy else 503)
        denied = self._denied(request)
        if denied is not None:
            return denied
        try:
            if path == "/_matrix/client/v3/account/whoami":
                return _json(200, user_id=self.user, device_id="admin", is_guest=False)
            if path == "/_dendrite/admin/emptyRooms":
                return await self._empty_rooms(request)
            for name, act in (("purgeRoom", self._purge), ("evacuateRoom", self._evacuate)):
                room = path.removeprefix(f"/_dendrite/admin/{name}/")
                if room != path and "/" not in room:
                    return await act(unquote(room)) if request.method == "POST" else _unrecognized(405)
        except _KilledError:
            # The connection ends without an answer.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return _unrecognized(404)

    def _denied(self, request: web.Request) -> web.Response | None:
        header = request.headers.get("Authorization", "")
        if not header.startswith("Bearer "):
            error = "invalid Authorization header" if header else "missing access token"
            return _json(401, errcode="M_MISSING_TOKEN", error=error)
        token = header.removeprefix("Bearer ")
        if token == GUEST:
            return _json(403, errcode="M_GUEST_ACCESS_FORBIDDEN", error="Guest access not allowed")
        if token == USER:
            return _json(403, errcode="M_FORBIDDEN", error="This API can only be used by admin users.")
        return None if token == ADMIN else _json(401, errcode="M_UNKNOWN_TOKEN", error="Unknown token")

    async def _empty_rooms(self, request: web.Request) -> web.Response:
        if request.method != "GET":
            return _unrecognized(405)
        async with self._connection() as connection:
            rooms = [row["room_id"] for row in await connection.fetch(_EMPTY)]
        return _json(200, empty_rooms=rooms or None)

    async def _purge(self, room_id: str) -> web.Response:
        self.purges[room_id] += 1
        await self._reach("request")
        async with self._connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            room_nid = await connection.fetchval(
                "SELECT room_nid FROM roomserver_rooms WHERE room_id = $1 FOR UPDATE", room_id
            )
            if room_nid is None:
                await transaction.rollback()
                return _json(500, message=f"room {room_id} does not exist")
            await self._reach("transaction")
            for statement in _PURGE:
                arguments = (room_nid, room_id)
                await (
                    connection.execute(statement.replace("$2", "$1"), room_id)
                    if "$2" in statement
                    else connection.execute(statement, *arguments[:1])
                )
            await self._reach("commit")
            await transaction.commit()
        self.purged[room_id] += 1
        self.queue.append(room_id)
        await self._reach("answer")
        if self.die_at == "delivery":
            await self._die()
        self._deliver()
        if not self.answers:
            raise _KilledError
        return _json(200)

    async def _evacuate(self, room_id: str) -> web.Response:
        async with self._connection() as connection:
            room_nid = await connection.fetchval(
                "SELECT room_nid FROM roomserver_rooms WHERE room_id = $1", room_id
            )
            if room_nid is None:
                return _json(404, errcode="M_NOT_FOUND", error="room does not exist")
            left = await connection.fetch(
                f"UPDATE roomserver_membership m SET membership_nid = {1 if self.evacuates else 3} FROM roomserver_event_state_keys k"
                " WHERE m.room_nid = $1 AND m.target_local AND m.membership_nid = 3"
                " AND k.event_state_key_nid = m.target_nid RETURNING k.event_state_key AS name",
                room_nid,
            )
        return _json(200, affected=[row["name"] for row in left])

    async def _reach(self, step: Step) -> None:
        if self.die_at == step:
            await self._die()
        if self.wait_at == step:
            self.arrived.set()
            await self.go_on.wait()

    async def _die(self) -> None:
        self.die_at = None
        self._deliveries.add(dying := asyncio.ensure_future(self._kill_from_within()))
        dying.add_done_callback(self._deliveries.discard)
        raise _KilledError

    async def _kill_from_within(self) -> None:
        self._deliveries.discard(asyncio.current_task())
        await self.kill()

    def _deliver(self) -> None:
        if self.sync != "now" or not self.queue:
            return
        task = asyncio.ensure_future(self._remove_from_sync())
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _remove_from_sync(self) -> None:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            async with self._connection() as connection:
                while self.queue:
                    for table in _DELIVERED:
                        await connection.execute(f"DELETE FROM {table} WHERE room_id = $1", self.queue[0])
                    self.queue.pop(0)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self.database)
        self._connections.add(connection)
        try:
            yield connection
        finally:
            self._connections.discard(connection)
            connection.terminate()


def _json(status: int, **document: Any) -> web.Response:
    return web.json_response(document, status=status)


def _unrecognized(status: int) -> web.Response:
    return _json(status, errcode="M_UNRECOGNIZED", error="Unrecognized request")


@asynccontextmanager
async def recorded_dendrite(database: str, **keys: Any) -> AsyncIterator[RecordedDendrite]:
    """Run one until the block ends."""
    dendrite = RecordedDendrite(database, **keys)
    await dendrite.start()
    try:
        yield dendrite
    finally:
        await dendrite.kill()
