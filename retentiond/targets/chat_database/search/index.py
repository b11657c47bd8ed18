"""The index of a purge: what is in it, and what is still on the disk."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.search.client import Search
    from retentiond.targets.chat_database.search.recovery import Recovery
    from retentiond.targets.chat_database.store import ChatId

T = TypeVar("T")

THERE: Final = {"ignore_unavailable": "true"}
"""Asks only the indices behind a name that are open; those that are not are listed, and reported, before."""
_MOST_INDICES: Final = 10_000
_MOST_CHARACTERS: Final = 3000
"""Of a path; the servers take 4,096 with the method and the parameters."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def paths_of(names: Iterable[str]) -> Iterator[str]:
    """Yield the names as parts of paths, as many in each as fit."""
    path = ""
    for name in map(quote, names):
        if path and len(path) + len(name) >= _MOST_CHARACTERS:
            yield path
            path = ""
        path += f",{name}" if path else name
    if path:
        yield path


class Index:
    """The index that is configured, or all that lie behind its name."""

    def __init__(self, search: Search, config: ElasticsearchStore, recovery: Recovery | None = None) -> None:
        self.search = search
        self.config = config
        self.path = "/" + quote(config.index, safe="*,")
        self._recovery = recovery

    async def again(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask what changes nothing, and again while the cluster recovers, if it is waited for."""
        return await (question() if self._recovery is None else self._recovery.ask(question))

    async def refresh(self) -> None:
        """Make all that was written visible: a count, and a purge, see the last refresh.

        Raises UnreachableError where a shard was not refreshed, since then a count would be too small.
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
        """Count; raises UnreachableError where a shard does not answer, since then it would be too few."""

        async def count() -> int:
            answer = await self.search.ask("POST", f"{self.path}/_count", {"query": query}, **THERE)
            self._answered(answer)
            return int(answer["count"])

        return await self.again(count)

    async def by_index(self, query: dict[str, Any], shard: int | None = None) -> Counter[str]:
        """Count by index; with `shard` in the shards of that number alone."""
        one = {} if shard is None else {"preference": f"_shards:{shard}"}
        listing = {"terms": {"field": "_index", "size": _MOST_INDICES}}
        found = await self._aggregate(query, listing, **one)
        return Counter({bucket["key"]: bucket["doc_count"] for bucket in found["buckets"]})

    async def oldest(self, query: dict[str, Any]) -> datetime | None:
        """Return the oldest date of such documents; None where there is none."""
        found = await self._aggregate(query, {"min": {"field": self.config.date_field}})
        milliseconds = found["value"]
        return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)

    async def chats(
        self, query: dict[str, Any], after: Mapping[str, Any] | None, most: int
    ) -> tuple[list[ChatId], Mapping[str, Any] | None]:
        """Return the chats of such documents in the server's order, so many at most, and what the next page is after."""
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
        """See that every shard has answered; one that did not may hold more."""
        shards = answer["_shards"]
        if shards["successful"] != shards["total"] or not shards["total"]:
            raise UnreachableError(
                f"{shards['successful']} of {shards['total']} shards of {self.config.index} answer; "
                "look at the cluster's health, then run it again"
            )

    async def waiting(self) -> list[str]:
        """Say what is deleted, and still on the disk."""
        stats = await self.search.ask("GET", f"{self.path}/_stats/docs", **THERE)
        deleted = stats["_all"]["primaries"].get("docs", {}).get("deleted", 0)
        if not deleted:
            return []
        return [
            (
                f"{deleted} deleted documents (and marks of such) are in segments on the disk until those are merged: "
                "_forcemerge?only_expunge_deletes=true does it, from half a minute after the purge on"
            )
        ]
