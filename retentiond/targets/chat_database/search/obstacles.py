"""The check for obstacles that keep a purge from documents, before anything is deleted.

A wrong configuration is refused as a whole. The state of an index (closed, read-only, a snapshot) is not an error: the other
indices are purged.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from retentiond.model.errors import Refusal, RefusedError, StoreLimit, UnreachableError
from retentiond.targets.chat_database.search.client import ServerError, ask_for, said
from retentiond.targets.chat_database.search.fields import (
    each,
    fields_of,
    holds_days,
    judge,
    judge_account,
    judge_filled,
    judge_id,
    quoted,
)
from retentiond.targets.chat_database.search.index import THERE, paths_of
from retentiond.targets.chat_database.search.indices import FieldTypes, take_stock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.targets.chat_database.search.index import Index
    from retentiond.targets.chat_database.search.indices import Inventory

BLOCKED: Final = StoreLimit("elasticsearch_blocked")
"""The limit for a block of the cluster, or of an index that fails every request: a state, not a configuration."""
_BLOCKS: Final = ("read_only_allow_delete", "read_only")
_BLOCKED: Final = re.compile(r"index \[([^\]]+)\] blocked by: \[(?:[A-Z_]+/\d+/)?([^\]]*)\]")
_OF_ILM: Final = ("restored-", "partial-")
"""Prefixes of ILM for an index that it mounts from a snapshot."""
_CLUSTER: Final = "*.search.allow_expensive_queries,*.cluster.blocks"
_TEXTS: Final = frozenset({"keyword", "alias"})
"""Types of text; the mappings also include the field behind an alias."""
_LEVELS: Final = ("transient", "persistent", "defaults")


class Obstacles:
    """Checks an index, or all indices behind its name, without changes."""

    def __init__(self, index: Index) -> None:
        self._search = index.search
        self._config = index.config
        self._path = index.path

    async def look(self, account: str | None = None) -> Inventory:
        """Return the indices, sorted for a purge of the account (None: of any); raises RefusedError."""
        try:
            return await self._look(account)
        except ServerError as error:
            if refusal := _of_block(error):
                raise RefusedError(refusal) from error
            raise

    async def _look(self, account: str | None) -> Inventory:
        listed = await self._listed(self._config.index)
        if not listed:
            _refuse(judge(self._config, None))
        if "open" not in listed.values():
            return take_stock(listed, {}, {}, FieldTypes())
        shards = await self._shards(listed)
        _refuse(_hidden(listed, shards))
        capabilities = shards and await self._capabilities(listed)
        _refuse(judge(self._config, capabilities))
        settings = {
            name: index
            for name, index in (
                await self._ask("_settings", flat_settings="true", expand_wildcards="open")
            ).items()
            if listed.get(name, "open") == "open"
        }
        cluster = await self._search.ask(
            "GET", "/_cluster/settings", include_defaults="true", filter_path=_CLUSTER
        )
        types = await self._mapped(account)
        _refuse(
            _narrowed(shards, settings)
            or self._costly(capabilities or {}, cluster)
            or _blocked_as_a_whole(cluster)
            or _not_read(settings)
        )
        return take_stock(listed, settings, await self._renamed(listed), types)

    async def _capabilities(self, listed: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Return the types of the fields in the open indices; None without an index."""
        closed = set(listed.values()) != {"open"}
        opened = sorted(name for name, status in listed.items() if status == "open")
        fields: dict[str, dict[str, Any]] = {}
        # In Elasticsearch a closed index that is named, or is behind an alias, fails the request.
        for path in paths_of(opened) if closed else [self._path.removeprefix("/")]:
            answer = await ask_for(
                self._search,
                "GET",
                f"/{path}/_field_caps",
                fields=",".join(fields_of(self._config)),
                include_unmapped="true",
                allow_no_indices="false",
                **THERE,
            )
            if answer is None:
                return None
            _require_all(answer, self._config.index)
            for name, types in answer.get("fields", {}).items():
                known = fields.setdefault(name, {})
                for kind, capability in types.items():
                    searchable = capability.get("searchable", True) and known.get(kind, capability).get(
                        "searchable", True
                    )
                    known[kind] = capability | {"searchable": searchable}
        return {"fields": fields}

    async def _renamed(self, listed: Mapping[str, str]) -> Mapping[str, str]:
        """Return the indices that ILM renamed so that a pattern does not match them any more."""
        patterns = [part for part in self._config.index.split(",") if "*" in part and part[0] not in "-*"]
        if not patterns:
            return {}
        names = ",".join(prefix + pattern for pattern in patterns for prefix in _OF_ILM)
        found = await self._listed(names)
        return {name: status for name, status in found.items() if name not in listed}

    async def _mapped(self, account: str | None) -> FieldTypes:
        """Return the types of the values of the fields; raises RefusedError if a mapping changes values."""
        config = self._config
        texts = kinds_are_texts = False
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
                    texts = all(mapping.get("type") in _TEXTS for mapping in each(found))
        if refusal is None and config.kind_field is not None:
            kinds = await self._mapping(config.kind_field)
            refusal = judge_filled("kind_field", config.kind_field, kinds)
            kinds_are_texts = all(mapping.get("type") in _TEXTS for mapping in each(kinds))
        _refuse(refusal)
        return FieldTypes(holds_days(dates), texts, kinds_are_texts)

    async def _mapping(self, field: str) -> Mapping[str, Any]:
        """Return the mappings of a field, and of the fields behind an alias."""
        answer: dict[str, Any] = await self._ask(f"_mapping/field/{quoted(field)}")
        paths = {str(mapping["path"]) for mapping in each(answer) if mapping.get("type") == "alias"}
        beneath = [await self._ask(f"_mapping/field/{quoted(path)}") for path in sorted(paths)]
        return answer | {
            f"{number} {index}": fields
            for number, found in enumerate(beneath)
            for index, fields in found.items()
        }

    async def _ask(self, endpoint: str, **parameters: str) -> Any:
        return await self._search.ask("GET", f"{self._path}/{endpoint}", **THERE, **parameters)

    async def _listed(self, names: str) -> Mapping[str, str]:
        """Return the status of each index behind the names, including indices that a pattern does not match."""
        listed = await ask_for(
            self._search,
            "GET",
            f"/_cat/indices/{quote(names, safe='*,')}",
            format="json",
            h="index,status",
            expand_wildcards="all",
        )
        return {row["index"]: row["status"] for row in listed or ()}

    async def _shards(self, listed: Mapping[str, str]) -> Any:
        """Return the shards of the indices; raises UnreachableError if one has no copy."""
        shards = await ask_for(
            self._search, "GET", f"{self._path}/_search_shards", allow_no_indices="false", **THERE
        )
        # Shards of a closed index may have no copy, too.
        if shards and not all(shards["shards"]) and set(listed.values()) <= {"open"}:
            raise UnreachableError(
                f"not all shards of {self._config.index} are available; look at the cluster's health, then run it again"
            )
        return shards

    def _costly(self, capabilities: Mapping[str, Any], cluster: Mapping[str, Any]) -> Refusal | None:
        """Return the refusal if the cluster forbids the queries for documents of several accounts, chats or kinds."""
        config = self._config
        fields = (config.account_field, config.thread_field, config.kind_field, config.visitor_field)
        asked = filter(None, fields)
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
            f"documents with further values are found by range queries on {', '.join(texts)}, which the cluster "
            "forbids: set search.allow_expensive_queries to true",
        )


def _refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise RefusedError(refusal)


def _hidden(listed: Mapping[str, str], shards: Mapping[str, Any] | None) -> Refusal | None:
    """Return the refusal for hidden indices, whose documents would not be counted; the server's own are excepted."""
    reached = shards["indices"] if shards else {}
    hidden = sorted(
        index
        for index, status in listed.items()
        if status == "open" and index not in reached and not index.startswith(".")
    )
    return _refusal("hidden", hidden, "is hidden, and patterns do not match it: add its name to `index`")


def _narrowed(shards: Mapping[str, Any], settings: Mapping[str, Any]) -> Refusal | None:
    """Return the refusal for an alias with a filter or a routing, which would apply to the purge, too."""
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


def _blocked_as_a_whole(cluster: Mapping[str, Any]) -> Refusal | None:
    """Return the refusal for a block of the whole cluster."""
    of_cluster = [cluster.get(level, {}).get("cluster", {}).get("blocks", {}) for level in _LEVELS]
    for block in _BLOCKS:
        if any(str(blocks.get(block)) == "true" for blocks in of_cluster):
            hint = f"has the block `cluster.blocks.{block}`: remove it from the cluster's settings, then purge again"
            return _refusal("blocked", ["the whole cluster"], hint)
    return None


def _not_read(settings: Mapping[str, Any]) -> Refusal | None:
    """Return the refusal for indices that must not be read: each count would fail."""
    names = sorted(
        name for name, index in settings.items() if str(index["settings"].get("index.blocks.read")) == "true"
    )
    hint = "is blocked (index read (api)), and so is each query that includes it: remove the block, then purge again"
    return _refusal("blocked", names, hint)


def _require_all(answer: Mapping[str, Any], index: str) -> None:
    """Raise RefusedError or UnreachableError if the fields of some indices are missing."""
    failures = answer.get("failures")
    if not failures:
        return
    error = ServerError(said("failure", failures[0].get("failure")), 200)
    _refuse(_of_block(error))
    raise UnreachableError(
        f"not all indices of {index} report their fields: {error}; look at the cluster's health, then run it again"
    )


def _of_block(error: ServerError) -> Refusal | None:
    """Return the refusal for an index that cannot be read, so that a query of all indices fails."""
    found = _BLOCKED.search(str(error))
    if found is None or error.passing:
        return None
    hint = (
        f"is blocked ({found[2]}), and so is each query that includes it: remove the block, then purge again"
    )
    return _refusal("blocked", [found[1]], hint)


def _refusal(limit: str, names: list[str], hint: str) -> Refusal | None:
    listed = ", ".join(names[:5])
    return Refusal(StoreLimit(f"elasticsearch_{limit}"), listed, None, f"{listed} {hint}") if names else None
