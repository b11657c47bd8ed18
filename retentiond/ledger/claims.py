"""Claims: which process works on an entry. A claimant holds a lock of its own id for as long as it lives.

A claim whose lock can be taken is nobody's, and whoever finds it finishes it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retentiond.ledger.ledger import SQL
from retentiond.ledger.locks import CLAIMANT
from retentiond.ledger.locks import SQL as LOCKS
from retentiond.ledger.session import Guard, Session, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


@dataclass(frozen=True, slots=True)
class Claimant:
    """An id under which entries are claimed, alive while its guard stands."""

    claimant_id: int
    guard: Guard
    _session: Session

    async def bury(self, others: Iterable[int]) -> list[int]:
        """Return those of the given claimants who are gone: their locks could be taken.

        Ids are never given twice in a row (a sequence), so a lock that was free once stays nobody's.
        """
        gone = []
        for other in others:
            if other == self.claimant_id:
                continue
            if await self._session.ask(LOCKS["try_lock"], CLAIMANT, str(other)):
                await self._session.ask(LOCKS["unlock"], CLAIMANT, str(other))
                gone.append(other)
        return gone


@asynccontextmanager
async def claimant(dsn: str) -> AsyncIterator[Claimant]:
    """Become a claimant until the block ends."""
    async with open_session(dsn) as session:
        claimant_id = await session.ask(SQL["new_claimant"])
        # Between the number and its lock nothing is claimed yet, so nobody can take it for dead.
        await session.ask(LOCKS["try_lock"], CLAIMANT, str(claimant_id))
        yield Claimant(claimant_id, session.guard, session)
