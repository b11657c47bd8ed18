"""The index of a purge: its documents, and deleted ones that are still on the disk."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from retentiond.model.check import AccountRows, StoreOverview
from retentiond.model.errors import UnreachableError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.engine.target import Stop
    from retentiond.targets.chat_database.search.client import Search
    from retentiond.targets.chat_database.store import ChatId
    from retentiond.targets.chat_database.store_access import PollPolicy


T = TypeVar("T")

THERE: Final = {"ignore_unavailable": "true"}
"""Limits a request to open indices; the others are reported by the check before it."""
_MOST_INDICES: Final = 10_000
_MOST_CHARACTERS: Final = 3000
"""The longest path; the servers accept 4,096 with the method and the parameters."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def paths_of(names: Iterable[str]) -> Iterator[str]:
    """Yield the names as parts of paths, as many in each as are allowed."""
    path = ""
    for name in map(quote, names):
        if path and len(path) + len(name) >= _MOST_CHARACTERS:
            yield path
            path = ""
        path += f",{name}" if path else name
    if path:
        yield path


class Index:
    """The configured index, or all indices behind its name."""

    def __init__(
        self, search: Search, config: ElasticsearchStore, waits: tuple[PollPolicy, Stop] | None = None
    ) -> None:
        self.search = search
        self.config = config
        self.path = "/" + quote(config.index, safe="*,")
        self._waits = waits
        """How long to wait for a cluster that lost a server; None: not at all."""

    async def again(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask a read-only question, and again while the cluster makes replicas its primaries or elects a leader.

        Raises UnreachableError without an answer in time, and StoppedError.
        """
        if self._waits is None:
            return await question()
        policy, stop = self._waits
        since = policy.clock()
        async for _ in policy.looks(stop):
            try:
                return await question()
            except UnreachableError:
                if policy.clock() - since >= policy.recovery:
                    raise
        raise AssertionError("the looks ended by themselves")

    async def refresh(self) -> None:
        """Make all written documents visible to counts and purges.

        Raises UnreachableError if a shard was not refreshed, since a count would be too small.
        """

        async def refresh() -> None:
            answer = await self.search.ask("POST", f"{self.path}/_refresh", **THERE)
            failed = answer["_shards"].get("failed")
            if failed:
                raise UnreachableError(
                    f"{failed} shards of {self.config.index} cannot be refreshed; look at the cluster's health, then run "
                    "it again"
                )

        await self.again(refresh)

    async def count(self, query: dict[str, Any]) -> int:
        """Count documents; raises UnreachableError if a shard does not answer, since the count would be too small."""

        async def count() -> int:
            answer = await self.search.ask("POST", f"{self.path}/_count", {"query": query}, **THERE)
            self._answered(answer)
            return int(answer["count"])

        return await self.again(count)

    async def by_index(self, query: dict[str, Any], shard: int | None = None) -> Counter[str]:
        """Count documents by index; with `shard` only in the shards of that number."""
        one = {} if shard is None else {"preference": f"_shards:{shard}"}
        listing = {"terms": {"field": "_index", "size": _MOST_INDICES}}
        found = await self._aggregate(query, listing, **one)
        return Counter({bucket["key"]: bucket["doc_count"] for bucket in found["buckets"]})

    async def oldest(self, query: dict[str, Any]) -> datetime | None:
        """Return the oldest date of the documents; None without a document."""
        found = await self._aggregate(query, {"min": {"field": self.config.date_field}})
        milliseconds = found["value"]
        return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)

    async def chats(
        self, query: dict[str, Any], after: Mapping[str, Any] | None, most: int
    ) -> tuple[list[ChatId], Mapping[str, Any] | None]:
        """Return a page of chats of the documents, and the `after` of the next page; None for the last page."""
        listing: dict[str, Any] = {
            "size": most,
            "sources": [{"chat": {"terms": {"field": self.config.thread_field}}}],
        }
        if after is not None:
            listing["after"] = after
        found = await self._aggregate(query, {"composite": listing})
        chats: list[ChatId] = [bucket["key"]["chat"] for bucket in found["buckets"]]
        return chats, found.get("after_key") if len(chats) == most else None

    async def _aggregate(self, query: dict[str, Any], aggregation: dict[str, Any], **more: str) -> Any:
        body = {"query": query, "size": 0, "aggs": {"found": aggregation}}

        async def ask() -> Any:
            answer = await self.search.ask(
                "POST", f"{self.path}/_search", body, allow_partial_search_results="false", **THERE, **more
            )
            self._answered(answer)
            if answer.get("timed_out"):
                raise UnreachableError(
                    f"{self.config.index} did not list all its chats in time; run it again"
                )
            return answer["aggregations"]["found"]

        return await self.again(ask)

    def _answered(self, answer: Mapping[str, Any]) -> None:
        """Raise UnreachableError if a shard did not answer: it may have more documents."""
        shards = answer["_shards"]
        if shards["successful"] != shards["total"] or not shards["total"]:
            raise UnreachableError(
                f"{shards['successful']} of {shards['total']} shards of {self.config.index} answer; "
                "look at the cluster's health, then run it again"
            )

    async def waiting(self) -> list[str]:
        """Describe deleted documents that are still on the disk."""
        stats = await self.search.ask("GET", f"{self.path}/_stats/docs", **THERE)
        deleted = stats["_all"]["primaries"].get("docs", {}).get("deleted", 0)
        if not deleted:
            return []
        return [
            (
                f"{deleted} deleted documents (and deletion marks) are in segments on the disk until those are "
                "merged: run _forcemerge?only_expunge_deletes=true, half a minute after the purge at the earliest"
            )
        ]

    async def overview(self, accounts: Sequence[str]) -> StoreOverview:
        """Return the version of the server, and the documents of each account."""
        version = (await self.search.ask("GET", "/"))["version"]
        product = "OpenSearch" if version.get("distribution") == "opensearch" else "Elasticsearch"
        groups = (await self.search.ask("GET", f"{self.path}/_search_shards", **THERE))["shards"]
        found = {}
        for account in accounts:
            query = {"term": {self.config.account_field: account}}
            oldest = await self.oldest(query)
            day = None if oldest is None else oldest.date().isoformat()
            found[account] = AccountRows(await self.count(query), day)
        return StoreOverview(
            "elasticsearch",
            f"{product} {printable(str(version.get('number')), 40)}",
            found,
            shards=len(groups),
            replicas=sum(map(len, groups)),
        )
