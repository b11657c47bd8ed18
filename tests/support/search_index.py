"""An index of chats in a search server that a test writes, and purges of it."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from retentiond.config.chat_stores import ElasticsearchStore
from retentiond.engine.target import NullProgress
from retentiond.targets.chat_database.search.store import Elasticsearch, open_elasticsearch
from retentiond.targets.chat_database.store_access import PollPolicy
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from retentiond.model.purge import StoreReport

INDEX = "retentiond-test"
QUICK = PollPolicy(between=0.05, recovery=0.5)
_RATE = 50_000
SLOW = 20
"""Documents a second: what must be under way still, whenever somebody looks."""
SHARDS = 2
"""Of the index, and so the slices of a purge."""
_SETTINGS: dict[str, Any] = {
    "number_of_shards": SHARDS,
    "number_of_replicas": 0,
    # A test says itself when something becomes visible.
    "refresh_interval": "-1",
}
_MAPPING: dict[str, dict[str, Any] | None] = {
    "account": {"type": "keyword"},
    "created": {"type": "date"},
    "threadid": {"type": "long"},
    "text": {"type": "text"},
}


class Watching(NullProgress):
    """Who watches a purge: how many documents are gone, as it tells."""

    def __init__(self) -> None:
        self.gone = 0
        self._some = asyncio.Event()

    def advance(self, items: int, size: int = 0) -> None:
        self.gone += items
        if items:
            self._some.set()

    async def until_some_are_gone(self) -> None:
        """Wait until it tells of the first."""
        await self._some.wait()


class Chats:
    """An index of chats, made anew for each test."""

    def __init__(self, url: str) -> None:
        self.config = ElasticsearchStore(url=url, index=INDEX, thread_field="threadid")

    async def ask(self, method: str, path: str, body: Any = None, **parameters: str) -> Any:
        """Ask the server something; raises HTTPError."""
        sent = None if body is None else json.dumps(body).encode()
        return await self._send(method, f"{path}?{urlencode(parameters)}", sent, "application/json")

    async def _send(self, method: str, path: str, body: bytes | None, kind: str) -> Any:
        request = Request(self.config.url[0] + path, body, {"Content-Type": kind}, method=method)

        def send() -> Any:
            with urlopen(request, timeout=60) as answer:
                return json.load(answer)

        return await asyncio.to_thread(send)

    async def remove(self, path: str) -> None:
        """Remove something that may not be there."""
        with suppress(HTTPError):
            await self.ask("DELETE", path)

    async def make(
        self, index: str = INDEX, settings: dict[str, Any] | None = None, **changes: dict[str, Any] | None
    ) -> None:
        """Make an index, empty; a change is a field's mapping in place of the usual one."""
        await self.remove(f"/{index}")
        properties = {
            field: mapping for field, mapping in (_MAPPING | changes).items() if mapping is not None
        }
        body = {"settings": _SETTINGS | (settings or {}), "mappings": {"properties": properties}}
        await self.ask("PUT", f"/{index}", body, wait_for_active_shards="0" if settings else "1")

    async def alias(self, index: str, name: str, **more: Any) -> None:
        """Give an index another name."""
        await self.ask("POST", "/_aliases", {"actions": [{"add": {"index": index, "alias": name, **more}}]})

    async def change_unseen(self, *chats: int, index: str = INDEX) -> None:
        """Change what is there of some chats, without making that visible: a purge conflicts over it."""
        query = {"query": {"terms": {"threadid": list(chats)}}, "_source": False}
        answer = await self.ask("POST", f"/{index}/_search", query)
        for hit in answer["hits"]["hits"]:
            change = {"doc": {"text": secrets.token_hex(8)}}
            await self.ask("POST", f"/{index}/_update/{hit['_id']}", change, refresh="false")

    async def add(
        self,
        account: str | list[str] = "acme",
        *,
        first: datetime,
        count: int,
        every: timedelta = timedelta(hours=1),
        index: str = INDEX,
        **fields: Any,
    ) -> None:
        """Add documents, one every so often; their chats are numbered from 1."""
        lines: list[dict[str, Any]] = []
        for number in range(count):
            moment = (first + number * every).isoformat().replace("+00:00", "Z")
            document = {
                "account": account,
                "created": moment,
                "threadid": number + 1,
                "text": "x" * 20,
            } | fields
            lines += [{"index": {}}, {key: value for key, value in document.items() if value is not None}]
        await self.bulk(lines, index, "?refresh=true")

    async def bulk(self, lines: list[dict[str, Any]], index: str = INDEX, parameters: str = "") -> None:
        """Send lines of a bulk; what the server says of a line is in its answer."""
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        answer = await self._send("POST", f"/{index}/_bulk{parameters}", body, "application/x-ndjson")
        assert not answer["errors"], answer

    async def chats(self, account: str) -> set[int]:
        """Return the chats of an account that are there."""
        query = {"query": {"term": {"account": account}}, "size": 1000, "_source": ["threadid"]}
        answer = await self.ask("POST", f"/{INDEX}/_search", query)
        return {hit["_source"]["threadid"] for hit in answer["hits"]["hits"]}

    async def left(self, account: str = "acme", index: str = INDEX) -> int:
        """Count an account's documents."""
        await self.ask("POST", f"/{index}/_refresh")
        answer = await self.ask("POST", f"/{index}/_count", {"query": {"term": {"account": account}}})
        return int(answer["count"])

    @asynccontextmanager
    async def opened(
        self, rate: int = _RATE, patience: PollPolicy = QUICK, **changes: Any
    ) -> AsyncIterator[Elasticsearch]:
        """Open the store; a `url` may be one or several."""
        given = self.config.model_dump() | changes
        async with open_elasticsearch(ElasticsearchStore.model_validate(given), rate, patience) as store:
            yield store

    async def purge(self, purge: Purge | None = None, **changes: Any) -> StoreReport:
        """Purge, and record it."""
        purge = purge or Purge("acme", CUTOFF)
        async with self.opened(**changes) as store:
            report = await store.purge(purge, NullProgress())
        purge.notes.record(report)
        return report

    async def tasks(self) -> list[dict[str, Any]]:
        """Return the purges that run."""
        return [task for task in await self._running() if "parent_task_id" not in task]

    async def _running(self) -> list[dict[str, Any]]:
        answer = await self.ask("GET", "/_tasks", actions="*/delete/byquery", detailed="true")
        return [task for node in answer.get("nodes", {}).values() for task in node["tasks"].values()]

    async def result(self, task: str) -> Any | None:
        """Return what the server says of a task; None where it knows nothing of it."""
        try:
            return await self.ask("GET", f"/_tasks/{task}")
        except HTTPError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return None

    async def until_running(self) -> None:
        """Wait until a purge runs."""
        while not await self.tasks():
            await asyncio.sleep(0.02)

    async def until_pausing(self) -> None:
        """Wait until each slice of a slow purge has deleted its first batch, and waits before its next."""
        slices: list[dict[str, Any]] = []
        while len(slices) < SHARDS or not all(each["status"]["deleted"] for each in slices):
            await asyncio.sleep(0.02)
            slices = [task for task in await self._running() if "parent_task_id" in task]

    async def hurry(self) -> None:
        """Let the purges that run be as fast as they can."""
        for task in await self.tasks():
            name = f"{task['node']}:{task['id']}"
            await self.ask("POST", f"/_delete_by_query/{name}/_rethrottle", requests_per_second="-1")
