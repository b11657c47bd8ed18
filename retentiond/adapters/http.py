"""The daemon's HTTP server: reading only, and bounded against any client.

One connection carries one request. `http_connections.py` bounds the connections and their times, `http_access.py` says who
may read.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from retentiond.adapters.http_access import Access, secure
from retentiond.adapters.http_connections import MAX_CONNECTIONS, Connections
from retentiond.adapters.logging import get_logger

if TYPE_CHECKING:
    import ssl

Route = Callable[[web.BaseRequest], Awaitable[web.Response]]
"""Answers one request for a path."""
Address = tuple[str, int] | Path
"""An IP address and a port, or the path of a unix socket."""

_LINE_SIZE: Final = 4096
"""The longest request line, and the longest header."""
_MOST_HEADERS: Final = 64
_SOCKET_MODE: Final = 0o660
_METHODS: Final = ("GET", "HEAD")
_PAUSE_OF_GUESSES: Final = 60.0
_HANG_UP: Final = 2.0  # seconds for answers under way when the server closes

_log = get_logger()
# aiohttp logs each malformed request with its traceback: any client could fill the disk.
_library_log: Final = logging.getLogger(f"{__name__}.aiohttp")
_library_log.disabled = True


_ANYBODY: Final = Access()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses of a server and the rules of access; `tls` is for the addresses, not for the socket."""

    addresses: tuple[Address, ...]
    access: Access = _ANYBODY
    tls: ssl.SSLContext | None = None


def refuse(request: web.BaseRequest, status: int, sentence: str, **headers: str) -> web.Response:
    """Return an answer that says why there is no other: JSON for the API, else a line of text."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if request.path.startswith("/api/"):
        return web.json_response({"error": sentence}, status=status, headers=named)
    return web.Response(status=status, text=f"{sentence}\n", headers=named)


class Listener:
    """Listens at the configured addresses, and answers each path by its route.

    `name` is that of the section of the configuration, for the log: metrics_served, http_not_served.
    """

    def __init__(self, name: str, routes: Mapping[str, Route]) -> None:
        self._name = name
        self._server = _BoundedServer(routes)
        self._endpoint = Endpoint(())
        self._listening: dict[Address, tuple[socket.socket, asyncio.Task[None]]] = {}

    async def adopt(self, endpoint: Endpoint) -> None:
        """Listen at these addresses only; one that cannot be used is an error in the log.

        Access and certificate are those of the endpoint from the next request on. An address that stays is not left.
        """
        self._endpoint = endpoint
        self._server.access = endpoint.access
        for address in self._listening.keys() - set(endpoint.addresses):
            await self._leave(address)
        for address in endpoint.addresses:
            if address not in self._listening:
                self._listen(address)

    @property
    def ports(self) -> list[int]:
        """The ports in use, which the system chooses for port 0."""
        return [
            listening.getsockname()[1]
            for address, (listening, _) in self._listening.items()
            if not isinstance(address, Path)
        ]

    @property
    def is_open(self) -> bool:
        """Whether the server listens anywhere."""
        return bool(self._listening)

    async def close(self) -> None:
        """Stop listening; answers under way have a moment to end."""
        for address in list(self._listening):
            await self._leave(address)
        await self._server.hang_up()

    def _listen(self, address: Address) -> None:
        try:
            listening = _bind_socket(address) if isinstance(address, Path) else _bind(address)
        except OSError as error:
            _log.error(
                f"{self._name}_not_served",
                listen=_shown(address),
                error=error.strerror or str(error),
                hint=f"choose another address under `{self._name}`, and reload",
            )
            return
        accepting = asyncio.get_running_loop().create_task(
            self._server.bounds.accept(listening, lambda: self._tls(address)), name=f"http {address}"
        )
        self._listening[address] = listening, accepting
        shown = address if isinstance(address, Path) else listening.getsockname()[:2]
        _log.info(f"{self._name}_served", listen=_shown(shown))

    def _tls(self, address: Address) -> ssl.SSLContext | None:
        return None if isinstance(address, Path) else self._endpoint.tls

    async def _leave(self, address: Address) -> None:
        listening, accepting = self._listening.pop(address)
        # A client that connects just now would be handed to the cancelled task, which is an error in the log.
        asyncio.get_running_loop().remove_reader(listening)
        accepting.cancel()
        await asyncio.wait({accepting})
        if isinstance(address, Path):
            _remove_socket(address, listening)
        listening.close()


def _shown(address: Address) -> str:
    if isinstance(address, Path):
        return str(address)
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listening = socket.create_server(address, family=family, backlog=MAX_CONNECTIONS)
    listening.setblocking(False)
    return listening


def _bind_socket(path: Path) -> socket.socket:
    """Bind a unix socket, in the place of one whose process is gone; raise OSError if there is anything else."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "a file that is no socket is in its place")
        if _is_answered(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.bind(str(path))
        # No client can connect before `listen`.
        path.chmod(_SOCKET_MODE)
        listening.listen(MAX_CONNECTIONS)
    except BaseException:
        listening.close()
        raise
    return listening


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # A full queue (EAGAIN) is a living server's, too.
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED


def _remove_socket(path: Path, listening: socket.socket) -> None:
    """Remove the file of a socket, unless another process or a user has put another file there."""
    with suppress(OSError):
        listening.close()
        # A connection to a file that is no socket is refused, too.
        if stat.S_ISSOCK(path.lstat().st_mode) and not _is_answered(path):
            path.unlink()


class _BoundedServer(web.Server):
    def __init__(self, routes: Mapping[str, Route]) -> None:
        super().__init__(self._answer, handler_cancellation=True)
        self._routes = routes
        self.access = _ANYBODY
        self.bounds = Connections(self)
        self._guessed: float | None = None

    def __call__(self) -> web.RequestHandler:
        return _Protocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # the annotation forgets that there may be none
            logger=_library_log,
            lingering_time=0.0,
            max_line_size=_LINE_SIZE,
            max_field_size=_LINE_SIZE,
            max_headers=_MOST_HEADERS,
        )

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.bounds.lost(handler)

    async def hang_up(self) -> None:
        self.pre_shutdown()
        await self.shutdown(_HANG_UP)
        await self.bounds.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.bounds.answering(request.protocol)
        response = secure(await self._route(request))
        response.force_close()
        return response

    async def _route(self, request: web.BaseRequest) -> web.Response:
        refused = self.access.refusal(request, local=_is_local(request))
        if refused is not None:
            status, sentence, headers = refused
            if status == HTTPStatus.UNAUTHORIZED and "Authorization" in request.headers:
                self._note_guess(request)
            return refuse(request, status, sentence, **dict(headers))
        # As it was sent: an encoded or a doubled slash makes another path, which does not exist.
        route = self._routes.get(request.raw_path.partition("?")[0])
        if route is None:
            return refuse(request, 404, f"not found; there is {', '.join(self._routes)}")
        if request.method not in _METHODS:
            return refuse(request, 405, "the server is for reading only; send GET", Allow=", ".join(_METHODS))
        try:
            return await route(request)
        except Exception:  # noqa: BLE001 - a mistake in a page must not end the daemon; it is logged whole
            _log.exception("http_answer_failed", path=request.path)
            return refuse(request, 500, "internal error; see the log")

    def _note_guess(self, request: web.BaseRequest) -> None:
        """Log a wrong token, and not each of a thousand."""
        now = asyncio.get_running_loop().time()
        if self._guessed is None or now - self._guessed >= _PAUSE_OF_GUESSES:
            self._guessed = now
            _log.warning("http_token_refused", client=request.remote)


def _is_local(request: web.BaseRequest) -> bool:
    transport = request.transport
    peer: Any = None if transport is None else transport.get_extra_info("socket")
    return peer is not None and peer.family == socket.AF_UNIX


class _Protocol(web.RequestHandler):
    """The library's protocol, whose own answers to malformed requests are as bare as ours."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        answer = super().handle_error(request, status, exc, message)
        if isinstance(answer, web.Response):
            # The library quotes the request.
            answer.text = "not a request that this server can read; send a plain GET over HTTP/1.1\n"
            answer.content_type = "text/plain"
            secure(answer)
        return answer
