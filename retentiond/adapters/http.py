"""The daemon's HTTP server: its connections, times and reads are bounded against any client.

One connection carries one request. A connection has a deadline for the whole request and another for the answer; beyond
the limit of connections, the newest takes the place of the oldest, so that clients that only keep connections open
do not shut out others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from retentiond.adapters.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

Route = Callable[[web.BaseRequest], Awaitable[web.Response]]
"""Answers one request for a path."""

MAX_CONNECTIONS: Final = 32
REQUEST_TIMEOUT: Final = 10.0
"""Seconds from the connection to the end of the request's headers."""
ANSWER_TIMEOUT: Final = 60.0
"""Seconds from there to the last byte of the answer."""
_LINE_SIZE: Final = 4096
"""The longest request line, and the longest header."""
_SHUTDOWN_TIMEOUT: Final = 2.0
_METHODS: Final = ("GET", "HEAD")

_log = get_logger()
# aiohttp logs each malformed request with its traceback: any client could fill the disk.
_library_log: Final = logging.getLogger(f"{__name__}.aiohttp")
_library_log.disabled = True


class Listener:
    """Listens on the configured address, and answers each path by its route."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes
        self._address: tuple[str, int] | None = None
        self._runner: web.ServerRunner | None = None

    async def adopt(self, address: tuple[str, int] | None) -> None:
        """Listen on this address (host, port), or nowhere; an address that cannot be used is an error in the log."""
        if address == self._address and self._runner is not None:
            return
        await self.close()
        self._address = address
        if address is None:
            return
        host, port = address
        runner = web.ServerRunner(_BoundedServer(self._routes), shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=MAX_CONNECTIONS).start()
        except OSError as error:
            await runner.cleanup()
            _log.error(
                "metrics_not_served",
                listen=f"{host}:{port}",
                error=error.strerror or str(error),
                hint="choose another port under `metrics`, and reload",
            )
        else:
            self._runner = runner
            _log.info("metrics_served", listen=f"{host}:{self.port}")

    @property
    def port(self) -> int | None:
        """The port in use, which the system chooses for port 0; None while the server does not listen."""
        return self._runner.addresses[0][1] if self._runner else None

    async def close(self) -> None:
        """Stop listening; answers under way have a moment to end."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()


class _BoundedServer(web.Server):
    def __init__(self, routes: Mapping[str, Route]) -> None:
        super().__init__(
            self._answer,
            handler_cancellation=True,
            access_log=None,
            logger=_library_log,
            lingering_time=0.0,
            max_line_size=_LINE_SIZE,
            max_field_size=_LINE_SIZE,
        )
        self._routes = routes
        self._deadlines: dict[web.RequestHandler, _Deadline] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._deadlines) >= MAX_CONNECTIONS:
            self._deadlines.pop(next(iter(self._deadlines))).expire()
        self._deadlines[handler] = _Deadline(transport, REQUEST_TIMEOUT)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        if (deadline := self._deadlines.pop(handler, None)) is not None:
            deadline.cancel()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if (deadline := self._deadlines.get(request.protocol)) is not None:
            deadline.extend(ANSWER_TIMEOUT)
        response = await self._route(request)
        response.force_close()
        return response

    async def _route(self, request: web.BaseRequest) -> web.Response:
        route = self._routes.get(request.path)
        if route is None:
            return web.Response(status=404, text=f"not found; there is {', '.join(self._routes)}\n")
        if request.method not in _METHODS:
            return web.Response(status=405, headers={"Allow": ", ".join(_METHODS)})
        try:
            return await route(request)
        except Exception:  # noqa: BLE001 - a mistake in a page must not end the daemon; it is logged whole
            _log.exception("http_answer_failed", path=request.path)
            return web.Response(status=500, text="internal error; see the log\n")


class _Deadline:
    """Ends a connection at its deadline, or at once; unsent data are dropped."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(seconds, transport.abort)

    def extend(self, seconds: float) -> None:
        """Restart the deadline from now."""
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def expire(self) -> None:
        """End the connection now."""
        self._timer.cancel()
        self._transport.abort()

    def cancel(self) -> None:
        """Forget a connection that has ended."""
        self._timer.cancel()
