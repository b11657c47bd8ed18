"""A connection to Elasticsearch or OpenSearch, by the official client of the software that the server reports."""

from __future__ import annotations

import logging
import warnings
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from retentiond.model.errors import UnreachableError, UsageError
from retentiond.model.text import printable, sentence
from retentiond.targets.chat_database.store_access import (
    GRACE,
    StoreError,
    describe_outage,
    never_sent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.engine.target import Stop

_ANSWER_SECONDS: Final = 60
_HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/json"}
_NOT_FOUND: Final = 404
_REFUSED_LOGINS: Final = frozenset({401, 403})
_OVERLOADED: Final = frozenset({429, 502, 503, 504})
_REJECTED: Final = 429
_NO_CLUSTER: Final = "_na_"
_BLOCKED: Final = "cluster_block_exception"
_NOT_NOW: Final = "SERVICE_UNAVAILABLE"
"""The text of a block that the servers lift by themselves, without a leader or a recovered state."""
_LOST_NODES: Final = (
    "node_disconnected_exception",
    "node_not_connected_exception",
    "node_closed_exception",
    "connect_transport_exception",
    "receive_timeout_transport_exception",
    "no_shard_available_action_exception",
)
"""Error types, with any status, for a server that its cluster has lost."""


class ServerError(StoreError):
    """A refusal by the server, with its status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def in_words(self) -> str:
        """The refusal as reports show it."""
        return f"the search refused: {self}"

    @property
    def passing(self) -> bool:
        """Whether the reason is a lack of servers or of time, and not the request."""
        if _BLOCKED in str(self):
            return _NOT_NOW in str(self)
        return self.status in _OVERLOADED or any(kind in str(self) for kind in _LOST_NODES)


class NotSentError(UnreachableError):
    """The server cannot be reached, or rejected the request before it began."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of a server: its software (None: Elasticsearch) and its UUID, if the server reports one."""

    distribution: str | None
    uuid: str | None


class Search(Protocol):
    """Sends requests; raises UnreachableError for a lost server, and ServerError for a refusal."""

    async def ask(
        self, method: str, path: str, body: Any = None, *, mark: str | None = None, **parameters: str
    ) -> Any:
        """Return the answer to one request, which is sent once; `mark` is its X-Opaque-Id."""


class Heeding:
    """Sends requests, and ends one with StoppedError soon after a stop is requested."""

    def __init__(self, search: Search, stop: Stop) -> None:
        self._search = search
        self._stop = stop

    async def ask(
        self, method: str, path: str, body: Any = None, *, mark: str | None = None, **parameters: str
    ) -> Any:
        """Return the answer to one request."""
        return await self._stop.unless_asked(
            self._search.ask(method, path, body, mark=mark, **parameters), GRACE
        )


async def ask_for(search: Search, method: str, path: str, body: Any = None, **parameters: str) -> Any | None:
    """Send a request; return None if the requested object does not exist."""
    try:
        return await search.ask(method, path, body, **parameters)
    except ServerError as error:
        if error.status != _NOT_FOUND:
            raise
        return None


@asynccontextmanager
async def open_node(config: ElasticsearchStore, url: str) -> AsyncIterator[tuple[Search, Cluster]]:
    """Open a connection to one server with the client of its software; raises UnreachableError and UsageError."""
    # Extras, loaded where they are needed.
    from elasticsearch import AsyncElasticsearch  # noqa: PLC0415
    from opensearchpy import AsyncOpenSearch  # noqa: PLC0415

    # Both clients accept any server at first; this one also accepts the answers of the other software.
    client = AsyncOpenSearch([with_port(url)], **_opensearch_options(config))
    try:
        search: Search = _OpenSearch(client, url)
        with _configured(config, url):
            cluster = await _cluster(search, url)
        if cluster.distribution == "opensearch":
            yield search, cluster
            return
    finally:
        await client.close()
    with _configured(config, url):
        official = AsyncElasticsearch([with_port(url)], **_elasticsearch_options(config))
    try:
        yield _Elasticsearch(official, url), cluster
    finally:
        await official.close()


def load_clients() -> None:
    """Load the clients, and keep their warnings and logs quiet."""
    from elasticsearch import ElasticsearchWarning  # noqa: PLC0415 - an extra
    from opensearchpy import OpenSearchWarning  # noqa: PLC0415 - an extra

    # Warnings of deprecation are not for administrators.
    for category in (ElasticsearchWarning, OpenSearchWarning):
        warnings.simplefilter("ignore", category)
    # Neither are their logs of expected refusals, and of outages, which the purge reports.
    for name in ("opensearch", "elastic_transport"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def with_port(url: str) -> str:
    """Return a URL with its port, since one of the clients has no default."""
    parts = urlsplit(url)
    if parts.port is not None:
        return url
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return urlunsplit(parts._replace(netloc=f"{host}:{443 if parts.scheme == 'https' else 9200}"))


@contextmanager
def _configured(config: ElasticsearchStore, url: str) -> Iterator[None]:
    """Turn a client's error about its options into a UsageError."""
    from opensearchpy import ImproperlyConfigured  # noqa: PLC0415 - as above

    try:
        yield
    except (ImproperlyConfigured, OSError, ValueError) as error:
        raise UsageError(
            f"no connection can be made to {url}: {sentence(str(error), 300)}; check `ca_file`, {config.ca_file}"
        ) from error


async def _cluster(search: Search, url: str) -> Cluster:
    """Return the cluster of the server; raises UnreachableError if it refuses, or is not a search server."""
    try:
        about = await search.ask("GET", "/")
    except ServerError as error:
        raise UnreachableError(f"the search at {url} {_no_at_the_door(error)}") from error
    version = about.get("version") if isinstance(about, dict) else None
    if not isinstance(version, dict):
        raise UnreachableError(f"the server at {url} is neither Elasticsearch nor OpenSearch; check `url`")
    uuid = about.get("cluster_uuid")
    if uuid == _NO_CLUSTER:
        raise UnreachableError(
            f"the search at {url} has joined no cluster yet; wait until it has, then try again"
        )
    return Cluster(version.get("distribution"), uuid)


def _no_at_the_door(error: ServerError) -> str:
    if error.status in _REFUSED_LOGINS:
        return f"refused the login: {error}; check `user` and `password`, or `api_key`"
    if error.passing:
        return f"accepts no requests now: {error}; wait until it has started, or is less busy, then try again"
    return f"did not answer like a search server: {error}; check `url`, and any proxy in front of it"


def _options(config: ElasticsearchStore, timeout: str, login: str) -> dict[str, Any]:
    """Return the options of both clients; `timeout` and `login` are their names of two options."""
    options: dict[str, Any] = {timeout: _ANSWER_SECONDS, "max_retries": 0, "retry_on_timeout": False}
    if config.api_key is None and config.user is not None:
        options[login] = (config.user, config.password.get_secret_value() if config.password else "")
    if config.ca_file is not None:
        options["ca_certs"] = str(config.ca_file)
    return options


def _opensearch_options(config: ElasticsearchStore) -> dict[str, Any]:
    options = _options(config, "timeout", "http_auth")
    if config.api_key is not None:
        options["headers"] = {"Authorization": f"ApiKey {config.api_key.get_secret_value()}"}
    return options


def _elasticsearch_options(config: ElasticsearchStore) -> dict[str, Any]:
    options = _options(config, "request_timeout", "basic_auth")
    if config.api_key is not None:
        options["api_key"] = config.api_key.get_secret_value()
    return options


def _unreachable(url: str, error: Exception) -> UnreachableError:
    kind = NotSentError if never_sent(error) else UnreachableError
    return kind(f"the search at {url} {describe_outage(error)}")


def refused_for_now(url: str, error: ServerError) -> UnreachableError:
    """Return the error of a server that accepts no requests now."""
    kind = NotSentError if error.status == _REJECTED else UnreachableError
    return kind(f"the search at {url} {_no_at_the_door(error)}")


def _json(answer: Any) -> Any:
    """Return an answer; raises ServerError for the answer of a proxy."""
    if not isinstance(answer, dict | list):
        raise ServerError(f"this is not an answer of a search server: {printable(str(answer), 100)}", 200)
    return answer


def said(kind: object, body: object) -> str:
    """Return the server's description of an error: its kind, its reason and the reason below it."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return sentence(f"{kind}: {error or body}", 500)
    words = [str(error.get("type") or kind), str(error.get("reason") or "")]
    for below in (
        error.get("caused_by"),
        *(error.get("root_cause") or ()),
        *(error.get("failed_shards") or ()),
    ):
        found = below.get("reason") if isinstance(below, dict) else None
        reason = found.get("reason") if isinstance(found, dict) else found
        if isinstance(reason, str) and reason not in words:
            words.append(reason)
    return sentence(": ".join(filter(None, words)), 500)


def _headers(mark: str | None) -> Mapping[str, str]:
    return _HEADERS if mark is None else {**_HEADERS, "X-Opaque-Id": mark}


class _OpenSearch:
    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    async def ask(
        self, method: str, path: str, body: Any = None, *, mark: str | None = None, **parameters: str
    ) -> Any:
        from opensearchpy.exceptions import OpenSearchException, TransportError  # noqa: PLC0415

        try:
            answer = await self._client.transport.perform_request(
                method, path, params=dict(parameters), headers=dict(_headers(mark)), body=body
            )
        except TransportError as error:
            if isinstance(error.status_code, int):
                raise ServerError(said(error.error, error.info), error.status_code) from error
            raise _unreachable(self._url, error) from error
        except OpenSearchException as error:
            raise _unreachable(self._url, error) from error
        return _json(answer)


class _Elasticsearch:
    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    async def ask(
        self, method: str, path: str, body: Any = None, *, mark: str | None = None, **parameters: str
    ) -> Any:
        from elasticsearch import ApiError, TransportError  # noqa: PLC0415

        try:
            answer = await self._client.perform_request(
                method, path, params=dict(parameters), headers=dict(_headers(mark)), body=body
            )
        except ApiError as error:
            raise ServerError(said(error.message, error.body), error.status_code) from error
        except TransportError as error:
            raise _unreachable(self._url, error) from error
        return _json(answer.body)
