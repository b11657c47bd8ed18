"""The store `elasticsearch`, and its servers, which are asked in turn until one answers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from retentiond.engine.target import NullProgress, Stop
from retentiond.model.errors import RefusedError, UnreachableError, UsageError
from retentiond.targets.chat_database.search.client import (
    NotSentError,
    ServerError,
    load_clients,
    open_node,
    refused_for_now,
)
from retentiond.targets.chat_database.search.deletion import IndexPurge
from retentiond.targets.chat_database.search.follow import Follower
from retentiond.targets.chat_database.search.index import Index
from retentiond.targets.chat_database.search.obstacles import BLOCKED, Obstacles
from retentiond.targets.chat_database.store_access import PollPolicy
from retentiond.targets.chat_database.store_purge import purge_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.engine.target import Progress
    from retentiond.model.check import StoreOverview
    from retentiond.model.purge import StoreReport
    from retentiond.targets.chat_database.search.client import Cluster, Search
    from retentiond.targets.chat_database.store import StorePurge


_GREETING_SECONDS: Final = 5.0
"""For each other server at the start; without an answer in time it is compared once it is needed."""


@asynccontextmanager
async def open_search(config: ElasticsearchStore) -> AsyncIterator[Servers]:
    """Open a connection to the first server that answers; raises UnreachableError, and UsageError for two clusters."""
    load_clients()
    async with AsyncExitStack() as opened:
        servers = Servers(config, opened)
        await servers.connect()
        yield servers


class StrangerError(NotSentError):
    """A server of another cluster than the first, which is not used."""


class Servers:
    """Asks a server of the list; if it cannot be reached or accepts no requests now, the next one.

    A request with a mark is sent once: if it may have begun on one server, it is not sent to another.
    """

    def __init__(self, config: ElasticsearchStore, opened: AsyncExitStack) -> None:
        self._config = config
        self._opened = opened
        self._nodes: dict[str, Search] = {}
        self._cluster: tuple[str, Cluster] | None = None
        self._current = 0

    async def ask(
        self, method: str, path: str, body: Any = None, *, mark: str | None = None, **parameters: str
    ) -> Any:
        """Return the answer to one request; raises UnreachableError if no server answers it, and ServerError."""

        async def send(node: Search, url: str) -> Any:
            try:
                return await node.ask(method, path, body, mark=mark, **parameters)
            except ServerError as error:
                if not error.passing:
                    raise
                raise refused_for_now(url, error) from error

        return await self._on_one(send, once=mark is not None)

    async def connect(self) -> None:
        """Connect to the first server that answers; raises UnreachableError, and UsageError for two clusters."""

        async def nothing(node: Search, url: str) -> None:
            del node, url

        await self._on_one(nothing, once=False)
        for url in self._config.url:
            try:
                async with asyncio.timeout(_GREETING_SECONDS):
                    await self._node(url)
            except StrangerError as stranger:
                # A purge of one of two clusters would be reported as a purge of both.
                raise UsageError(str(stranger)) from stranger
            except (UnreachableError, TimeoutError):
                continue

    async def _on_one(self, action: Callable[[Search, str], Awaitable[Any]], *, once: bool) -> Any:
        lost: list[UnreachableError] = []
        for _ in self._config.url:
            url = self._config.url[self._current]
            try:
                return await action(await self._node(url), url)
            except UnreachableError as error:
                lost.append(error)
                self._current = (self._current + 1) % len(self._config.url)
                if once and not isinstance(error, NotSentError):
                    raise
        raise _none_of(lost)

    async def _node(self, url: str) -> Search:
        """Return the connection to a server, opened at its first use; raises StrangerError for another cluster's."""
        if url not in self._nodes:
            async with AsyncExitStack() as opening:
                try:
                    node, cluster = await opening.enter_async_context(open_node(self._config, url))
                except UnreachableError as error:
                    # Only a request for its cluster was sent.
                    raise NotSentError(str(error)) from error
                self._check_same(url, cluster)
                await self._opened.enter_async_context(opening.pop_all())
            self._nodes[url] = node
        return self._nodes[url]

    def _check_same(self, url: str, cluster: Cluster) -> None:
        if cluster.uuid is None:
            return
        if self._cluster is None:
            self._cluster = (url, cluster)
        first, known = self._cluster
        if known != cluster:
            raise StrangerError(
                f"the search at {url} and the one at {first} belong to different clusters; list the servers of one "
                "cluster in `url`"
            )


def _none_of(lost: list[UnreachableError]) -> UnreachableError:
    """Return one error for all servers, with the error of each."""
    if len(lost) == 1:
        return lost[0]
    message = f"no server of the search can be used ({len(lost)} tried): " + "; ".join(map(str, lost))
    return NotSentError(message) if isinstance(lost[-1], NotSentError) else UnreachableError(message)


@asynccontextmanager
async def open_elasticsearch(
    config: ElasticsearchStore, rate: int, patience: PollPolicy | None = None
) -> AsyncIterator[Elasticsearch]:
    """Open the store, which deletes at most `rate` documents a second; raises UnreachableError and UsageError."""
    async with open_search(config) as search:
        yield Elasticsearch(search, config, rate, patience or PollPolicy())


class Elasticsearch:
    """A search index of chats, in Elasticsearch or OpenSearch."""

    def __init__(self, search: Search, config: ElasticsearchStore, rate: int, patience: PollPolicy) -> None:
        self._config = config
        self._rate = rate
        self._patience = patience
        self._index = Index(search, config)

    async def check(self) -> list[str]:
        """Test the requirements of a purge; change nothing."""
        try:
            await Obstacles(self._index).look()
        except ServerError as error:
            return [f"elasticsearch: {error}"]
        except RefusedError as refused:
            refusal = refused.refusal
            # A block is a state of an index or of the cluster, and may be gone by the time of the purge.
            is_state = refusal.limit == BLOCKED
            return [] if is_state else [f"elasticsearch: {refusal.value}; {refusal.hint}"]
        return []

    async def look(self, accounts: Sequence[str]) -> StoreOverview:
        """Return the version of the server, and the documents of each account."""
        try:
            return await self._index.overview(accounts)
        except ServerError as error:
            raise UnreachableError(f"the search refused a query: {error}; see its log") from error

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Delete, follow each task to its end, and count again until nothing is left."""
        search, config = self._index.search, self._config
        engine = IndexPurge(search, config, purge, self._patience, progress, self._rate)
        return await purge_store(engine, progress)

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """Cancel the task of the notes; deleted documents stay deleted."""
        follower = Follower(self._index, Stop(), self._patience, NullProgress())
        try:
            task = await follower.find(str(notes["mark"])) if notes.get("mark") else None
            if task is not None:
                await self._index.search.ask("POST", f"/_tasks/{task}/_cancel", wait_for_completion="true")
        except ServerError as error:
            raise UnreachableError(
                f"the task could not be cancelled: {error}; cancel it as a user with that right (_tasks/_cancel)"
            ) from error
