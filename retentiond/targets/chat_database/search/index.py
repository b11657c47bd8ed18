"""The index of a purge: what is in it, and what is still on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.search.client import Search


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
        shards = answer["_shards"]
        if shards["successful"] != shards["total"] or not shards["total"]:
            raise UnreachableError(
                f"{shards['successful']} of {shards['total']} shards of {self.config.index} answer; "
                "look at the cluster's health, then run it again"
            )
        return int(answer["count"])

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
