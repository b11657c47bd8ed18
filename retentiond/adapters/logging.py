"""The log: fixed event names with fields, one entry a line, on a stream or in systemd's journal.

What is logged comes from strangers (file names, database rows, exceptions that quote a connection string), so each
entry is made plain data first: credentials are taken out there, once, whatever is rendered afterwards, and no
renderer lets a control character through to a terminal.

Logging never raises into the daemon, and never waits for the journal: an entry that the journal has no room for is
dropped and counted, and the count is the next entry that gets through (`log_entries_lost`). To fall back to
standard output would be no way out: under systemd that is another socket of the same journal, and a blocking one.
The record of what was deleted is the ledger, not the log.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import ExceptionRenderer, LogfmtRenderer, TimeStamper, add_log_level
from structlog.tracebacks import ExceptionDictTransformer

from retentiond.adapters.journal import JOURNAL_SOCKET, JournalSocket, under_journal
from retentiond.model.text import printable

if TYPE_CHECKING:
    from typing import TextIO

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["json", "logfmt", "console"]

_LEVELS: dict[LogLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_PRIORITIES = {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}
_HIDDEN = "***"
_SECRET_FIELDS = frozenset({"password", "api_key", "token", "secret"})
_URL_USER = re.compile(r"://[^\s:/]*:")
_WORD = re.compile(r"\S+")
_PASSWORD_SETTING = re.compile(r"(password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)
_DEEPEST = 16
# Room for a traceback; more than that is not for a line that somebody reads.
_LONGEST_TEXT = 16_384


def get_logger(**fields: object) -> FilteringBoundLogger:
    """Give a logger, with these fields in each entry; it follows later calls of `configure_logging`."""
    logger: FilteringBoundLogger = structlog.get_logger(**fields)
    return logger


def configure_logging(
    level: LogLevel | None,
    format: LogFormat,  # noqa: A002 - the configuration's own word for it
    stream: TextIO,
    *,
    quiet: bool = False,
    debug: bool = False,
    environment: Mapping[str, str] | None = None,
    journal_path: str = JOURNAL_SOCKET,
) -> None:
    """Send every log entry, other libraries' warnings too, to the stream; may be called again at any time.

    No level is `info`. `quiet` leaves warnings and up; `debug` shows all, and wins. Where the stream is systemd's
    journal (see `under_journal`), entries go there natively, as JSON whatever the format: its fields are for
    programs. The environment is the process's own unless given.
    """
    environment = os.environ if environment is None else environment
    threshold = _threshold(level, quiet=quiet, debug=debug)
    output: _Output = _StreamOutput(stream)
    if under_journal(environment, stream):
        format = "json"  # noqa: A001 - see the parameter
        if os.path.exists(journal_path):
            output = _JournalOutput(JournalSocket(journal_path))
    colours = stream.isatty() and not environment.get("NO_COLOR")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_log_level,
            TimeStamper(fmt="iso", utc=True),
            *_renderers(format, colours=colours),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: output,
        # A cached logger would go on writing to the stream, and at the level, of the first configuration.
        cache_logger_on_first_use=False,
    )
    _route_libraries(threshold)


def redact(text: str) -> str:
    """Take passwords out: of URLs (`scheme://user:***@host`), and of settings such as `password=…`.

    Passwords in the wild hold unescaped `/` and `@`: all up to a word's last `@` goes, rather too much than too
    little. The time taken grows with the length only, since the text may be a stranger's.
    """
    if "@" in text and "://" in text:
        text = _WORD.sub(_redact_url, text)
    return _PASSWORD_SETTING.sub(rf"\1{_HIDDEN}", text)


def _redact_url(match: re.Match[str]) -> str:
    word = match.group()
    user = _URL_USER.search(word)
    end = word.rfind("@")
    if user is None or end < user.end():
        return word
    return word[: user.end()] + _HIDDEN + word[end:]


def _threshold(level: LogLevel | None, *, quiet: bool, debug: bool) -> int:
    if debug:
        return logging.DEBUG
    threshold = _LEVELS[level or "info"]
    return max(threshold, logging.WARNING) if quiet else threshold


def _renderers(format: LogFormat, *, colours: bool) -> list[Processor]:  # noqa: A002 - as above
    if format == "json":
        # Never the local variables: they are where the secrets are.
        tracebacks = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        return [tracebacks, _make_plain, _entry_by(_render_json)]
    if format == "logfmt":
        renderer: Processor = LogfmtRenderer(bool_as_flag=False)
        return [ExceptionRenderer(), _make_plain, _make_legible, _entry_by(renderer)]
    # The traceback is text by then, and the renderer warns if it thinks that it could have made a nicer one.
    renderer = ConsoleRenderer(colors=colours, sort_keys=False, exception_formatter=plain_traceback)
    return [ExceptionRenderer(), _make_plain, _indent_traceback, _make_legible, _entry_by(renderer)]


def _make_plain(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Leave nothing but JSON's types, without credentials; time, level and event come first."""
    first = {name: fields[name] for name in ("timestamp", "level", "event") if name in fields}
    plain: dict[str, Any] = _plain({**first, **fields})
    return plain


def _plain(value: object, depth: int = 0) -> Any:
    plain: object
    match value:
        case None | bool() | int():
            plain = value
        case float():
            plain = value if math.isfinite(value) else str(value)  # JSON has no word for the others
        case Mapping() | AbstractSet() | list() | tuple() if depth >= _DEEPEST:
            plain = "…"
        case Mapping():
            plain = {str(name): _plain_field(str(name), item, depth + 1) for name, item in value.items()}
        case AbstractSet():
            plain = sorted((_plain(item, depth + 1) for item in value), key=str)
        case list() | tuple():
            plain = [_plain(item, depth + 1) for item in value]
        case date():  # datetime is one
            plain = value.isoformat()
        case _:
            plain = redact(str(value))
    return plain


def _plain_field(name: str, value: object, depth: int) -> Any:
    return _HIDDEN if name in _SECRET_FIELDS and value is not None else _plain(value, depth)


def _indent_traceback(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Mark each line of a traceback, so that an exception's text cannot pass for an entry of its own."""
    if isinstance(text := fields.get("exception"), str):
        fields["exception"] = [f"  | {printable(line, _LONGEST_TEXT)}" for line in text.splitlines()]
    return fields


def _make_legible(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Escape what could command a terminal or turn the text round; what is nested becomes JSON."""
    return {name: _legible(name, value) for name, value in fields.items()}


def _legible(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return printable(value, _LONGEST_TEXT)
    if name == "exception" and isinstance(value, list):
        return "\n".join(value)
    return json.dumps(value) if isinstance(value, dict | list) else value


def _render_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    return json.dumps(fields)  # in ASCII: a file name cannot command the terminal that shows it


@dataclass(frozen=True, slots=True)
class _Entry:
    """A rendered line, and what the journal wants to know beside it."""

    line: str
    level: str
    event: str
    target: str | None


def _entry_by(renderer: Processor) -> Processor:
    """Make the last processor: what it returns are the arguments for the output."""

    def finish(
        logger: WrappedLogger, method: str, fields: EventDict
    ) -> tuple[tuple[_Entry], dict[str, object]]:
        level, event, target = fields["level"], fields["event"], fields.get("target")
        line = str(renderer(logger, method, fields))
        return (_Entry(line, str(level), str(event), None if target is None else str(target)),), {}

    return finish


class _Output(Protocol):
    """Where entries go; structlog calls `write` by the level's name."""

    def write(self, entry: _Entry) -> None: ...


class _StreamOutput:
    """A line an entry on a stream, which may go away at any time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        # Re-entrant: the collector may run in the middle of a write, and asyncio logs from there.
        self._lock = threading.RLock()

    def write(self, entry: _Entry) -> None:
        line = entry.line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        with self._lock:
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except BrokenPipeError:
                self._discard()
            except (OSError, ValueError, RuntimeError):
                return  # a full disk, a closed stream, a write within a write: nowhere is left to say it

    def _discard(self) -> None:
        """Let the rest go nowhere, else Python's last flush fails again and changes the exit status."""
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    debug = info = warning = error = critical = write


class _JournalOutput:
    """An entry a message in the journal."""

    def __init__(self, journal: JournalSocket) -> None:
        self._journal = journal
        self._lost = 0
        self._lock = threading.RLock()

    def write(self, entry: _Entry) -> None:
        with self._lock:
            if self._lost and self._send(_loss(self._lost)):
                self._lost = 0
            if not self._send(entry):
                self._lost += 1

    def _send(self, entry: _Entry) -> bool:
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


def _loss(items: int) -> _Entry:
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    fields = {"timestamp": timestamp, "level": "warning", "event": "log_entries_lost", "items": items}
    return _Entry(json.dumps(fields), "warning", "log_entries_lost", None)


class _LibraryHandler(logging.Handler):
    """Brings what libraries log by the standard library (apscheduler, asyncio) into the same output."""

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
