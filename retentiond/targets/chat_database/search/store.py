"""The store `elasticsearch`: from what is to be purged to a count of nothing that every shard has answered."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from retentiond.engine.target import Silence, Stop, StoppedError
from retentiond.model.errors import UnreachableError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.patience import Patience
from retentiond.targets.chat_database.search.client import Heeding, ServerError, open_search
from retentiond.targets.chat_database.search.deletion import Deletion
from retentiond.targets.chat_database.search.follow import Follower
from retentiond.targets.chat_database.search.index import Index
from retentiond.targets.chat_database.search.obstacles import Obstacles
from retentiond.targets.chat_database.search.overview import look
from retentiond.targets.chat_database.search.portions import Portions
from retentiond.targets.chat_database.search.query import Meant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.engine.target import Progress
    from retentiond.model.check import StoreOverview
    from retentiond.targets.chat_database.search.client import Search
    from retentiond.targets.chat_database.store import StoreName, StorePurge


@asynccontextmanager
async def open_elasticsearch(
    config: ElasticsearchStore, rate: int, patience: Patience | None = None
) -> AsyncIterator[Elasticsearch]:
    """Open the store, which deletes at most `rate` documents a second; raises UnreachableError and UsageError."""
    async with open_search(config) as search:
        yield Elasticsearch(search, config, rate, patience or Patience())


class Elasticsearch:
    """A search index of chats, in Elasticsearch or OpenSearch."""

    name: StoreName = "elasticsearch"

    def __init__(self, search: Search, config: ElasticsearchStore, rate: int, patience: Patience) -> None:
        self._config = config
        self._rate = rate
        self._patience = patience
        self._index = Index(search, config)

    async def check(self) -> list[str]:
        """Try what a purge needs, changing nothing."""
        try:
            refusal = await Obstacles(self._index).refusal()
        except ServerError as error:
            return [f"elasticsearch: {error}"]
        return [f"elasticsearch: {refusal.value}; {refusal.hint}"] if refusal else []

    async def look(self, accounts: Sequence[str]) -> StoreOverview:
        """Say which server it is, and how many documents of each account are there."""
        try:
            return await look(self._index.search, self._index.path, self._config, accounts)
        except ServerError as error:
            raise UnreachableError(f"the search refused a question: {error}; see its log") from error

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Delete, follow it to its end, and count again until nothing is left."""
        self._index = Index(Heeding(self._index.search, purge.stop), self._config)
        try:
            obstacles = Obstacles(self._index)
            refusal = await obstacles.refusal(purge.account)
            if refusal is not None:
                return StoreReport("refused", refused=refusal)
            meant = Meant(
                self._config,
                purge.account,
                purge.cutoff,
                days=obstacles.days,
                texts=obstacles.texts,
                kinds_are_texts=obstacles.kinds_are_texts,
            )
            by_date = self._config.without_chat == "purge"
            portions = Portions(self._index, meant, purge, by_date=by_date)
            if purge.dry_run:
                # It may not be allowed to refresh, and counts what is visible.
                documents = [await self._index.count(query) async for query in portions.each()]
                waiting = tuple(await portions.remarks())
                kept = portions.staying.kept()
                return StoreReport("planned", rows=sum(documents), waiting=waiting, kept=kept)
            progress.stage("elasticsearch", None)
            follower = Follower(self._index, purge.stop, self._patience, progress)
            return await Deletion(self._index, follower, purge, portions, self._rate).work()
        except StoppedError:
            return StoreReport("interrupted", error="asked to stop before it began; run it again")
        except ServerError as error:
            return StoreReport("finished_with_failures", error=f"the search refused: {error}")

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """Cancel the task that the notes name; what it has deleted stays deleted."""
        follower = Follower(self._index, Stop(), self._patience, Silence())
        try:
            task = await follower.find(str(notes["mark"])) if notes.get("mark") else None
            if task is not None:
                await self._index.search.ask("POST", f"/_tasks/{task}/_cancel", wait_for_completion="true")
        except ServerError as error:
            raise UnreachableError(
                f"the task could not be cancelled: {error}; cancel it as somebody who may (_tasks/_cancel)"
            ) from error
