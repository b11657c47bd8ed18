"""What a purge tells a store beside the database, without a database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from retentiond.engine.target import Stop
from retentiond.model.errors import Refusal, RefusedError
from retentiond.targets.chat_database.store import Comparison

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retentiond.model.purge import ShardReport, StoreReport
    from retentiond.targets.chat_database.store import ChatId, ErasedVisitor

HELD = Refusal("hold", "hold 7", "none", "release it")


@dataclass
class Chats:
    """The chats that the database has, in each spelling in which a store may have them; `unknown` cannot be compared.

    Of `stripped` it has nothing but messages with files.
    """

    there: Sequence[ChatId] = ()
    unknown: Sequence[ChatId] = ()
    stripped: Sequence[ChatId] = ()
    theirs: frozenset[str] | None = None
    """Where one visitor is erased, the chats that the database had of them."""
    asked: list[list[ChatId]] = field(default_factory=list)

    async def compare(self, ids: Sequence[ChatId], *, of_visitor: bool = False) -> Comparison:
        self.asked.append(list(ids))
        stay = [
            chat
            for chat in ids
            if chat in self.there or (self.theirs is not None and (str(chat) in self.theirs) == of_visitor)
        ]
        absent = [chat for chat in ids if chat not in stay and chat not in self.unknown]
        kept = [chat for chat in stay if chat not in self.unknown]
        stripped = [chat for chat in kept if chat in self.stripped]
        return Comparison(absent, kept, [chat for chat in ids if chat in self.unknown], stripped)


@dataclass
class Notes:
    """A place in the ledger that remembers all that was ever written there."""

    written: list[dict[str, Any]] = field(default_factory=list)

    async def read(self) -> dict[str, Any]:
        return dict(self.written[-1]) if self.written else {}

    async def write(self, notes: Mapping[str, Any]) -> None:
        self.written.append(dict(notes))

    def record(self, report: StoreReport) -> None:
        """Take out what a record tells of, as its writer does in the record's transaction."""
        if self.written and self.written[-1].get("gone", 0) <= report.rows:
            told = {"gone", "at_least"} if report.at_least else {"gone"}
            settled = {name: value for name, value in self.written[-1].items() if name not in told}
            self.written.append(settled)


@dataclass
class Purge:
    """A purge of one account."""

    account: str
    cutoff: datetime
    purge_id: int | None = 1
    chats: Chats = field(default_factory=Chats)
    dry_run: bool = False
    notes: Notes = field(default_factory=Notes)
    stop: Stop = field(default_factory=Stop)
    erased: ErasedVisitor | None = None
    held_after: int | None = None
    """After so many steps somebody puts a hold on."""
    steps: int = 0
    shards: list[list[ShardReport]] = field(default_factory=list)
    """What was reported of the shards, look by look."""

    async def begin_step(self, notes: Mapping[str, Any]) -> None:
        if self.steps == self.held_after:
            raise RefusedError(HELD)
        self.steps += 1
        await self.notes.write(notes)

    async def report_shards(self, shards: Sequence[ShardReport]) -> None:
        self.shards.append(list(shards))
