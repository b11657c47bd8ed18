"""A watch over holds while a store is at work: one that comes then ends what was sent, as far as the server can."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.model.errors import RetentiondError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from retentiond.targets.chat_database.store import ChatStore
    from retentiond.targets.chat_database.store_request import Notes

EVERY: Final = 5.0
"""Seconds from look to look: a mutation, or a task, may be at work for hours."""


class HoldWatch:
    """Looks while it is entered; `late` is the hold that came, once what was sent was ended for it."""

    def __init__(
        self,
        notes: Notes,
        newest_hold: int,
        open_beside: Callable[[], AbstractAsyncContextManager[ChatStore]],
    ) -> None:
        self._notes = notes
        self._newest_hold = newest_hold
        # The store at work is busy with its own requests.
        self._open = open_beside
        self.late: int | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            # It ended by itself: it had done its work, or died of something that nobody foresaw.
            self._task.result()

    async def _look(self) -> None:
        complaint = ""
        while self.late is None:
            await asyncio.sleep(EVERY)
            try:
                late = await self._notes.late_hold(self._newest_hold)
                if late is not None:
                    async with self._open() as store:
                        await store.halt(await self._notes.read())
                    self.late = late
            except (*LOST, RetentiondError) as error:
                # The next step meets the hold, or the same loss; until then it is tried again.
                if str(error) != complaint:
                    complaint = str(error)
                    get_logger().warning("not_halted", error=complaint)
