"""What a purge tells a store beside the database, without a database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from retentiond.engine.target import Stop
from retentiond.model.errors import Refusal, RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from retentiond.targets.chat_database.store import ChatId

HELD = Refusal("hold", "hold 7", "none", "release it")


@dataclass
class Staying:
    """The chats that stay."""

    ids: Sequence[ChatId] = ()

    @property
    def count(self) -> int:
        return len(self.ids)

    async def batches(self, size: int = 1000) -> AsyncIterator[Sequence[ChatId]]:
        for start in range(0, len(self.ids), size):
            yield self.ids[start : start + size]


@dataclass
class Notes:
    """A place in the ledger that remembers all that was ever written there."""

    written: list[dict[str, Any]] = field(default_factory=list)

    async def read(self) -> dict[str, Any]:
        return dict(self.written[-1]) if self.written else {}

    async def write(self, notes: Mapping[str, Any]) -> None:
        self.written.append(dict(notes))


@dataclass
class Purge:
    """A purge of one account."""

    account: str
    cutoff: datetime
    purge_id: int | None = 1
    excluded: Staying = field(default_factory=Staying)
    dry_run: bool = False
    notes: Notes = field(default_factory=Notes)
    stop: Stop = field(default_factory=Stop)
    held_after: int | None = None
    """After so many steps somebody puts a hold on."""
    steps: int = 0

    async def begin_step(self, notes: Mapping[str, Any]) -> None:
        if self.steps == self.held_after:
            raise RefusedError(HELD)
        self.steps += 1
        await self.notes.write(notes)
