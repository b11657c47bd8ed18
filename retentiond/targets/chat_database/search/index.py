"""The index of a purge: what is in it, and what is still on the disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.search.client import Search
    from retentiond.targets.chat_database.store import ChatId

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Index:
    """The index that is configured, or all that lie behind its name."""

    def __init__(self, search: Search, config: ElasticsearchStore) -> None:
        self.search = search
        self.config = config
        self.path = "/" + quote(config.index, safe="*,")

    async def refresh(self) -> None:
        """Make all that was written visible: a count, and a purge, see the last refresh."""
        await self.search.ask("POST", f"{self.path}/_refresh")

    async def count(self, query: dict[str, Any]) -> int:
        """Count; raises UnreachableError where a shard does not answer, since then it would be too few."""
        answer = await self.search.ask("POST", f"{self.path}/_count", {"query": query})
        self._answered(answer)
        return int(answer["count"])

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

    async def _aggregate(self, query: dict[str, Any], aggregation: dict[str, Any]) -> Any:
        body = {"query": query, "size": 0, "aggs": {"found": aggregation}}
        answer = await self.search.ask(
            "POST", f"{self.path}/_search", body, allow_partial_search_results="false"
        )
        self._answered(answer)
        if answer.get("timed_out"):
            raise UnreachableError(f"{self.config.index} did not list all its chats in time; run it again")
        return answer["aggregations"]["found"]

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
        stats = await self.search.ask("GET", f"{self.path}/_stats/docs")
        deleted = stats["_all"]["primaries"]["docs"].get("deleted", 0)
        if not deleted:
            return []
        return [
            (
                f"{deleted} deleted documents (and marks of such) are in segments on the disk until those are merged: "
                "_forcemerge?only_expunge_deletes=true does it, from half a minute after the purge on"
            )
        ]
