"""The journal's native protocol, spoken to a socket of our own."""

from __future__ import annotations

import array
import fcntl
import io
import json
import logging
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from retentiond.adapters.journal import JournalSocket, encode_fields, under_journal
from retentiond.adapters.logging import configure_logging, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from retentiond.adapters.log_entries import LogFormat


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(30)
        yield listening


def test_fields_are_lines() -> None:
    assert encode_fields({"MESSAGE": "done", "PRIORITY": "6"}) == b"MESSAGE=done\nPRIORITY=6\n"


def test_a_value_with_newlines_is_sent_by_its_length() -> None:
    value = "médium\nPRIORITY=0".encode()
    assert encode_fields({"MESSAGE": value.decode(), "A": "b"}) == (
        b"MESSAGE\n" + struct.pack("<Q", len(value)) + value + b"\nA=b\n"
    )


def test_what_is_not_unicode_is_escaped() -> None:
    assert encode_fields({"MESSAGE": "caf\udce9"}) == b"MESSAGE=caf\\udce9\n"


def test_a_message_is_one_datagram(journal: socket.socket) -> None:
    assert JournalSocket(journal.getsockname()).send({"MESSAGE": "done"})
    assert journal.recv(65_536) == b"MESSAGE=done\n"


def test_a_message_too_large_for_a_datagram_comes_as_a_sealed_memory_file(journal: socket.socket) -> None:
    large = "x" * 8_000_000
    assert JournalSocket(journal.getsockname()).send({"MESSAGE": large, "PRIORITY": "6"})
    data, (ancillary,), _, _ = journal.recvmsg(100, socket.CMSG_SPACE(array.array("i", [0]).itemsize))
    assert data == b""
    (descriptor,) = array.array("i", ancillary[2])
    with open(descriptor, "rb") as file:
        file.seek(0)
        assert file.read() == encode_fields({"MESSAGE": large, "PRIORITY": "6"})
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == (
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        )


def test_a_full_journal_loses_the_message_and_does_not_wait(journal: socket.socket) -> None:
    sender = JournalSocket(journal.getsockname())
    while sender.send({"MESSAGE": "fill"}):
        pass  # a send that waited would hang here, and the test's own time-out would say so
    assert not sender.send({"MESSAGE": "lost"})
    assert journal.recv(100) == b"MESSAGE=fill\n"


def test_a_journal_that_is_away_loses_the_message(tmp_path: Path) -> None:
    assert not JournalSocket(str(tmp_path / "nobody")).send({"MESSAGE": "lost"})


def test_a_journal_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    sender = JournalSocket(path)
    for turn in ("first", "second"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(path)
            listening.settimeout(30)
            assert sender.send({"MESSAGE": turn})
            assert listening.recv(100) == f"MESSAGE={turn}\n".encode()
        os.unlink(path)
        assert not sender.send({"MESSAGE": "between"})


def test_a_socket_is_closed_with_its_last_holder(journal: socket.socket) -> None:
    sender = JournalSocket(journal.getsockname())
    descriptor = sender._socket.fileno()
    del sender
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_stream_that_systemd_named_is_the_journal(tmp_path: Path) -> None:
    with open(tmp_path / "stream", "w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        assert under_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, stream)


@pytest.mark.parametrize("named", [None, "", "8:1", "nonsense"])
def test_another_stream_is_not_the_journal(named: str | None, tmp_path: Path) -> None:
    environment = {} if named is None else {"JOURNAL_STREAM": named}
    with open(tmp_path / "stream", "w", encoding="utf-8") as stream:
        assert not under_journal(environment, stream)


def test_a_stream_without_a_descriptor_is_not_the_journal() -> None:
    assert not under_journal({"JOURNAL_STREAM": "8:1"}, io.StringIO())


def test_a_closed_stream_is_not_the_journal(tmp_path: Path) -> None:
    with open(tmp_path / "stream", "w", encoding="utf-8") as stream:
        pass
    assert not under_journal({"JOURNAL_STREAM": "8:1"}, stream)


class Daemon:
    """One that logs where systemd connected its standard output to the journal."""

    def __init__(self, journal: socket.socket, stream: TextIO) -> None:
        self.journal = journal
        self.stream = stream

    def configure(self, format_name: LogFormat = "json") -> None:
        found = os.fstat(self.stream.fileno())
        configure_logging(
            "debug",
            format_name,
            self.stream,
            environment={"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
            journal_path=self.journal.getsockname(),
        )

    def received(self) -> dict[str, str]:
        lines = self.journal.recv(65_536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def daemon(tmp_path: Path, journal: socket.socket) -> Iterator[Daemon]:
    root = logging.getLogger()
    handlers = list(root.handlers)
    with open(tmp_path / "stream", "w+", encoding="utf-8") as stream:
        yield Daemon(journal, stream)
    structlog.reset_defaults()
    root.handlers[:] = handlers


@pytest.mark.parametrize("format_name", ["json", "logfmt", "console"])
def test_in_the_journal_an_entry_keeps_its_fields(format_name: LogFormat, daemon: Daemon) -> None:
    daemon.configure(format_name)
    get_logger().info("pass_finished", target="media", removed={"items": 1})
    fields = daemon.received()
    message = json.loads(fields.pop("MESSAGE"))
    assert (message["event"], message["target"], message["removed"]) == (
        "pass_finished",
        "media",
        {"items": 1},
    )
    assert fields == {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "retentiond",
        "RETENTIOND_EVENT": "pass_finished",
        "RETENTIOND_TARGET": "media",
    }
    assert os.fstat(daemon.stream.fileno()).st_size == 0


def test_levels_are_the_journals_priorities(daemon: Daemon) -> None:
    daemon.configure()
    found = {}
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(get_logger(), name)("said")
        found[name] = daemon.received()["PRIORITY"]
    assert found == {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}


def test_entries_that_a_full_journal_lost_are_counted_in_the_next_that_gets_through(
    daemon: Daemon,
) -> None:
    daemon.configure()
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text(encoding="ascii"))
    sent = queue + 200
    for _ in range(sent):
        get_logger().info("flood")
    daemon.journal.setblocking(False)
    arrived = 0
    while True:
        try:
            arrived += daemon.received()["RETENTIOND_EVENT"] == "flood"
        except BlockingIOError:
            break
    get_logger().info("after")
    loss = daemon.received()
    assert (loss["RETENTIOND_EVENT"], loss["PRIORITY"]) == ("log_entries_lost", "4")
    assert json.loads(loss["MESSAGE"])["items"] == sent - arrived > 0
    assert daemon.received()["RETENTIOND_EVENT"] == "after"
    get_logger().info("later")
    assert daemon.received()["RETENTIOND_EVENT"] == "later"


def test_without_the_journals_socket_the_stream_takes_the_entries(tmp_path: Path, daemon: Daemon) -> None:
    os.unlink(daemon.journal.getsockname())
    daemon.configure("console")
    get_logger().info("hello")
    assert json.loads((tmp_path / "stream").read_text())["event"] == "hello"
