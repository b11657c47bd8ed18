"""systemd's journal, spoken natively, so that log events keep their fields.

A message is one datagram: `NAME=value` and a newline for each field, or, where the value holds newlines, the name,
a newline, the value's length as a little-endian 64 bit number, the value, and a newline. What is too large for a
datagram goes into a sealed memory file, whose descriptor is sent instead.

Names of fields are capitals, digits and underscores, begin with a letter, and are never taken from data.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

JOURNAL_SOCKET = "/run/systemd/journal/socket"

_TOO_LARGE = frozenset({errno.EMSGSIZE, errno.ENOBUFS})
# The journal reads a memory file only once it is sealed against changes.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class JournalSocket:
    """A way into the journal that never waits and never raises.

    The address is looked up for each message: a journal that was restarted is found again.
    """

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        # Loggers bound before a reload still hold us: only when the last is gone may the socket be closed.
        weakref.finalize(self, self._socket.close)

    def send(self, fields: Mapping[str, str]) -> bool:
        """Send one message; False if the journal is full or away, and the message is lost."""
        message = encode_fields(fields)
        try:
            self._send_whole(message)
        except OSError:
            return False
        return True

    def _send_whole(self, message: bytes) -> None:
        try:
            self._socket.sendto(message, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_by_descriptor(message)

    def _send_by_descriptor(self, message: bytes) -> None:
        descriptor = os.memfd_create("retentiond-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(descriptor, "wb") as file:
            file.write(message)
            file.flush()
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            self._socket.sendmsg([], [rights], 0, self._path)


def encode_fields(fields: Mapping[str, str]) -> bytes:
    """One message of the journal's native protocol; bytes that are not Unicode (odd file names) are escaped."""
    parts: list[bytes] = []
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts += [name.encode(), b"\n", struct.pack("<Q", len(value)), value, b"\n"]
        else:
            parts += [name.encode(), b"=", value, b"\n"]
    return b"".join(parts)


def under_journal(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the stream is the one that systemd connected to the journal, by $JOURNAL_STREAM (`device:inode`).

    The variable is inherited, and a stream may be redirected: only both together are proof.
    """
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream without a descriptor, or a closed one
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
