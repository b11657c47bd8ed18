"""The index of a purge: what it is made of, what keeps it from being changed, and what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from retentiond.model.errors import Refusal, UnreachableError
from retentiond.targets.chat_database.search.client import ask_for
from retentiond.targets.chat_database.search.fields import fields_of, judge, judge_accounts

if TYPE_CHECKING:
    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.search.client import Search

_BLOCKS = ("read_only_allow_delete", "read_only", "write")


class Index:
    """The index that is configured, or all that lie behind its name."""

    def __init__(self, search: Search, config: ElasticsearchStore) -> None:
        self.search = search
        self.path = "/" + quote(config.index, safe="*,")
        self._config = config

    async def refusal(self, excluded: int) -> Refusal | None:
        """Return why a purge cannot be told here."""
        capabilities = await ask_for(
            self.search,
            "GET",
            f"{self.path}/_field_caps",
            fields=",".join(fields_of(self._config)),
            include_unmapped="true",
            allow_no_indices="false",
        )
        refusal = judge(self._config, capabilities, excluded=excluded)
        return refusal or await self._alike() or await self._blocked()

    async def _alike(self) -> Refusal | None:
        field = quote(self._config.account_field, safe="")
        return judge_accounts(
            self._config, await self.search.ask("GET", f"{self.path}/_mapping/field/{field}")
        )

    async def _blocked(self) -> Refusal | None:
        """Tell what a purge would run into: for a minute, and half done, or not at all."""
        listed = await self.search.ask(
            "GET", f"/_cat/indices{self.path}", format="json", h="index,status", expand_wildcards="all"
        )
        closed = sorted(row["index"] for row in listed if row["status"] != "open")
        if closed:
            return _refusal("closed", closed, "is closed: open it, or name the others in `index`")
        settings = await self.search.ask(
            "GET", f"{self.path}/_settings", flat_settings="true", expand_wildcards="open"
        )
        cluster = await self.search.ask("GET", "/_cluster/settings", flat_settings="true")
        for block in _BLOCKS:
            blocked = sorted(
                name
                for name, index in settings.items()
                if str(index["settings"].get(f"index.blocks.{block}")) == "true"
            )
            if any(str(cluster[level].get(f"cluster.blocks.{block}")) == "true" for level in cluster):
                blocked = ["the whole cluster"]
            if blocked:
                hint = f"has the block `{block}`; a full disk sets read_only_allow_delete: make room, then lift it"
                return _refusal("blocked", blocked, hint)
        return None

    async def refresh(self) -> None:
        """Make all that was written visible: a count, and a purge, see the last refresh."""
        await self.search.ask("POST", f"{self.path}/_refresh")

    async def count(self, query: dict[str, Any]) -> int:
        """Count; raises UnreachableError where a shard does not answer, since then it would be too few."""
        answer = await self.search.ask("POST", f"{self.path}/_count", {"query": query})
        shards = answer["_shards"]
        if shards["successful"] != shards["total"] or not shards["total"]:
            raise UnreachableError(
                f"{shards['successful']} of {shards['total']} shards of {self._config.index} answer; "
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


def _refusal(limit: str, names: list[str], hint: str) -> Refusal:
    return Refusal(f"elasticsearch_{limit}", ", ".join(names[:5]), None, f"{', '.join(names[:5])} {hint}")
