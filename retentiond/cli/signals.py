"""Stopping by signal: first at the next batch's end, then at once, then without a word to any server."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from retentiond.engine.target import Stop

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
PATIENCE: Final = 30.0
"""Seconds that a batch has to end, once it was asked to, before it is cancelled."""
LEAVE: Final = 5.0
"""Seconds that cancelled work has to take leave of its servers."""


def run_interruptibly(
    work: Coroutine[Any, Any, int], stop: Stop | None, tell: Callable[[str], None] = lambda _: None
) -> int:
    """Run the work to its end; SIGINT and SIGTERM ask `stop` first, and cancel without one, or the second time.

    Raise asyncio.CancelledError when it was cancelled.
    """

    async def supervised() -> int:
        task = asyncio.ensure_future(work)
        with _handled(_Ending(task, stop, tell)):
            return await task

    return asyncio.run(supervised())


class _Ending:
    """How far the end of a task has come; each signal, or the time that it takes, brings it a step further."""

    def __init__(self, task: asyncio.Task[int], stop: Stop | None, tell: Callable[[str], None]) -> None:
        self._task = task
        self._stop = stop
        self._tell = tell
        self._cancelled = False

    def hurry(self) -> None:
        """Ask for the end, or for a faster one."""
        if self._stop is not None and not self._stop.asked:
            self._stop.ask()
            asyncio.get_running_loop().call_later(PATIENCE, self._cancel)
            self._tell("stopping at the end of this batch; once more stops at once")
        elif not self._cancelled:
            self._cancel()
        else:
            self._hang_up()

    def _cancel(self) -> None:
        # A second cancellation would only interrupt what the first has to clean up.
        if not self._cancelled:
            self._cancelled = True
            self._task.cancel()
            asyncio.get_running_loop().call_later(LEAVE, self._hang_up)

    def _hang_up(self) -> None:
        # The driver takes its time to load, and where it is not loaded nothing is open.
        from retentiond.adapters.postgres_watch import hang_up  # noqa: PLC0415

        if not self._task.done():
            hang_up()


@contextmanager
def _handled(ending: _Ending) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, ending.hurry)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
