"""The store `elasticsearch`: from what is to be purged to a count of nothing that every shard has answered."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.patience import Patience
from retentiond.targets.chat_database.search.client import ServerError, open_search
from retentiond.targets.chat_database.search.follow import Follower, PurgeError
from retentiond.targets.chat_database.search.index import Index
from retentiond.targets.chat_database.search.query import meant, without_chat
from retentiond.targets.chat_database.store import MOST_EXCLUDED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.engine.target import Progress
    from retentiond.targets.chat_database.search.client import Search
    from retentiond.targets.chat_database.store import StoreName, StorePurge

_ROUNDS: Final = 5
"""How often it is deleted and counted anew: documents that were written meanwhile conflict, and are left."""


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
            # A field of chats that is configured is looked at, too, as if chats stayed.
            refusal = await self._index.refusal(excluded=int(bool(self._config.thread_field)))
        except ServerError as error:
            return [f"elasticsearch: {error}"]
        return [f"elasticsearch: {refusal.value}; {refusal.hint}"] if refusal else []

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Delete, follow it to its end, and count again until nothing is left."""
        try:
            query = await self._meant(purge)
            if isinstance(query, Refusal):
                return StoreReport("refused", refused=query)
            # A dry run may not be allowed to, and counts what is visible.
            if not purge.dry_run:
                await self._index.refresh()
            before = await self._index.count(query)
            if purge.dry_run:
                return StoreReport("planned", rows=before)
            progress.stage("elasticsearch", before)
            return await self._delete(purge, query, before, progress)
        except ServerError as error:
            return StoreReport("finished_with_failures", error=f"the search refused: {error}")

    async def _meant(self, purge: StorePurge) -> dict[str, Any] | Refusal:
        """Return which documents are meant, or why that cannot be told."""
        if purge.excluded.count > MOST_EXCLUDED:
            return Refusal(
                "elasticsearch_excluded",
                purge.excluded.count,
                MOST_EXCLUDED,
                "more chats stay before the date than a query can leave out; purge up to an earlier date",
            )
        refusal = await self._index.refusal(purge.excluded.count)
        if refusal is not None:
            return refusal
        staying = [chat async for batch in purge.excluded.batches() for chat in batch]
        return meant(self._config, purge.account, purge.cutoff, staying)

    async def _delete(
        self, purge: StorePurge, query: dict[str, Any], before: int, progress: Progress
    ) -> StoreReport:
        follower = Follower(self._index, purge.stop, self._patience, progress)
        error: str | None = None
        refused: Refusal | None = None
        ended = True
        try:
            ended = await self._finish_earlier(purge, follower)
            for _ in range(_ROUNDS):
                await self._index.refresh()
                if not ended or not await self._index.count(query):
                    break
                ended = not purge.stop.asked and await self._run(purge, follower, query)
        except PurgeError as failure:
            error = f"the server was told to delete, and it failed: {failure}"
        except RefusedError as late:
            refused = late.refusal
        await self._index.refresh()
        after = await self._index.count(query)
        gone = max(before - after, 0)
        waiting = (*await self._index.waiting(), *await self._unknown(purge))
        if refused is not None:
            return StoreReport("refused", gone, waiting, refused=refused)
        if not ended:
            return StoreReport(
                "interrupted", gone, waiting, error="asked to stop; run it again, and it goes on"
            )
        if error is not None or after:
            text = error or f"{after} documents are left, or came in meanwhile; run it again"
            return StoreReport("finished_with_failures", gone, waiting, error=text)
        return StoreReport("finished", gone, waiting)

    async def _run(self, purge: StorePurge, follower: Follower, query: dict[str, Any]) -> bool:
        mark = f"retentiond:{secrets.token_hex(12)}"
        # Written down before it is sent: whoever comes next looks for it, and does not send it beside itself.
        await purge.begin_step({"mark": mark})
        task = await follower.start(query, mark, self._rate)
        await purge.notes.write({"mark": mark, "task": task})
        return await self._see_through(purge, follower, task, mark)

    async def _finish_earlier(self, purge: StorePurge, follower: Follower) -> bool:
        """Follow what an earlier purge left running to its end."""
        notes = await purge.notes.read()
        mark = str(notes.get("mark", ""))
        task = await follower.find(mark) if mark else None
        return await self._see_through(purge, follower, task, mark) if task else True

    async def _see_through(self, purge: StorePurge, follower: Follower, task: str, mark: str) -> bool:
        try:
            ended = await follower.to_the_end(task, mark)
        except PurgeError:
            await purge.notes.write({})
            raise
        if ended:
            await purge.notes.write({})
        return ended

    async def _unknown(self, purge: StorePurge) -> list[str]:
        """Say how many documents stay because they say of no chat."""
        if not purge.excluded.count:
            return []
        unknown = await self._index.count(without_chat(self._config, purge.account, purge.cutoff))
        return (
            [f"{unknown} documents say of no chat, and stay: they might be of one that does"]
            if unknown
            else []
        )
