"""A cluster that lost a server: asked again until it answers, for a limited time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from retentiond.engine.target import StoppedError
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retentiond.engine.target import Stop
    from retentiond.targets.chat_database.poll_policy import PollPolicy

T = TypeVar("T")


class Recovery:
    """Asks again while a cluster makes replicas its primaries, elects a leader or notices that a node is dead."""

    def __init__(self, stop: Stop, patience: PollPolicy) -> None:
        self._stop = stop
        self._patience = patience

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return the answer; the question must change nothing.

        Raises UnreachableError where there is none in time, and StoppedError.
        """
        since = self._patience.clock()
        for pause in self._patience.pauses():
            try:
                return await question()
            except UnreachableError:
                if self._patience.clock() - since >= self._patience.recovery:
                    raise
            await self._stop.wait(pause)
            if self._stop.asked:
                break
        raise StoppedError
