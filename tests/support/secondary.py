"""Stores beside the database, in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from retentiond.model.check import AccountRows, StoreOverview
from retentiond.model.errors import UnreachableError, UsageError
from retentiond.model.purge import StoreReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from retentiond.engine.target import Progress
    from retentiond.targets.chat_database.store import StoreName, StorePurge
    from tests.support.chats import ChatStore

STORES: dict[str, Any] = {
    "clickhouse": {"url": "http://localhost:8123", "thread_column": "threadid"},
    "elasticsearch": {"url": "http://localhost:9200", "index": "chats", "thread_field": "threadid"},
}
BOTH = {"stores": ("clickhouse", "elasticsearch")}


class DiedError(BaseException):
    """What a power cut is to the daemon."""


class Beside:
    """Stores in memory, which remember what they were told."""

    def __init__(self, chats: ChatStore) -> None:
        self._chats = chats
        self.has: list[Any] = []
        """The chats that the stores have of the account."""
        self.told: list[tuple[str, list[Any]]] = []
        """Each store's purges, with the chats that stay in it."""
        self.stripped: list[list[Any]] = []
        """Of each purge, the chats of which the database has nothing but messages with files."""
        self.cutoffs: list[datetime] = []
        self.notes: list[dict[str, Any]] = []
        self.chats_then: list[set[int]] = []
        self.down: set[str] = set()
        self.problems: dict[str, list[str]] = {}
        self.missing: set[str] = set()
        self.steps: list[Callable[[], Awaitable[None]]] = []
        """What happens after each step; none, and it does all at once."""
        self.taken = 0
        self.halted: list[tuple[str, Any]] = []

    @asynccontextmanager
    async def open(self, name: StoreName, _config: Any) -> AsyncIterator[Beside]:
        """Open one of them."""
        if name in self.missing:
            raise UsageError(f"`{name}` needs a client; pip install 'retentiond[{name}]'")
        self.name = name
        yield self

    async def check(self) -> list[str]:
        """Return what a test says is wrong with it."""
        if self.name in self.down:
            raise UnreachableError(f"{self.name} cannot be reached; try again")
        return self.problems.get(self.name, [])

    async def look(self, accounts: Sequence[str]) -> StoreOverview:
        """Say that the accounts have as many rows as the store has chats."""
        rows = AccountRows(len(self.has), None)
        return StoreOverview(self.name, "a store in memory", dict.fromkeys(accounts, rows))

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """Note what was halted."""
        self.halted.append((self.name, notes))

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Note what was told; one that is down was begun all the same."""
        del progress
        self.cutoffs.append(purge.cutoff)
        if not purge.dry_run:
            self.notes.append(await purge.notes.read())
            await purge.notes.write({"begun": len(self.notes)})
        if self.name in self.down:
            raise UnreachableError(f"{self.name} cannot be reached; try again")
        compared = await purge.chats.compare(self.has)
        self.told.append((self.name, [*compared.kept, *compared.unknown]))
        self.stripped.append(list(compared.stripped))
        self.chats_then.append(await self._chats.chats())
        for happens in self.steps:
            await purge.begin_step({"begun": len(self.notes)})
            self.taken += 1
            await happens()
        return StoreReport("planned" if purge.dry_run else "finished", 7)
