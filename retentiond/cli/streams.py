"""The streams of a command: its output, with colours and bars on a terminal, and its log."""

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO, cast

from rich.console import Console
from rich.text import Text

from retentiond.adapters.log_entries import Entry
from retentiond.adapters.logging import get_logger
from retentiond.adapters.pipes import InterruptedWriteError, PipeWriter, descriptor_of
from retentiond.model.errors import UnreachableError

_WIDTH_WITHOUT_TERMINAL = 120
_HELD_BACK = 8192
READERS_PATIENCE = 600.0
"""Seconds that a reader may stop, a pager perhaps; a listing keeps a transaction open, and that is for no longer."""
_PATIENCE_OF_NOTES = 5.0
_NOTED_AFTER = 30.0


class ReaderGoneError(Exception):
    """The reader of the output has closed it, such as `head`: not an error."""


class Output(Console):
    """A stream for people; nothing in a text is markup, and colours and bars are for terminals only.

    Where nobody reads any more, nothing more is said; only `put` tells, so that long lists end there and work that has
    effects does not. A stream that cannot be written raises UnreachableError, unless it is `forgiving`.
    """

    def __init__(self, stream: TextIO, *, forgiving: bool = False) -> None:
        _never_fail_to_encode(stream)
        terminal = stream.isatty()
        self._outlet = _Outlet(stream, forgiving=forgiving)
        super().__init__(
            file=cast("TextIO", self._outlet),  # all of it that a console uses
            # Rich would take variables such as FORCE_COLOR for a terminal.
            force_terminal=terminal,
            width=None if terminal else _WIDTH_WITHOUT_TERMINAL,
            markup=False,
            emoji=False,
            highlight=False,
        )

    @property
    def can_redraw(self) -> bool:
        """Whether bars may be shown."""
        return self.is_terminal and not self.is_dumb_terminal

    def put(self, text: str) -> None:
        """Write text as it is, without wrapping; it must be printable. Raise ReaderGoneError if its reader is gone."""
        self._outlet.write(text)
        if self._outlet.deserted:
            raise ReaderGoneError

    def settle(self) -> None:
        """Write the text that is still held back."""
        self._outlet.flush()


class _Outlet:
    """The stream itself, with its errors in our words, and a bound for the time that its reader takes."""

    def __init__(self, stream: TextIO, *, forgiving: bool) -> None:
        self._stream = stream
        self._forgiving = forgiving
        self._terminal = stream.isatty()
        self._pending = bytearray()
        descriptor = descriptor_of(stream)
        self._writer = None if descriptor is None else PipeWriter(descriptor, self._note_wait)
        self._noted = False
        self.deserted = False
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        if self._writer is None:
            with self._minding():
                self._stream.write(text)
            return len(text)
        self._pending += text.encode(self.encoding, "backslashreplace")
        # Notes and errors are short, and the last of them may be all that a command writes: none is held back.
        if self._terminal or self._forgiving or len(self._pending) >= _HELD_BACK:
            self.flush()
        return len(text)

    def flush(self) -> None:
        with self._minding():
            if self._writer is None:
                self._stream.flush()
            elif self._pending:
                data, self._pending = bytes(self._pending), bytearray()
                self._send(self._writer, data)

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return self._stream.fileno()

    def _send(self, writer: PipeWriter, data: bytes) -> None:
        try:
            if self._forgiving:
                # What is not read is dropped: no work waits for it.
                writer.write(data, 0.0 if writer.is_behind else _PATIENCE_OF_NOTES)
            elif not writer.write(data, READERS_PATIENCE) or writer.is_behind:
                raise TimeoutError(errno.ETIMEDOUT, f"not read for {READERS_PATIENCE:.0f} s")
        except InterruptedWriteError:
            # Nothing more is written: what is left would only wait again.
            _discard(self._stream)
            raise asyncio.CancelledError from None
        self._noted = False

    def _note_wait(self, seconds: float) -> None:
        if not self._forgiving and not self._noted and seconds >= _NOTED_AFTER:
            self._noted = True
            get_logger().warning("output_waits", stream="standard output", waited=f"{seconds:.0f} s")

    @contextmanager
    def _minding(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _discard(self._stream)
            if self._forgiving:
                return
            if isinstance(error, BrokenPipeError):
                self.deserted = True
                return
            raise UnreachableError(
                f"standard output cannot be written ({error.strerror}); send it elsewhere"
            ) from error


def _never_fail_to_encode(stream: TextIO) -> None:
    # A file name may hold what this terminal's encoding lacks. What is no real stream keeps its own ways.
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _discard(stream: TextIO) -> None:
    """Make the stream's descriptor lead nowhere, else Python's last flush fails and changes the exit status."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


_FINDINGS: Final = frozenset({"inconsistency", "item_failed"})
"""Events about single items: thousands of them would scroll the summary off the screen."""
_IN_THE_ACCOUNT: Final = frozenset({
    "access_log_tells_nothing",
    "access_times_missing",
    "pass_refused",
    "quota_stopped",
    "repair_refused",
    "unexpected_error",
})  # fmt: skip
"""Events that are not printed, since the summary or the error has the same text."""
_STYLES: Final = {"warning": "yellow", "error": "red", "critical": "bold red"}


class CommandLog:
    """The output of a command's log; `everything` lists entries that are otherwise counted or left out.

    The console is the one that draws the bars, so a line goes above them.
    """

    def __init__(self, console: Console, *, everything: bool) -> None:
        self._console = console
        self._everything = everything
        self.warnings: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def write(self, entry: Entry) -> None:
        """Count a finding on a terminal; print every other entry."""
        if not self._everything:
            if entry.event in _IN_THE_ACCOUNT:
                return
            if self._console.is_terminal and entry.event in _FINDINGS:
                counts = self.warnings if entry.level == "warning" else self.errors
                counts[entry.kind or entry.event] += entry.items
                return
        text = Text.from_ansi(entry.line) if self._everything else Text(entry.line)
        text.style = "" if self._everything else _STYLES.get(entry.level, "")
        # A write within a write, from the garbage collector, or a closed stream: there is no other place to report it.
        with suppress(OSError, ValueError, RuntimeError):
            self._console.print(text, soft_wrap=True)

    debug = info = warning = error = critical = write
