"""The obstacles that keep a purge from selected documents: found and named before anything is deleted.

A configuration that cannot be right is refused as a whole. The state of an index (closed, read-only, a snapshot) is
none of it: the other indices are purged.
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
"""The refusal of a block of the cluster, or of an index that fails every question: its state, no configuration."""
_BLOCKS: Final = ("read_only_allow_delete", "read_only")
_BLOCKED: Final = re.compile(r"index \[([^\]]+)\] blocked by: \[(?:[A-Z_]+/\d+/)?([^\]]*)\]")
_OF_ILM: Final = ("restored-", "partial-")
"""What ILM puts before the name of an index that it mounts from a snapshot."""
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

    async def look(self, account: str | None = None) -> Inventory:
        """Return the indices by what a purge of the account (None: of any) can do in them; raises RefusedError."""
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
        _refuse(_passed_over(listed, shards))
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
        """Return what the fields are in the open indices, by their types; None where there is no index."""
        closed = set(listed.values()) != {"open"}
        opened = sorted(name for name, status in listed.items() if status == "open")
        fields: dict[str, dict[str, Any]] = {}
        # A closed index that is named, or is behind an alias, fails the question in Elasticsearch.
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
                for kind, told in types.items():
                    searchable = told.get("searchable", True) and known.get(kind, told).get(
                        "searchable", True
                    )
                    known[kind] = told | {"searchable": searchable}
        return {"fields": fields}

    async def _renamed(self, listed: Mapping[str, str]) -> Mapping[str, str]:
        """Return the indices that ILM made of such that a pattern matched, and that it does not match any more."""
        patterns = [part for part in self._config.index.split(",") if "*" in part and part[0] not in "-*"]
        if not patterns:
            return {}
        names = ",".join(prefix + pattern for pattern in patterns for prefix in _OF_ILM)
        found = await self._listed(names)
        return {name: status for name, status in found.items() if name not in listed}

    async def _mapped(self, account: str | None) -> FieldTypes:
        """Return what the fields hold; raises RefusedError where the mapping makes something else of one."""
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
        return await self._search.ask("GET", f"{self._path}/{question}", **THERE, **parameters)

    async def _listed(self, names: str) -> Mapping[str, str]:
        """Return all that names mean, what a pattern passes over too, and whether it is open."""
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
        """Return which shards a purge goes to; raises UnreachableError where one has no copy."""
        shards = await ask_for(
            self._search, "GET", f"{self._path}/_search_shards", allow_no_indices="false", **THERE
        )
        # Shards of a closed index may have no copy, too.
        if shards and not all(shards["shards"]) and set(listed.values()) <= {"open"}:
            raise UnreachableError(
                f"not all shards of {self._config.index} are there; look at the cluster's health, then run it again"
            )
        return shards

    def _costly(self, capabilities: Mapping[str, Any], cluster: Mapping[str, Any]) -> Refusal | None:
        """Return why the server does not let us ask for documents of two accounts, of several chats or of several kinds."""
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
            f"whether a document has other values beside those to purge is asked by a range of {', '.join(texts)}, which "
            "the cluster forbids: set search.allow_expensive_queries to true",
        )


def _refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise RefusedError(refusal)


def _passed_over(listed: Mapping[str, str], shards: Mapping[str, Any] | None) -> Refusal | None:
    """Name what is hidden from a pattern, except the server's own: its documents would not be counted."""
    reached = shards["indices"] if shards else {}
    hidden = sorted(
        index
        for index, status in listed.items()
        if status == "open" and index not in reached and not index.startswith(".")
    )
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


def _blocked_as_a_whole(cluster: Mapping[str, Any]) -> Refusal | None:
    """Return which block of the whole cluster keeps a purge from every index."""
    of_cluster = [cluster.get(level, {}).get("cluster", {}).get("blocks", {}) for level in _LEVELS]
    for block in _BLOCKS:
        if any(str(blocks.get(block)) == "true" for blocks in of_cluster):
            hint = f"has the block `cluster.blocks.{block}`: remove it from the cluster's settings, then purge again"
            return _refusal("blocked", ["the whole cluster"], hint)
    return None


def _not_read(settings: Mapping[str, Any]) -> Refusal | None:
    """Return which indices must not be read: each count of the others would fail with theirs."""
    names = sorted(
        name for name, index in settings.items() if str(index["settings"].get("index.blocks.read")) == "true"
    )
    hint = "is blocked (index read (api)), and so is each question that includes it: remove the block, then purge again"
    return _refusal("blocked", names, hint)


def _require_all(answer: Mapping[str, Any], index: str) -> None:
    """Raise RefusedError, or UnreachableError, where some indices did not say what their fields are."""
    failures = answer.get("failures")
    if not failures:
        return
    error = ServerError(said("failure", failures[0].get("failure")), 200)
    _refuse(_of_block(error))
    raise UnreachableError(
        f"not all indices of {index} say what their fields are: {error}; look at the cluster's health, then run it again"
    )


def _of_block(error: ServerError) -> Refusal | None:
    """Return the refusal for an index that cannot even be read, which fails a question about all of them."""
    found = _BLOCKED.search(str(error))
    if found is None or error.passing:
        return None
    hint = f"is blocked ({found[2]}), and so is each question that includes it: remove the block, then purge again"
    return _refusal("blocked", [found[1]], hint)


def _refusal(limit: str, names: list[str], hint: str) -> Refusal | None:
    told = ", ".join(names[:5])
    return Refusal(StoreLimit(f"elasticsearch_{limit}"), told, None, f"{told} {hint}") if names else None
