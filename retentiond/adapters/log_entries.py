"""Log entries as plain data, and then as a line.

Their fields are untrusted (file names, database rows, exceptions that quote a connection string), so each entry becomes
plain data first: credentials are removed there, once, for every renderer, and no renderer lets a control character
through to a terminal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import ExceptionRenderer, LogfmtRenderer
from structlog.tracebacks import ExceptionDictTransformer

from retentiond.model.text import printable

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["json", "logfmt", "console"]
LineFormat = Literal["json", "logfmt", "console", "plain"]
"""The formats of the configuration, and the plain sentences that commands write for people."""

_HIDDEN = "***"
_SECRET_FIELDS = frozenset({"password", "api_key", "token", "secret"})
_URL_USER = re.compile(r"://[^\s:/]*:")
_WORD = re.compile(r"\S+")
_PASSWORD_SETTING = re.compile(r"(password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)
_DEEPEST = 16
# Room for a traceback; a longer text is unreadable on one line.
_LONGEST_TEXT = 16_384


def redact(text: str) -> str:
    """Remove passwords: from URLs (`scheme://user:***@host`), and from settings such as `password=…`.

    Real passwords have unescaped `/` and `@`: everything up to a word's last `@` is removed, rather too much than too
    little. The time grows with the length only, since the text may be untrusted.
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


def renderers(format: LineFormat, *, colours: bool) -> list[Processor]:  # noqa: A002 - the configuration's own word
    """Return the processors that make an `Entry` of the fields of an event, in order."""
    if format == "json":
        # Never the local variables: they are where the secrets are.
        tracebacks = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        return [tracebacks, _make_plain, _entry_by(_render_json)]
    if format == "logfmt":
        renderer: Processor = LogfmtRenderer(bool_as_flag=False)
        return [ExceptionRenderer(), _make_plain, _make_legible, _entry_by(renderer)]
    if format == "plain":
        return [
            ExceptionRenderer(),
            _make_plain,
            _indent_traceback,
            _make_legible,
            _entry_by(_render_plain),
        ]
    # The traceback is text by then, and the renderer warns if it thinks that it could have made a nicer one.
    renderer = ConsoleRenderer(colors=colours, sort_keys=False, exception_formatter=plain_traceback)
    return [ExceptionRenderer(), _make_plain, _indent_traceback, _make_legible, _entry_by(renderer)]


def _make_plain(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Convert to JSON's types, without credentials; time, level and event come first."""
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
    """Escape characters that could command a terminal or turn the text round; nested values become JSON."""
    return {name: _legible(name, value) for name, value in fields.items()}


def _legible(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return printable(value, _LONGEST_TEXT)
    if name == "exception" and isinstance(value, list):
        return "\n".join(value)
    return json.dumps(value) if isinstance(value, dict | list) else value


def _render_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    return json.dumps(fields)  # in ASCII: a file name cannot command the terminal that shows it


def _render_plain(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    """Write a sentence for people: `retentiond: media: warning: inconsistency, kind missing_file, …`, without a time."""
    shown = dict(fields)
    shown.pop("timestamp", None)
    level, event = shown.pop("level"), shown.pop("event")
    traceback = shown.pop("exception", None)
    about = f"{shown.pop('target')}: " if shown.get("target") else ""
    pairs = [f"{name} {value}" for name, value in shown.items() if value not in {None, ""}]
    line = f"retentiond: {about}{level}: {', '.join([event, *pairs])}"
    return line if traceback is None else f"{line}\n{traceback}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A rendered line, and the fields that outputs use: the journal's, and those by which findings are counted."""

    line: str
    level: str
    event: str
    target: str | None
    kind: str | None = None
    items: int = 1


def _entry_by(renderer: Processor) -> Processor:
    """Make the last processor, whose result is the arguments for the output."""

    def finish(
        logger: WrappedLogger, method: str, fields: EventDict
    ) -> tuple[tuple[Entry], dict[str, object]]:
        level, event = str(fields["level"]), str(fields["event"])
        target, kind, items = fields.get("target"), fields.get("kind"), fields.get("items")
        line = str(renderer(logger, method, fields))
        entry = Entry(
            line,
            level,
            event,
            None if target is None else str(target),
            None if kind is None else str(kind),
            items if isinstance(items, int) else 1,
        )
        return (entry,), {}

    return finish
