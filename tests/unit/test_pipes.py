"""A reader that stops reading holds nothing up for ever, and keeps no signal from being heard."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from typing import TYPE_CHECKING, TextIO

import pytest

from retentiond.adapters import logging as log
from retentiond.adapters.log_entries import Entry
from retentiond.adapters.logging import StreamOutput
from retentiond.adapters.pipes import PipeWriter
from retentiond.cli import streams
from retentiond.cli.signals import run_interruptibly
from retentiond.cli.streams import Output
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pipe:
    """A pipe whose reader is the test."""

    def __init__(self) -> None:
        self.reader, self.descriptor = os.pipe()
        self.stream: TextIO = open(self.descriptor, "w", encoding="utf-8")  # noqa: SIM115 - closed below

    def fill(self) -> None:
        """Take all the room that there is."""
        os.set_blocking(self.descriptor, False)
        try:
            while True:
                os.write(self.descriptor, b"x" * 512)
        except BlockingIOError:
            os.set_blocking(self.descriptor, True)

    @property
    def full(self) -> bool:
        return not select.select([], [self.descriptor], [], 0)[1]

    def read(self) -> str:
        """Read what there is, without what only filled it."""
        os.set_blocking(self.reader, False)
        found = b""
        try:
            while data := os.read(self.reader, 1 << 20):
                found += data
        except BlockingIOError:
            pass
        return found.decode().lstrip("x")

    def close(self) -> None:
        os.close(self.reader)
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    one.close()


def entry(event: str) -> Entry:
    return Entry(f'{{"event": "{event}"}}', "info", event, None)


def test_nothing_is_taken_of_what_a_full_pipe_has_no_room_for(pipe: Pipe) -> None:
    writer = PipeWriter(pipe.descriptor)
    pipe.fill()
    assert not writer.write(b"a line\n", 0.0)
    assert not writer.is_behind
    pipe.read()
    assert writer.write(b"another\n", 0.0)
    assert pipe.read() == "another\n"


def test_a_line_that_was_taken_in_part_is_finished_before_the_next(pipe: Pipe) -> None:
    writer = PipeWriter(pipe.descriptor)
    line = "a" * (1 << 20)
    assert writer.write(f"{line}\n".encode(), 0.0)
    text = ""
    while "next" not in text:
        text += pipe.read()
        writer.write(b"next\n", 0.0)
    assert text.startswith(f"{line}\nnext\n")


def test_a_log_that_is_not_read_drops_its_entries_and_counts_them(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_PATIENCE", 0.01)
    output = StreamOutput(pipe.stream)
    output.info(entry("first"))
    pipe.fill()
    for _ in range(3):
        output.info(entry("dropped"))
    assert "first" in pipe.read()
    output.info(entry("last"))
    text = pipe.read()
    assert '"event": "log_entries_lost", "items": 3' in text
    assert text.index("log_entries_lost") < text.index("last")
    assert "dropped" not in text


def test_a_listing_that_is_not_read_hears_of_sigterm(pipe: Pipe) -> None:
    async def listing() -> int:
        out = Output(pipe.stream)
        while True:
            out.put("an item of the list\n")

    def end_it() -> None:
        while not pipe.full:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    ender = threading.Thread(target=end_it)
    ender.start()
    with pytest.raises(asyncio.CancelledError):
        run_interruptibly(listing(), None)
    ender.join()


def test_a_listing_that_is_not_read_for_too_long_says_so(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "READERS_PATIENCE", 0.01)
    out = Output(pipe.stream)
    pipe.fill()
    with pytest.raises(UnreachableError, match=r"standard output cannot be written .*not read for"):
        out.put("an item of the list\n" * 10_000)
