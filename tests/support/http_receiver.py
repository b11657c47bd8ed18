"""A real HTTP server that takes pings and webhooks, and answers as a test wants."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator


@dataclass(slots=True)
class Received:
    """One request."""

    method: str
    path: str
    body: str
    headers: dict[str, str]


@dataclass(slots=True)
class Receiver:
    """The requests so far; `statuses` are the next answers, then 200. Without `answers` it keeps silent."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    answers: bool = True
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, requests: int) -> list[Received]:
        """Wait until so many requests have come, and return them."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= requests)
        return self.requests

    async def answer(self, request: web.Request) -> web.Response:
        """Record a request, and answer it."""
        received = Received(request.method, request.path_qs, await request.text(), dict(request.headers))
        async with self._arrived:
            self.requests.append(received)
            self._arrived.notify_all()
        if not self.answers:
            await asyncio.Event().wait()
        status = self.statuses.pop(0) if self.statuses else 200
        headers: dict[str, Any] = {"Location": "http://127.0.0.1:9/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Listen on a free port of the loopback."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        scheme = "http" if tls is None else "https"
        receiver.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()
