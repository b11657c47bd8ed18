"""The log: fixed event names with fields, one entry a line, on a stream or in systemd's journal.

Each entry becomes plain data and a line in `log_entries.py`, and is written by `log_outputs.py`. The record of
deletions is the ledger, not the log.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

import structlog
from structlog.processors import TimeStamper, add_log_level

from retentiond.adapters.journal import JOURNAL_SOCKET, JournalSocket, under_journal
from retentiond.adapters.log_entries import renderers
from retentiond.adapters.log_outputs import JournalOutput, StreamOutput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger

    from retentiond.adapters.log_entries import LineFormat
    from retentiond.adapters.log_outputs import Output

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


class _LibraryHandler(logging.Handler):
    """Brings log entries of the standard library's logging (apscheduler, asyncio) into the same output."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit are the library's mistake
            message = str(record.msg)
        # Only these reach us (see below); a library's own levels lie between them.
        level = next(known for known in (50, 40, 30) if record.levelno >= known)
        get_logger().log(
            level, "library_message", logger=record.name, message=message, exc_info=record.exc_info
        )


def _route_libraries(threshold: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler(max(threshold, logging.WARNING)))
