"""A connection to ClickHouse's HTTP interface, by clickhouse-connect, which is an optional extra."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from retentiond.model.errors import UnreachableError
from retentiond.model.text import sentence
from retentiond.targets.chat_database.store_access import GRACE, StoreError, describe_outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.engine.target import Stop

_CONNECT_SECONDS: Final = 15
_WELCOME_SECONDS: Final = 60
"""For the first answers, which are quick: a server that takes longer accepts connections without answering."""
_ANSWER_SECONDS: Final = 900
"""A count over a large table takes long; no request waits for a mutation."""
_ANSWER_SIZE: Final = 4_000_000
"""Bytes of an answer that the server keeps in memory."""
_SETTINGS: Final = {
    # The official default, but not that of every server: a mutation is only recorded, and then polled.
    "mutations_sync": 0,
    # A count without a shard, or one that ends early, would be too small.
    "skip_unavailable_shards": 0,
    "limit": 0,
    "read_overflow_mode": "throw",
    "timeout_overflow_mode": "throw",
    "result_overflow_mode": "throw",
    "group_by_overflow_mode": "throw",
}
"""Settings that correct answers need, sent with each request: the profile of a user may have others."""
_YOUNG_SETTINGS: Final = {
    # Count the stored rows: all versions, without hidden ones, with those that a mutation has yet to delete.
    "apply_mutations_on_fly": 0,
    "apply_deleted_mask": 1,
    "apply_patch_parts": 1,
    "final": 0,
}
"""More of these settings, which older servers do not know and would refuse."""
_KNOWN: Final = "SELECT name FROM system.settings WHERE name IN {names:Array(String)}"
_KNOWN_MODE: Final = (
    "SELECT name FROM system.settings WHERE name = 'distributed_ddl_output_mode' "
    "AND position(description, {distributed_ddl_output_mode:String}) > 0"
)
_READING: Final = {"readonly": 2}
"""The server ends a read-only query as soon as its client disconnects."""
_ON_CLUSTER: Final = {"distributed_ddl_output_mode": "throw_only_active"}
"""A statement `ON CLUSTER` waits for the servers that are up; by default it waits three minutes for each dead one."""
_PARTLY_AWAY: Final = frozenset({32, 198, 209, 210, 236, 242, 279, 369, 999})
"""The error codes for another server of the cluster, or a Keeper, that does not answer."""
_STRANGERS: Final = frozenset({192, 193, 194, 516})
"""The error codes for a refused login."""
_FRAMES: Final = (
    re.compile(r"\A\s*Received ClickHouse exception, code: \d{1,6}, server response:\s*"),
    re.compile(r"\A\s*Code: \d{1,6}\. DB::Exception:\s*"),
    re.compile(r"\s*\(for url [^()\s]{0,300}\)\s*\Z"),
    re.compile(r"\s*\(version [^()]{0,80}(?:\([^()]{0,80}\))?[^()]{0,80}\)\s*\Z"),
)
"""Text around the server's message: the client's prefix, the number of the error, the version and the URL."""
_NEXT: Final = {
    159: "allow this user more time (max_execution_time), and run it again",
    202: "wait until it has less to do, or raise max_concurrent_queries, and run it again",
    241: "allow it more memory (max_memory_usage, max_server_memory_usage), and run it again",
    243: "make room on its disk, and run it again",
    497: "grant that right to this user, and run it again",
    692: "find out what blocks the table's other mutations (system.mutations), and run it again",
    774: "make the table writable, and run it again",
}


def said(text: str) -> str:
    """Return the message of the server on one line, without prefixes and suffixes."""
    for frame in _FRAMES:
        text = frame.sub("", text, count=1)
    return sentence(text, 500)


class ServerError(StoreError):
    """A refusal by the server, with its code."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code

    @property
    def in_words(self) -> str:
        """The refusal, and the next step."""
        return f"ClickHouse refused: {self}; {_NEXT.get(self.code or 0, 'repair that, and run it again')}"


def only_value(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return the one value of an answer; raise ServerError for an answer without rows."""
    if not rows:
        raise ServerError("it sent an empty answer", None)
    return next(iter(rows[0].values()))


class PartUnreachableError(UnreachableError):
    """The server answers, but another server of its cluster, or its Keeper, does not."""


class Server:
    """A connection to one server; raises UnreachableError for a lost server, and ServerError for a refusal."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url
        self._stop: Stop | None = None
        self._settings: dict[str, Any] = dict(_SETTINGS)

    async def learn(self) -> None:
        """Read the settings that the server knows, to send these, too."""
        rows = await self.rows(_KNOWN, {"names": list(_YOUNG_SETTINGS)})
        self._settings |= {row["name"]: _YOUNG_SETTINGS[row["name"]] for row in rows}
        if await self.rows(_KNOWN_MODE, _ON_CLUSTER):
            self._settings |= _ON_CLUSTER

    def heed(self, stop: Stop) -> None:
        """End each following query with StoppedError when a stop is requested, and other statements soon after."""
        self._stop = stop

    async def rows(
        self, statement: str, parameters: Mapping[str, Any], *, strict: bool = True
    ) -> list[dict[str, Any]]:
        """Return the rows of a query; without `strict` from the servers of a cluster that answer."""
        settings = self._settings | _READING | {"skip_unavailable_shards": int(not strict)}
        query = self._client.query(statement, parameters=dict(parameters), settings=settings)
        with _reaching(self._url):
            answer = await (query if self._stop is None else self._stop.unless_asked(query))
        return list(answer.named_results())

    async def do(self, statement: str, parameters: Mapping[str, Any]) -> str:
        """Send a statement other than a query, once; return the answer."""
        # The client's `command` would put the IDs of all chats into the URL.
        sent = self._client.raw_query(statement, parameters=dict(parameters), settings=self._settings)
        with _reaching(self._url):
            answer = await (sent if self._stop is None else self._stop.unless_asked(sent, GRACE))
        return str(answer.decode(errors="replace")).strip()


@asynccontextmanager
async def open_server(config: ClickHouseStore, url: str | None = None) -> AsyncIterator[Server]:
    """Open a connection to a URL, by default the first; raises UnreachableError."""
    from clickhouse_connect import get_async_client  # noqa: PLC0415 - an extra, loaded where it is asked for

    url = url or config.url[0]
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    with _welcomed(url), _reaching(url):
        async with asyncio.timeout(_WELCOME_SECONDS):
            client = await get_async_client(
                host=parts.hostname,
                port=parts.port or (8443 if secure else 8123),
                secure=secure,
                username=config.user or "default",
                password=config.password.get_secret_value() if config.password else "",
                proxy_path=parts.path.strip("/"),
                connect_timeout=_CONNECT_SECONDS,
                send_receive_timeout=_ANSWER_SECONDS,
                # Otherwise the server collects the answer in a file, and a full disk would truncate it.
                settings={"buffer_size": _ANSWER_SIZE},
                # The IDs of many chats are too long for a URL.
                form_encode_query_params=True,
            )
    server = Server(client, url)
    try:
        with _welcomed(url), _reaching(url):
            async with asyncio.timeout(_WELCOME_SECONDS):
                await server.learn()
        yield server
    finally:
        await client.close()


@contextmanager
def _welcomed(url: str) -> Iterator[None]:
    """Turn a refusal at the first connection into an UnreachableError."""
    try:
        yield
    except ServerError as error:
        if error.code in _STRANGERS:
            reason = f"refused the login: {error}; check `user` and `password`"
        else:
            reason = f"refused the first query: {error}; {_NEXT.get(error.code or 0, 'see its log, and run it again')}"
        raise UnreachableError(f"ClickHouse at {url} {reason}") from error


class _reaching:  # noqa: N801 - used like a function
    """Turn the client's errors into ours."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        from clickhouse_connect.driver.exceptions import (  # noqa: PLC0415 - as above
            ClickHouseError,
            DatabaseError,
            OperationalError,
        )

        if isinstance(error, DatabaseError) and not isinstance(error, OperationalError):
            message = said(str(error))
            if error.code in _PARTLY_AWAY:
                raise PartUnreachableError(
                    f"ClickHouse at {self._url} cannot reach all servers of its cluster, or its Keeper: {message}; "
                    "start them, and run it again"
                ) from error
            raise ServerError(message, error.code) from error
        if isinstance(error, ClickHouseError | OSError | TimeoutError):
            raise UnreachableError(f"ClickHouse at {self._url} {describe_outage(error)}") from error
