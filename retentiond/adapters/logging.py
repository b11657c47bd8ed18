"""The log: fixed event names with fields, one entry a line, on a stream or in systemd's journal.

Each entry becomes plain data and a line in `log_entries.py`, and is written by an `Output`. The record of deletions is
the ledger, not the log.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, Protocol

import structlog
from structlog.processors import TimeStamper, add_log_level

from retentiond.adapters.journal import JOURNAL_SOCKET, JournalSocket, under_journal
from retentiond.adapters.log_entries import Entry, renderers
from retentiond.adapters.pipes import InterruptedWriteError, PipeWriter, descriptor_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger

    from retentiond.adapters.log_entries import LineFormat

_PATIENCE = 5.0
"""Seconds: shorter than the watchdog's interval of 30."""
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


LogLevel = Literal["debug", "info", "warning", "error"]

_LEVELS: dict[LogLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def get_logger(**fields: object) -> FilteringBoundLogger:
    """Give a logger, with these fields in each entry; it follows later calls of `configure_logging`."""
    logger: FilteringBoundLogger = structlog.get_logger(**fields)
    return logger


def configure_logging(
    level: LogLevel,
    format: LineFormat,  # noqa: A002 - the configuration's own word for it
    stream: TextIO,
    *,
    output: Output | None = None,
    quiet: bool = False,
    debug: bool = False,
    environment: Mapping[str, str] | None = None,
    journal_path: str = JOURNAL_SOCKET,
) -> None:
    """Send every log entry, other libraries' warnings too, to the stream; may be called again at any time.

    An `output` takes the entries in the stream's place; whether lines have colours still depends on the stream.

    `quiet` leaves errors; `debug` shows all, and wins. Where the stream is systemd's journal (see `under_journal`),
    entries go there natively, always as JSON: its fields are for programs. The environment is the
    process's own unless given.
    """
    environment = os.environ if environment is None else environment
    threshold = logging.DEBUG if debug else logging.ERROR if quiet else _LEVELS[level]
    output = output or StreamOutput(stream)
    if under_journal(environment, stream):
        format = "json"  # noqa: A001 - see the parameter
        if os.path.exists(journal_path):
            output = JournalOutput(JournalSocket(journal_path))
    colours = stream.isatty() and not environment.get("NO_COLOR")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_log_level,
            TimeStamper(fmt="iso", utc=True),
            *renderers(format, colours=colours),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: output,
        # A cached logger would go on writing to the stream, and at the level, of the first configuration.
        cache_logger_on_first_use=False,
    )
    _route_libraries(threshold)


_ABANDONED: Final = "unexpected connection_lost() call"
"""asyncpg's error of a connection whose making was cancelled, as a pass that begins and a reload do: nothing waits for it."""


class _LibraryHandler(logging.Handler):
    """Brings log entries of the standard library's logging (apscheduler, asyncio) into the same output."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit are the library's mistake
            message = str(record.msg)
        if _ABANDONED in message:
            return
        # Only these reach us (see below); a library's own levels are between them.
        level = next(known for known in (50, 40, 30) if record.levelno >= known)
        get_logger().log(
            level, "library_message", logger=record.name, message=message, exc_info=record.exc_info
        )


def _route_libraries(threshold: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler(max(threshold, logging.WARNING)))
