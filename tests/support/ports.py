"""A port for a server that is about to start."""

from __future__ import annotations

import errno
import secrets
import socket

_FROM, _TO = 20_000, 32_000
"""Below those that the system gives to connections of its own choice, which would take one before the server does."""


def free_port() -> int:
    """Return a port that nobody has now, by chance, so that several runs do not choose the same."""
    while True:
        port = _FROM + secrets.randbelow(_TO - _FROM)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port
