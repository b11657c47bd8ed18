"""What `check-config --connect` says of a search index: its server, and the documents of each account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.check import AccountRows, StoreOverview
from retentiond.model.text import printable
from retentiond.targets.chat_database.search.index import THERE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.search.client import Search

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def look(
    search: Search, path: str, config: ElasticsearchStore, accounts: Sequence[str]
) -> StoreOverview:
    """Count the documents of each account in the index at a path, or in all behind an alias."""
    version = (await search.ask("GET", "/"))["version"]
    product = "OpenSearch" if version.get("distribution") == "opensearch" else "Elasticsearch"
    groups = (await search.ask("GET", f"{path}/_search_shards", **THERE))["shards"]
    found = {account: await _of_account(search, path, config, account) for account in accounts}
    return StoreOverview(
        "elasticsearch",
        f"{product} {printable(str(version.get('number')), 40)}",
        found,
        shards=len(groups),
        replicas=sum(map(len, groups)),
    )


async def _of_account(search: Search, path: str, config: ElasticsearchStore, account: str) -> AccountRows:
    question: dict[str, Any] = {
        "size": 0,
        "track_total_hits": True,
        "query": {"term": {config.account_field: account}},
        "aggs": {"oldest": {"min": {"field": config.date_field}}},
    }
    answer = await search.ask(
        "POST", f"{path}/_search", question, allow_partial_search_results="false", **THERE
    )
    oldest = answer["aggregations"]["oldest"]["value"]
    day = None if oldest is None else (_EPOCH + timedelta(milliseconds=oldest)).date().isoformat()
    return AccountRows(int(answer["hits"]["total"]["value"]), day)
