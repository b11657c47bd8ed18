"""Writes to a pipe, a terminal or a socket whose reader may have stopped: each write has a time limit.

A blocking write to a stopped reader would stop the whole process, and delay its signals.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

_SLICE: Final = 0.2
"""Seconds until a signal is noticed that another thread was given."""
# A pipe that is ready takes so much without waiting.
_PIECE: Final = select.PIPE_BUF
_HEEDED: Final = (signal.SIGINT, signal.SIGTERM)


class InterruptedWriteError(Exception):
    """A signal to end arrived during the wait for a reader; its own handler runs as well."""


class PipeWriter:
    """Writes to a descriptor; `on_wait` is called repeatedly with the seconds that a write has waited."""

    def __init__(self, descriptor: int, on_wait: Callable[[float], None] = lambda _: None) -> None:
        self._descriptor = descriptor
        self._on_wait = on_wait
        self._left = b""

    def write(self, data: bytes, seconds: float) -> bool:
        """Write the data whole within so many seconds after the last byte; False if no byte was taken.

        The next write finishes data that were taken in part. Raise InterruptedWriteError, and OSError.
        """
        with _signals_heard() as heard:
            if not self._drain(seconds, heard):
                return False
            self._left = data
            if not self._drain(seconds, heard) and len(self._left) == len(data):
                self._left = b""
                return False
        return True

    @property
    def is_behind(self) -> bool:
        """Whether a part of the last write has not been taken yet."""
        return bool(self._left)

    def _drain(self, seconds: float, heard: threading.Event) -> bool:
        began = time.monotonic()
        while self._left:
            waited = time.monotonic() - began
            if self._is_ready(min(_SLICE, max(seconds - waited, 0.0))):
                with suppress(BlockingIOError):
                    self._left = self._left[os.write(self._descriptor, self._left[:_PIECE]) :]
                    began = time.monotonic()
                continue
            if heard.is_set():
                raise InterruptedWriteError
            waited = time.monotonic() - began
            if waited >= seconds:
                return False
            self._on_wait(waited)
        return True

    def _is_ready(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))


def descriptor_of(stream: TextIO) -> int | None:
    """Return the descriptor that a stream writes to; None for one in memory."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


@contextmanager
def _signals_heard() -> Iterator[threading.Event]:
    """Note the signals that an event loop handles, which cannot run while the block holds its thread.

    The loop handles them all the same, once it runs again: it is woken by number.
    """
    heard = threading.Event()
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _HEEDED}
        # Those of no event loop end the process, or raise, by themselves.
        unhandled = {signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None}
        before = {number: handler for number, handler in handlers.items() if handler not in unhandled}
    for number in before:
        signal.signal(number, lambda *_: heard.set())
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
            signal.siginterrupt(number, False)
