"""The daemon's background tasks: a task that dies stops the daemon."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres_watch import hang_up

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = get_logger()


class Tasks:
    """Tasks by their names; the first that dies is noted in `failed`, and `notice` is called when one ends."""

    def __init__(self, notice: Callable[[], None]) -> None:
        self.failed: str | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._notice = notice
        self._cancelled = False

    @property
    def running(self) -> set[asyncio.Task[None]]:
        """The tasks that have not ended yet."""
        return set(self._running)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._end)
        return task

    async def cancel(self, patience: Coroutine[Any, Any, None]) -> None:
        """Cancel the running tasks, and wait for their end.

        A cancelled statement takes leave of its server, which may not answer: once `patience` is over, the connections
        to all databases are closed.
        """
        self._cancelled = True
        running = self.running
        for task in running:
            task.cancel()
        if not running:
            patience.close()
            return
        ended = asyncio.ensure_future(asyncio.wait(running))
        late = asyncio.ensure_future(patience)
        await asyncio.wait({ended, late}, return_when=asyncio.FIRST_COMPLETED)
        late.cancel()
        if not ended.done():
            _log.warning("connections_cut", tasks=sorted(task.get_name() for task in self.running))
            hang_up()
            await ended

    def _end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not (self._cancelled and task.cancelled()):
            _log.critical("task_died", task=task.get_name(), exc_info=_alone(error))
            if not self._cancelled:
                self.failed = self.failed or task.get_name()
        self._notice()


def _alone(error: BaseException) -> BaseException:
    """Return the error that a group holds, if it holds no other."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
