"""Stopping by signal: first at the next batch's end, then at once."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from retentiond.engine.target import Stop

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run_interruptibly(
    work: Coroutine[Any, Any, int], stop: Stop | None, tell: Callable[[str], None] = lambda _: None
) -> int:
    """Run the work to its end; SIGINT and SIGTERM ask `stop` first, and cancel where there is none, or the second time.

    Raise asyncio.CancelledError when it was cancelled.
    """

    async def supervised() -> int:
        task = asyncio.ensure_future(work)
        with _handled(task, stop, tell):
            return await task

    return asyncio.run(supervised())


@contextmanager
def _handled(task: asyncio.Task[int], stop: Stop | None, tell: Callable[[str], None]) -> Iterator[None]:
    def handle() -> None:
        if stop is None or stop.asked:
            task.cancel()
            return
        stop.ask()
        tell("stopping at the end of this batch; once more stops at once")

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
