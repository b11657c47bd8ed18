"""Several URLs of one search: which server is asked, and what is sent to one alone."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.config.chat_stores import ElasticsearchStore
from retentiond.model.errors import UnreachableError, UsageError
from retentiond.targets.chat_database.search import store
from retentiond.targets.chat_database.search.client import Cluster, NotSentError, ServerError, with_port
from retentiond.targets.chat_database.search.store import open_search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

A, B = "http://a:9200", "http://b:9200"
SAME = Cluster("opensearch", "one")


class Node:
    """A server that answers with its URL, or fails."""

    def __init__(self, url: str, heard: list[str], errors: Mapping[str, Exception]) -> None:
        self._url = url
        self._heard = heard
        self._errors = errors

    async def ask(self, method: str, path: str, body: Any = None, **_: Any) -> Any:
        self._heard.append(f"{method} {self._url}{path}")
        if self._url in self._errors:
            raise self._errors[self._url]
        return {"url": self._url}


@asynccontextmanager
async def searching(
    monkeypatch: pytest.MonkeyPatch,
    heard: list[str],
    errors: Mapping[str, Exception],
    clusters: Mapping[str, Cluster | Exception] | None = None,
) -> AsyncIterator[store.Servers]:
    @asynccontextmanager
    async def open_node(config: ElasticsearchStore, url: str) -> AsyncIterator[tuple[Node, Cluster]]:
        cluster = (clusters or {}).get(url, SAME)
        if isinstance(cluster, Exception):
            raise cluster
        yield Node(url, heard, errors), cluster

    monkeypatch.setattr(store, "open_node", open_node)
    async with open_search(ElasticsearchStore(url=[A, B], index="chats")) as search:
        yield search


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("lost"),
        ServerError("cluster_block_exception: [SERVICE_UNAVAILABLE/2/no cluster manager]", 503),
        ServerError("node_not_connected_exception: [n1] Node not connected", 500),
        ServerError("es_rejected_execution_exception", 429),
    ],
)
async def test_a_server_that_cannot_answer_now_is_replaced_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    heard: list[str] = []
    async with searching(monkeypatch, heard, {A: error}) as search:
        assert [await search.ask("GET", "/x"), await search.ask("GET", "/y")] == [{"url": B}] * 2
    # It stays with the one that answered.
    assert heard == [f"GET {A}/x", f"GET {B}/x", f"GET {B}/y"]


async def test_a_start_that_may_have_begun_is_sent_to_no_other_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []
    async with searching(monkeypatch, heard, {A: UnreachableError("lost")}) as search:
        with pytest.raises(UnreachableError):
            await search.ask("POST", "/_delete_by_query", mark="ours")
        # What is asked next is asked elsewhere.
        assert await search.ask("GET", "/_tasks") == {"url": B}
    assert heard == [f"POST {A}/_delete_by_query", f"GET {B}/_tasks"]


async def test_a_start_that_was_never_sent_goes_to_the_next_server(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    async with searching(monkeypatch, heard, {A: NotSentError("refused")}) as search:
        assert await search.ask("POST", "/_delete_by_query", mark="ours") == {"url": B}


async def test_where_no_server_answers_each_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: dict[str, Exception] = {A: UnreachableError("a is lost"), B: UnreachableError("b is lost")}
    async with searching(monkeypatch, [], errors) as search:
        with pytest.raises(UnreachableError, match=r"2 tried.*a is lost; b is lost"):
            await search.ask("GET", "/x")


@pytest.mark.parametrize("other", [Cluster("opensearch", "another"), Cluster(None, "one")])
async def test_servers_of_two_clusters_are_refused_before_any_is_asked(
    monkeypatch: pytest.MonkeyPatch, other: Cluster
) -> None:
    with pytest.raises(UsageError, match="different clusters"):
        async with searching(monkeypatch, [], {}, {B: other}):
            pass


async def test_a_server_that_turns_out_to_be_of_another_cluster_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []
    clusters: dict[str, Cluster | Exception] = {B: UnreachableError("b is down at first")}
    errors: dict[str, Exception] = {}
    async with searching(monkeypatch, heard, errors, clusters) as search:
        assert await search.ask("GET", "/x") == {"url": A}
        clusters[B] = Cluster("opensearch", "another")
        errors[A] = UnreachableError("a is lost")
        with pytest.raises(UnreachableError, match="different clusters"):
            await search.ask("POST", "/_refresh")
    assert heard == [f"GET {A}/x", f"POST {A}/_refresh"]


@pytest.mark.parametrize(
    "error",
    [
        ServerError("index_not_found_exception", 404),
        ServerError("cluster_block_exception: index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage]", 429),
        ServerError("security_exception", 403),
    ],
)
async def test_a_request_that_is_refused_is_refused_by_all_and_asked_once(
    monkeypatch: pytest.MonkeyPatch, error: ServerError
) -> None:
    heard: list[str] = []
    async with searching(monkeypatch, heard, {A: error}) as search:
        with pytest.raises(ServerError):
            await search.ask("GET", "/x")
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://host", "http://host:9200"),
        ("https://host/path", "https://host:443/path"),
        ("http://[::1]", "http://[::1]:9200"),
        ("http://host:80", "http://host:80"),
    ],
)
def test_a_url_without_a_port_has_the_usual_one(url: str, whole: str) -> None:
    assert with_port(url) == whole
