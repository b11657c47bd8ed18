"""Where log entries go: a stream, or systemd's journal.

Neither raises into the daemon, and neither waits for the journal: an entry that the journal has no room for is dropped
and counted, and the count is the next entry that gets through (`log_entries_lost`). To fall back to standard output
would be no way out: under systemd that is another socket of the same journal, and a blocking one.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from retentiond.adapters.log_entries import Entry
from retentiond.adapters.pipes import InterruptedWriteError, PipeWriter, descriptor_of

if TYPE_CHECKING:
    from typing import TextIO

    from retentiond.adapters.journal import JournalSocket

_PATIENCE = 5.0
"""Seconds: under a watchdog that is asked for every 30."""
_PRIORITIES = {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}


class Output(Protocol):
    """Where entries go; structlog calls `write` by the level's name."""

    def write(self, entry: Entry) -> None:
        """Let it go out, and never raise."""


class StreamOutput:
    """A line an entry on a stream, which may go away at any time, or have a reader that stopped.

    Such a reader is waited for once, and briefly; until it reads again entries are dropped and counted.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        descriptor = descriptor_of(stream)
        self._writer = None if descriptor is None else PipeWriter(descriptor)
        self._lost = 0
        # Re-entrant: the collector may run in the middle of a write, and asyncio logs from there.
        self._lock = threading.RLock()

    def write(self, entry: Entry) -> None:
        """Write the line; characters outside the stream's encoding are escaped."""
        with self._lock:
            try:
                # What was written past us comes first.
                self._stream.flush()
                if self._lost and self._send(_loss(self._lost)):
                    self._lost = 0
                if not self._send(entry):
                    self._lost += 1
            except BrokenPipeError:
                self._discard()
            except (OSError, ValueError, RuntimeError):
                return  # a full disk, a closed stream, a write within a write: nowhere is left to say it

    def _send(self, entry: Entry) -> bool:
        line = f"{entry.line}\n".encode(self._encoding, "backslashreplace")
        if self._writer is None:
            self._stream.write(line.decode(self._encoding))
            self._stream.flush()
            return True
        try:
            return self._writer.write(line, 0.0 if self._lost or self._writer.is_behind else _PATIENCE)
        except InterruptedWriteError:
            return False

    def _discard(self) -> None:
        """Let the rest go nowhere, else Python's last flush fails again and changes the exit status."""
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    debug = info = warning = error = critical = write


class JournalOutput:
    """An entry a message in the journal."""

    def __init__(self, journal: JournalSocket) -> None:
        self._journal = journal
        self._lost = 0
        self._lock = threading.RLock()

    def write(self, entry: Entry) -> None:
        """Send it, and before it how many were lost, once there is room again."""
        with self._lock:
            if self._lost and self._send(_loss(self._lost)):
                self._lost = 0
            if not self._send(entry):
                self._lost += 1

    def _send(self, entry: Entry) -> bool:
        fields = {
            "MESSAGE": entry.line,
            "PRIORITY": _PRIORITIES[entry.level],
            "SYSLOG_IDENTIFIER": "retentiond",
            "RETENTIOND_EVENT": entry.event,
        }
        if entry.target is not None:
            fields["RETENTIOND_TARGET"] = entry.target
        return self._journal.send(fields)

    debug = info = warning = error = critical = write


def _loss(items: int) -> Entry:
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    fields = {"timestamp": timestamp, "level": "warning", "event": "log_entries_lost", "items": items}
    return Entry(json.dumps(fields), "warning", "log_entries_lost", None)
