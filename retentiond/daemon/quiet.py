"""The times without a pass: work that may wait runs in them only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class QuietTimes:
    """Whether passes are running, of any target: a database and a disk may be those of several."""

    def __init__(self) -> None:
        self._passes: set[str] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._over = asyncio.Event()

    def begun(self, name: str) -> None:
        """Note the beginning of a pass."""
        self._passes.add(name)
        self._quiet.clear()
        self._over.set()

    def ended(self, name: str) -> None:
        """Note the end of a pass."""
        self._passes.discard(name)
        if not self._passes:
            self._over.clear()
            self._quiet.set()

    @property
    def is_quiet(self) -> bool:
        """Whether no pass is running."""
        return self._quiet.is_set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Wait until no pass runs, and do the work; cancel it and return None when a pass begins."""
        try:
            await self._quiet.wait()
        except BaseException:
            work.close()
            raise
        working = asyncio.ensure_future(work)
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({working, over}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
        finally:
            over.cancel()
            if not working.done():
                working.cancel()
                # The connection of the cancelled statement takes leave of its server; the pass does not wait for that.
                await asyncio.wait({working})
        return None
