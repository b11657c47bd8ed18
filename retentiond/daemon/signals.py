"""Signals, as the event loop takes them."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_STOP: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """What was asked for by signal. `noticed` is set by each of them, and may be set by others too.

    `stop` is the signal that asked for the end, and `hurry` is set when there came another.
    """

    def __init__(self) -> None:
        self.noticed = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = False
        self.stop: str | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Take the signals, until the end of the block."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._ask_reload)
        for number in _STOP:
            loop.add_signal_handler(number, self._ask_stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGHUP, *_STOP):
                loop.remove_signal_handler(number)

    def _ask_reload(self) -> None:
        self.reload = True
        self.noticed.set()

    def _ask_stop(self, number: signal.Signals) -> None:
        if self.stop is not None:
            self.hurry.set()
        self.stop = self.stop or number.name
        self.noticed.set()
