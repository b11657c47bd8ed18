"""Claims: the process that works on an entry. A claim owner holds a lock of its own ID while it lives.

A claim whose lock can be taken has no live owner; the next process that finds it finishes the work.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.session import CLAIMANT, Guard, Session, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

SQL: Final = named_queries(__package__, "claims.sql")


@dataclass(frozen=True, slots=True)
class ClaimOwner:
    """The ID under which entries are claimed; alive while its guard stands."""

    claimant_id: int
    guard: Guard
    _session: Session

    async def find_dead(self, others: Iterable[int]) -> list[int]:
        """Return those of the given owners that are dead: their locks can be taken.

        A sequence gives each ID once, so the lock of a dead owner stays free.
        """
        gone = []
        for other in others:
            if other == self.claimant_id:
                continue
            if await self._session.try_lock(CLAIMANT, str(other)):
                await self._session.unlock(CLAIMANT, str(other))
                gone.append(other)
        return gone


@asynccontextmanager
async def claimant(dsn: str) -> AsyncIterator[ClaimOwner]:
    """Own claims until the block ends."""
    async with open_session(dsn) as session:
        claimant_id = await session.ask(SQL["new_claimant"])
        # Nothing is claimed before the lock is taken, so no process takes this owner for dead.
        await session.try_lock(CLAIMANT, str(claimant_id))
        yield ClaimOwner(claimant_id, session.guard, session)
