"""Messages to the service manager: ready, reloading, stopping, and a watchdog ping from the event loop.

The protocol is one datagram of `NAME=value` lines to the socket that $NOTIFY_SOCKET names. The bindings that
exist need a C library or are unmaintained; the datagram needs no dependency.

No function here can fail: without a service manager no message is sent, and a vanished one is no reason to stop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

# A change of state comes a few times in a life, and its loss costs the start or the stop: worth a short wait.
_PATIENCE_SECONDS = 1.0
_MICROSECONDS = 1_000_000

_log = get_logger()


class Notifier:
    """The daemon's connection to systemd; silent if $NOTIFY_SOCKET is absent or of an unsupported kind."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._address = _socket_address(self._environment.get("NOTIFY_SOCKET", ""))

    def ready(self, status: str) -> None:
        """Report the end of the start or of a reload, also after a refused configuration."""
        self._send("READY=1", _status_line(status), patience=_PATIENCE_SECONDS)

    def reloading(self) -> None:
        """Report the begin of a reload; `ready` must follow, also after a failed reload."""
        # systemd compares this clock reading with its own to distinguish this reload from an earlier one.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", patience=_PATIENCE_SECONDS)

    def stopping(self, status: str) -> None:
        """Report the begin of the shutdown."""
        self._send("STOPPING=1", _status_line(status), patience=_PATIENCE_SECONDS)

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(_status_line(text))

    def watchdog(self) -> None:
        """Send a watchdog ping."""
        self._send("WATCHDOG=1")

    def watchdog_interval(self) -> float | None:
        """Seconds from ping to ping, half of systemd's limit; None if it expects no pings from us."""
        pid = self._environment.get("WATCHDOG_PID")
        if pid is not None and pid != str(os.getpid()):
            return None
        try:
            allowed = int(self._environment.get("WATCHDOG_USEC", ""))
        except ValueError:
            return None
        return allowed / _MICROSECONDS / 2 if allowed > 0 else None

    def _send(self, *lines: str, patience: float = 0.0) -> None:
        if self._address is None:
            return
        try:
            # One socket per message: messages are rare, and no socket stays open.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(patience)
                channel.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _log.debug("notify_failed", error=str(error))


async def keep_alive(notifier: Notifier) -> None:
    """Ping the watchdog from the event loop until cancelled, so that a blocked loop is noticed.

    Where no pings are expected it only waits: its end would look like the death of a background task.
    """
    interval = notifier.watchdog_interval()
    if interval is None:
        await asyncio.Event().wait()
        return
    while True:
        notifier.watchdog()
        await asyncio.sleep(interval)


def _socket_address(named: str) -> str | None:
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else None


def _status_line(text: str) -> str:
    # A newline would begin a field of its own: a text from a database must not contain READY=1.
    return f"STATUS={printable(text)}"
