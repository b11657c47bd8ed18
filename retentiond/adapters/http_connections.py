"""The connections of an HTTP server: their number, in all and from one address, and the time of each are bounded.

A connection is counted from its acceptance, before TLS. It has a deadline for the whole request, handshake included, and
another for the whole answer, however fast the client sends or reads. Beyond a limit the newest takes the place of the
oldest that has not sent its request yet, so that clients that only keep connections open do not shut out others.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

MAX_CONNECTIONS: Final = 64
MAX_OF_A_PEER: Final = 32
REQUEST_TIMEOUT: Final = 10.0
"""Seconds from the connection to the end of the request's headers."""
ANSWER_TIMEOUT: Final = 60.0
"""Seconds from there to the last byte of the answer."""
_DROP: Final = struct.pack("ii", 1, 0)
_GOODBYE: Final = 1.0  # seconds for the end of TLS
_PAUSE: Final = 1.0  # seconds after an error of accepting, such as too many open files
_NETWORK: Final = 64  # bits of an IPv6 address: a host has all addresses of such a network

_log = get_logger()


class Connections:
    """The open connections of a server; `protocol` makes the protocol of each."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._protocol = protocol
        self._open: dict[int, _Connection] = {}
        self._numbers = count()

    async def accept(self, listening: socket.socket, tls: Callable[[], ssl.SSLContext | None]) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:
                # A client that is gone already, or too many open files of this process.
                _log.debug("http_not_accepted", error=str(error))
                await asyncio.sleep(_PAUSE)
                continue
            self._take(accepted, _peer_key(peer), tls())
            # A flood of connections leaves each other task its turn.
            await asyncio.sleep(0)

    def answering(self, protocol: asyncio.BaseProtocol) -> None:
        """Note that the request of a connection has arrived as a whole."""
        for connection in self._open.values():
            if connection.protocol is protocol:
                connection.answer()

    def lost(self, protocol: asyncio.BaseProtocol) -> None:
        """Note that a connection has ended."""
        for number, connection in list(self._open.items()):
            if connection.protocol is protocol:
                del self._open[number]
                connection.forget()

    async def close(self) -> None:
        """End all connections now."""
        connections = list(self._open.values())
        self._open.clear()
        for connection in connections:
            connection.end()
        await asyncio.gather(*(connection.opening for connection in connections), return_exceptions=True)

    def _take(self, accepted: socket.socket, peer: str, tls: ssl.SSLContext | None) -> None:
        of_peer = [number for number, one in self._open.items() if one.peer == peer]
        if len(of_peer) >= MAX_OF_A_PEER:
            self._displace(of_peer)
        elif len(self._open) >= MAX_CONNECTIONS:
            self._displace(self._open)
        number = next(self._numbers)
        connection = self._open[number] = _Connection(accepted, peer, self._protocol(), tls)
        connection.opening.add_done_callback(lambda opening: self._opened(number, opening))

    def _displace(self, candidates: Iterable[int]) -> None:
        number = min(candidates, key=lambda number: (self._open[number].has_request, number))
        self._open.pop(number).end()

    def _opened(self, number: int, opening: asyncio.Task[None]) -> None:
        """Drop a connection that did not come about; a failed handshake is a client's affair."""
        if opening.cancelled() or opening.exception() is not None:
            connection = self._open.pop(number, None)
            if connection is not None:
                connection.forget()


class _Connection:
    def __init__(
        self, accepted: socket.socket, peer: str, protocol: asyncio.Protocol, tls: ssl.SSLContext | None
    ) -> None:
        self.peer = peer
        self.protocol = protocol
        self.has_request = False
        self._transport: asyncio.BaseTransport | None = None
        loop = asyncio.get_running_loop()
        self.opening = loop.create_task(self._open(accepted, tls))
        self._timer = loop.call_later(REQUEST_TIMEOUT, self.end)

    async def _open(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        options: dict[str, Any] = {}
        if tls is not None:
            options = {"ssl_handshake_timeout": REQUEST_TIMEOUT, "ssl_shutdown_timeout": _GOODBYE}
        try:
            self._transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self.protocol, accepted, ssl=tls, **options
            )
        except BaseException:
            with suppress(OSError):
                accepted.close()
            raise

    def answer(self) -> None:
        """Begin the time of the answer."""
        self.has_request = True
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT, self.end)

    def end(self) -> None:
        """End the connection now; unsent data are dropped."""
        self._timer.cancel()
        if isinstance(self._transport, asyncio.Transport):
            # The kernel drops what it has not sent yet, too: it would offer it to a client that does not read.
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
            self._transport.abort()
        else:
            self.opening.cancel()

    def forget(self) -> None:
        """Forget a connection that has ended."""
        self._timer.cancel()


def _peer_key(peer: Any) -> str:
    """Return the name of a peer for the limit: its address, of IPv6 the network; one name for all of a unix socket."""
    if not isinstance(peer, tuple) or not peer:
        return ""
    address = ip_address(str(peer[0]).partition("%")[0])
    return str(int(address) >> _NETWORK) if isinstance(address, IPv6Address) else str(address)
