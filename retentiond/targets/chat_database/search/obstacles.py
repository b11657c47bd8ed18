"""What keeps a purge from all that is meant: found before anything is deleted, and named."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.errors import Refusal, StoreLimit, UnreachableError
from retentiond.targets.chat_database.search.client import ask_for
from retentiond.targets.chat_database.search.fields import fields_of, judge, quoted
from retentiond.targets.chat_database.search.mappings import (
    each,
    holds_days,
    judge_account,
    judge_filled,
    judge_id,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.targets.chat_database.search.index import Index

_BLOCKS: Final = ("read_only_allow_delete", "read_only", "write")
_CLUSTER: Final = "*.search.allow_expensive_queries,*.cluster.blocks"
_TEXTS: Final = frozenset({"keyword", "alias"})
"""Types of text; what an alias is another name of is among the mappings, too."""
_LEVELS: Final = ("transient", "persistent", "defaults")


class Obstacles:
    """Looks at an index, and at all that lie behind its name, changing nothing."""

    def __init__(self, index: Index) -> None:
        self._search = index.search
        self._config = index.config
        self._path = index.path
        self.days = False
        """Whether the field of dates holds days; known once no refusal was found."""
        self.texts = False
        """Whether the field of chats holds text in each index; known once no refusal was found."""
        self.kinds_are_texts = False
        """Whether the field of kinds does."""

    async def refusal(self, account: str | None = None) -> Refusal | None:
        """Return why documents of the account (None: of any) cannot be purged here."""
        # What is closed, or not there, first: the other questions pass it over, or fail over it.
        listed = await self._listed()
        if refusal := _closed(listed):
            return refusal
        shards = await self._shards()
        if refusal := _passed_over(listed, shards):
            return refusal
        capabilities = shards and await ask_for(
            self._search,
            "GET",
            f"{self._path}/_field_caps",
            fields=",".join(fields_of(self._config)),
            include_unmapped="true",
            allow_no_indices="false",
        )
        refusal = judge(self._config, capabilities)
        if refusal is not None or capabilities is None:
            return refusal
        settings = await self._ask("_settings", flat_settings="true", expand_wildcards="open")
        cluster = await self._search.ask(
            "GET", "/_cluster/settings", include_defaults="true", filter_path=_CLUSTER
        )
        return (
            await self._mapped(account)
            or _narrowed(shards, settings)
            or self._costly(capabilities, cluster)
            or _blocked(settings, cluster)
        )

    async def _mapped(self, account: str | None) -> Refusal | None:
        """Return why what the mapping makes of the fields does not do, and learn whether dates are days."""
        config = self._config
        accounts = await self._mapping(config.account_field)
        dates = await self._mapping(config.date_field)
        refusal = (
            judge_account(config.account_field, accounts, account)
            or judge_filled("account_field", config.account_field, accounts)
            or judge_filled("date_field", config.date_field, dates)
        )
        ids = {"thread_field": config.thread_field, "visitor_field": config.visitor_field}
        for key, field in ids.items():
            if refusal is None and field is not None:
                found = await self._mapping(field)
                refusal = judge_filled(key, field, found) or judge_id(key, field, found)
                if key == "thread_field":
                    self.texts = all(mapping.get("type") in _TEXTS for mapping in each(found))
        if refusal is None and config.kind_field is not None:
            kinds = await self._mapping(config.kind_field)
            refusal = judge_filled("kind_field", config.kind_field, kinds)
            self.kinds_are_texts = all(mapping.get("type") in _TEXTS for mapping in each(kinds))
        self.days = holds_days(dates)
        return refusal

    async def _mapping(self, field: str) -> Mapping[str, Any]:
        """Return the mappings of a field, and of those that it is another name of."""
        answer: dict[str, Any] = await self._ask(f"_mapping/field/{quoted(field)}")
        paths = {str(mapping["path"]) for mapping in each(answer) if mapping.get("type") == "alias"}
        beneath = [await self._ask(f"_mapping/field/{quoted(path)}") for path in sorted(paths)]
        return answer | {
            f"{number} {index}": fields
            for number, found in enumerate(beneath)
            for index, fields in found.items()
        }

    async def _ask(self, question: str, **parameters: str) -> Any:
        return await self._search.ask("GET", f"{self._path}/{question}", **parameters)

    async def _listed(self) -> Mapping[str, str]:
        """Return all that the name means, what a pattern passes over too, and whether it is open."""
        listed = await ask_for(
            self._search,
            "GET",
            f"/_cat/indices{self._path}",
            format="json",
            h="index,status",
            expand_wildcards="all",
        )
        return {row["index"]: row["status"] for row in listed or ()}

    async def _shards(self) -> Any:
        """Return which shards a purge goes to; raises UnreachableError where one is not there."""
        shards = await ask_for(self._search, "GET", f"{self._path}/_search_shards", allow_no_indices="false")
        if shards and not all(shards["shards"]):
            raise UnreachableError(
                f"not all shards of {self._config.index} are there; look at the cluster's health, then run it again"
            )
        return shards

    def _costly(self, capabilities: Mapping[str, Any], cluster: Mapping[str, Any]) -> Refusal | None:
        """Return why the server does not let us ask for documents of two accounts, of several chats or of several kinds."""
        config = self._config
        asked = filter(None, (config.account_field, config.thread_field, config.kind_field))
        texts = [field for field in asked if "keyword" in capabilities["fields"][field]]
        if not texts:
            return None
        given = [cluster.get(level, {}).get("search", {}).get("allow_expensive_queries") for level in _LEVELS]
        if next((value for value in given if value is not None), "true") == "true":
            return None
        return Refusal(
            StoreLimit("elasticsearch_expensive_queries"),
            "search.allow_expensive_queries is false",
            None,
            f"whether a document has other values beside those to purge is asked by a range of {', '.join(texts)}, which "
            "the cluster forbids: set search.allow_expensive_queries to true",
        )


def _closed(listed: Mapping[str, str]) -> Refusal | None:
    closed = sorted(index for index, status in listed.items() if status != "open")
    return _refusal("closed", closed, "is closed: open it, or name the others in `index`")


def _passed_over(listed: Mapping[str, str], shards: Mapping[str, Any] | None) -> Refusal | None:
    """Name what is hidden from a pattern, but for the server's own: nobody would count what it holds."""
    reached = shards["indices"] if shards else {}
    hidden = sorted(index for index in listed if index not in reached and not index.startswith("."))
    return _refusal(
        "hidden", hidden, "is hidden, and a pattern passes it over: name it itself in `index`, too"
    )


def _narrowed(shards: Mapping[str, Any], settings: Mapping[str, Any]) -> Refusal | None:
    """Name the indices of which an alias shows a part only: its filter and its routing hold for a purge, too."""
    reached = Counter(shard[0]["index"] for shard in shards["shards"])
    narrowed = sorted(
        name
        for name, index in shards["indices"].items()
        if "filter" in index
        or (name in settings and reached[name] < int(settings[name]["settings"]["index.number_of_shards"]))
    )
    return _refusal(
        "alias",
        narrowed,
        "is behind an alias with a filter or a routing, so that a purge would not reach all of it: name the index "
        "itself in `index`",
    )


def _blocked(settings: Mapping[str, Any], cluster: Mapping[str, Any]) -> Refusal | None:
    """Tell what a purge would run into: for a minute, and half done, or not at all."""
    of_cluster = [cluster.get(level, {}).get("cluster", {}).get("blocks", {}) for level in _LEVELS]
    for block in _BLOCKS:
        blocked = sorted(
            name
            for name, index in settings.items()
            if str(index["settings"].get(f"index.blocks.{block}")) == "true"
        )
        if any(str(blocks.get(block)) == "true" for blocks in of_cluster):
            blocked = ["the whole cluster"]
        if blocked:
            hint = (
                f"has the block `{block}`; a full disk sets read_only_allow_delete: make room, then lift it"
            )
            return _refusal("blocked", blocked, hint)
    return None


def _refusal(limit: str, names: list[str], hint: str) -> Refusal | None:
    told = ", ".join(names[:5])
    return Refusal(StoreLimit(f"elasticsearch_{limit}"), told, None, f"{told} {hint}") if names else None
