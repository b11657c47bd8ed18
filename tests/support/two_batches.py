"""Purges of chats that take two batches at once from the first, also as a process that is killed in the middle.

    python -m tests.support.two_batches DSN CHATS STATEMENT

takes CHATS in each batch, and kills itself where the batches begin their STATEMENTth statement.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import asyncpg

from retentiond.targets.chat_database import removal, statements
from retentiond.targets.chat_database.batches import BatchSize
from retentiond.targets.chat_database.removal import Removal
from tests.support.chats import ChatStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from retentiond.config.chats import ChatPace


def take_two_at_once(patch: pytest.MonkeyPatch, chats: int) -> None:
    """Let each purge take two batches of this many chats at once."""

    class TwoAtOnce(BatchSize):
        def __init__(self, pace: ChatPace) -> None:
            super().__init__(pace)
            self.chats, self.two_at_once = chats, True

        def learn(self, *told: Any) -> None:
            """Stay at that."""

    patch.setattr(removal, "BatchSize", TwoAtOnce)


def at_statement(patch: pytest.MonkeyPatch, number: int, act: Callable[[], Awaitable[None]]) -> None:
    """Do something where the batches begin that statement; what they write down at their ends counts as one."""
    left = number

    async def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            await act()

    def counted(work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counting(*given: Any, **named: Any) -> Any:
            await count()
            return await work(*given, **named)

        return counting

    for holder, name in ((statements, "fetch"), (statements, "execute"), (Removal, "_record")):
        patch.setattr(holder, name, counted(getattr(holder, name)))


async def _purge(dsn: str, chats: int, number: int) -> None:
    import pytest  # noqa: PLC0415

    async def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    connection = await asyncpg.connect(dsn)
    with pytest.MonkeyPatch.context() as patch:
        take_two_at_once(patch, chats)
        at_statement(patch, number, die)
        await ChatStore(dsn, connection).purge()
    await connection.close()


if __name__ == "__main__":
    asyncio.run(_purge(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
