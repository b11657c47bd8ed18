"""The store `elasticsearch`: from what is to be purged to a count of nothing that every shard has answered."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from retentiond.engine.target import NullProgress, Stop
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.targets.chat_database.search.client import ServerError
from retentiond.targets.chat_database.search.deletion import IndexPurge
from retentiond.targets.chat_database.search.follow import Follower
from retentiond.targets.chat_database.search.index import Index
from retentiond.targets.chat_database.search.obstacles import BLOCKED, Obstacles
from retentiond.targets.chat_database.search.servers import open_search
from retentiond.targets.chat_database.store_access import PollPolicy
from retentiond.targets.chat_database.store_purge import purge_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.engine.target import Progress
    from retentiond.model.check import StoreOverview
    from retentiond.model.purge import StoreReport
    from retentiond.targets.chat_database.search.client import Search
    from retentiond.targets.chat_database.store import StoreName, StorePurge


@asynccontextmanager
async def open_elasticsearch(
    config: ElasticsearchStore, rate: int, patience: PollPolicy | None = None
) -> AsyncIterator[Elasticsearch]:
    """Open the store, which deletes at most `rate` documents a second; raises UnreachableError and UsageError."""
    async with open_search(config) as search:
        yield Elasticsearch(search, config, rate, patience or PollPolicy())


class Elasticsearch:
    """A search index of chats, in Elasticsearch or OpenSearch."""

    name: StoreName = "elasticsearch"

    def __init__(self, search: Search, config: ElasticsearchStore, rate: int, patience: PollPolicy) -> None:
        self._config = config
        self._rate = rate
        self._patience = patience
        self._index = Index(search, config)

    async def check(self) -> list[str]:
        """Try what a purge needs, changing nothing."""
        try:
            await Obstacles(self._index).look()
        except ServerError as error:
            return [f"elasticsearch: {error}"]
        except RefusedError as refused:
            refusal = refused.refusal
            # A block is the state of an index or of the cluster, and may be another by the time of the purge.
            is_state = refusal.limit == BLOCKED
            return [] if is_state else [f"elasticsearch: {refusal.value}; {refusal.hint}"]
        return []

    async def look(self, accounts: Sequence[str]) -> StoreOverview:
        """Say which server it is, and how many documents of each account are there."""
        try:
            return await self._index.overview(accounts)
        except ServerError as error:
            raise UnreachableError(f"the search refused a question: {error}; see its log") from error

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Delete, follow it to its end, and count again until nothing is left."""
        search, config = self._index.search, self._config
        engine = IndexPurge(search, config, purge, self._patience, progress, self._rate)
        return await purge_store(engine, purge, progress)

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """Cancel the task that the notes name; what it has deleted stays deleted."""
        follower = Follower(self._index, Stop(), self._patience, NullProgress())
        try:
            task = await follower.find(str(notes["mark"])) if notes.get("mark") else None
            if task is not None:
                await self._index.search.ask("POST", f"/_tasks/{task}/_cancel", wait_for_completion="true")
        except ServerError as error:
            raise UnreachableError(
                f"the task could not be cancelled: {error}; cancel it as a user with that right (_tasks/_cancel)"
            ) from error
