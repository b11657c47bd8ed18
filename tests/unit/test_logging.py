"""What a log entry looks like, where it goes, and what never gets into it."""

from __future__ import annotations

import io
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from retentiond.adapters.log_entries import LogFormat, redact
from retentiond.adapters.logging import configure_logging, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers = list(root.handlers)
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def fail(text: str) -> None:
    hidden = "hunter" + "2"
    raise ValueError(f"{text} ({len(hidden)} characters)")


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_entry_is_one_json_object_a_line_with_its_fields_as_given(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    removed = {"items": 10, "by_policy": {"remote": {"items": 10, "share": 0.5}}}
    get_logger(target="media").info("pass_finished", pass_id=7, removed=removed, refused=None, dry_run=False)
    (entry,) = entries(stream)
    timestamp = datetime.fromisoformat(entry.pop("timestamp"))
    assert timestamp.tzinfo == UTC
    assert entry == {
        "level": "info",
        "event": "pass_finished",
        "target": "media",
        "pass_id": 7,
        "removed": removed,
        "refused": None,
        "dry_run": False,
    }


def test_values_that_json_does_not_know_become_text(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    endless: list[Any] = []
    endless.append(endless)
    get_logger().info(
        "odd",
        path=Path("/media"),
        at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        names={"b", "a"},
        share=float("nan"),
        endless=endless,
    )
    (entry,) = entries(stream)
    assert (entry["path"], entry["at"], entry["names"], entry["share"]) == (
        "/media",
        "2026-01-02T03:04:05+00:00",
        ["a", "b"],
        "nan",
    )


@pytest.mark.parametrize(
    ("switches", "shown"),
    [
        ({"level": "info"}, ["info", "warning", "error"]),
        ({"level": "error"}, ["error"]),
        ({"level": "info", "quiet": True}, ["error"]),
        ({"level": "error", "debug": True}, ["debug", "info", "warning", "error"]),
    ],
)
def test_the_level_decides_what_is_shown(
    switches: dict[str, Any], shown: list[str], stream: io.StringIO
) -> None:
    configure_logging(format="json", stream=stream, **switches)
    log = get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("said")
    assert [entry["level"] for entry in entries(stream)] == shown


def test_a_logger_made_earlier_follows_a_new_configuration(stream: io.StringIO) -> None:
    log = get_logger()
    configure_logging("info", "json", io.StringIO())
    log.info("first")
    configure_logging("debug", "json", stream)
    log.debug("second")
    assert [entry["event"] for entry in entries(stream)] == ["second"]


def test_an_exception_is_structured_and_without_local_variables(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    try:
        fail("no")
    except ValueError:
        get_logger().exception("item_failed")
    (entry,) = entries(stream)
    (trace,) = entry["exception"]
    assert (trace["exc_type"], trace["exc_value"]) == ("ValueError", "no (7 characters)")
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("format_name", ["json", "logfmt", "console"])
def test_passwords_never_reach_the_log(format_name: LogFormat, stream: io.StringIO) -> None:
    configure_logging("info", format_name, stream)
    dsn = "postgresql://dendrite:hunt/er2@db.example.org/dendrite"
    reason = f"cannot connect to {dsn} (password='hunt\\'er2 x')"
    try:
        fail(reason)
    except ValueError as error:
        get_logger().exception("lost", dsn=dsn, deep=[{"password": "hunt/er2"}], error=error)
    assert "er2" not in stream.getvalue()
    assert "dendrite:***@db.example.org/dendrite" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:s3cret@host and more", "redis://:***@host and more"),
        ("postgresql://u:p@ss@host", "postgresql://u:***@host"),
        ("host=db user=u password = s3cret dbname=d", "host=db user=u password = *** dbname=d"),
        ("sslpassword='a b' sslmode=require", "sslpassword=*** sslmode=require"),
        ("mxc://example.org:8448/AbC", "mxc://example.org:8448/AbC"),
        ("postgresql://dendrite@localhost/db", "postgresql://dendrite@localhost/db"),
        ("https://matrix.to/#/@user:example.org", "https://matrix.to/#/@user:example.org"),
        ("@user:example.org", "@user:example.org"),
    ],
)
def test_credentials_go_and_names_stay(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_hostile_name_does_not_make_redaction_slow() -> None:
    # With backtracking this takes minutes, and the test's own time-out ends it.
    assert redact("@ " + "://a:" * 400_000).startswith("@ ://a:")
    assert redact("password=" + "password='" * 400_000) == "password=***"


@pytest.mark.parametrize("format_name", ["json", "logfmt", "console"])
def test_a_file_name_cannot_command_the_terminal_or_begin_a_line(
    format_name: LogFormat, stream: io.StringIO
) -> None:
    configure_logging("info", format_name, stream)
    name = "a\x1b]0;owned\x07\u202egnp.exe\nlevel=critical\r\x9b2J\udcff"
    get_logger().warning("inconsistency", path=name, found=[name])
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert written.removesuffix("\n").isprintable()


def test_an_exceptions_text_cannot_pass_for_an_entry_on_the_console(stream: io.StringIO) -> None:
    configure_logging("info", "console", stream)
    try:
        fail("x\n2026-01-01T00:00:00Z [critical] forged\x1b[2J")
    except ValueError:
        get_logger().exception("item_failed")
    first, *others = stream.getvalue().splitlines()
    assert "item_failed" in first
    assert all(line.startswith("  | ") for line in others)
    assert any("forged" in line for line in others)
    assert "\x1b" not in stream.getvalue()


def test_logfmt_is_one_line_of_pairs(stream: io.StringIO) -> None:
    configure_logging("info", "logfmt", stream)
    get_logger().info("swept", items=3, done=True, by={"a": 1}, name='x" level=error')
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("timestamp=")
    assert 'level=info event=swept items=3 done=true by="{\\"a\\": 1}" name="x\\" level=error"' in line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_a_terminal_gets_colours(stream: io.StringIO) -> None:
    terminal, plain = Terminal(), Terminal()
    for output, environment in ((stream, {}), (terminal, {}), (plain, {"NO_COLOR": "1"})):
        configure_logging("info", "console", output, environment=environment)
        get_logger().info("hello")
    assert ["\x1b" in output.getvalue() for output in (stream, terminal, plain)] == [False, True, False]


def test_a_reader_that_went_away_is_no_error_and_leaves_nothing_to_flush() -> None:
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as stream:
        configure_logging("info", "json", stream)
        os.close(reading)
        get_logger().info("nobody_reads")
        get_logger().info("nor_this")  # and closing the stream, which flushes, raises nothing either


def test_a_closed_stream_is_no_error(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w", encoding="utf-8") as stream:
        configure_logging("info", "json", stream)
        get_logger().info("written")
    get_logger().info("too_late")
    assert [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()] == ["written"]


def test_a_stream_of_a_small_encoding_gets_escapes(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w", encoding="ascii") as stream:
        configure_logging("info", "console", stream)
        get_logger().info("read", name="été")
    assert "\\xe9t\\xe9" in (tmp_path / "log").read_text(encoding="ascii")


def test_libraries_warnings_come_in_the_same_shape_and_their_chatter_does_not(stream: io.StringIO) -> None:
    configure_logging("debug", "json", io.StringIO())
    configure_logging("debug", "json", stream)
    library = logging.getLogger("apscheduler.scheduler")
    library.info("added a job")
    library.warning("run of %s was missed", "media")
    # A connection that a reload cancelled is no error of anybody's.
    lost = ConnectionError("unexpected connection_lost() call")
    logging.getLogger("asyncio").error("Future exception was never retrieved: %r", lost)
    (entry,) = entries(stream)
    assert (entry["event"], entry["level"], entry["logger"], entry["message"]) == (
        "library_message",
        "warning",
        "apscheduler.scheduler",
        "run of media was missed",
    )


def test_a_librarys_mistake_in_its_own_message_is_logged_as_it_is(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    (ours,) = [
        handler for handler in logging.getLogger().handlers if type(handler).__name__ == "_LibraryHandler"
    ]
    ours.handle(logging.LogRecord("asyncio", logging.ERROR + 5, "", 0, "odd %d", ("arguments",), None))
    (entry,) = entries(stream)
    assert (entry["level"], entry["message"]) == ("error", "odd %d")


def test_an_exception_in_a_task_that_nobody_awaited_is_logged_with_its_traceback(
    stream: io.StringIO,
) -> None:
    configure_logging("info", "json", stream)
    error = RuntimeError("lost task")
    logging.getLogger("asyncio").error("never retrieved", exc_info=error)
    (entry,) = entries(stream)
    assert entry["exception"][0]["exc_value"] == "lost task"
