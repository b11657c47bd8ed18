"""The servers of ClickHouse: those of clusters, and those in `url`, which are asked in turn until one answers."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeVar

from retentiond.adapters.logging import get_logger
from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.clickhouse.connection import PartUnreachableError, Server, open_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from retentiond.config.chat_stores import ClickHouseStore
    from retentiond.engine.target import Stop


_MACRO: Final = re.compile(r"\{(\w+)\}")
T = TypeVar("T")
_ROUNDS: Final = 2
"""How often each URL is tried before all of them are given up."""
_BETWEEN_ROUNDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Node:
    """A server of a cluster; `number` is its place in the cluster, as in `_shard_num` of `clusterAllReplicas`."""

    number: int
    shard: int
    host: str
    port: int
    loopback: bool
    local: bool

    @property
    def name(self) -> str:
        """The name in reports."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Clusters = dict[str, tuple[Node, ...]]


def read_clusters(rows: Iterable[Mapping[str, Any]]) -> Clusters:
    """Read rows of `system.clusters`, in order. A server that a cluster lists twice counts once, as in ClickHouse."""
    found: dict[str, dict[tuple[str, int], Node]] = {}
    for row in rows:
        nodes = found.setdefault(row["cluster"], {})
        where = (row["host_name"], int(row["port"]))
        if where not in nodes:
            loopback = _is_loopback(row["host_name"], row["host_address"])
            shard = int(row["shard_num"])
            nodes[where] = Node(len(nodes) + 1, shard, *where, loopback, bool(row["is_local"]))
    return {name: tuple(nodes.values()) for name, nodes in found.items()}


def _is_loopback(host: str, address: str) -> bool:
    try:
        return ip_address(address or host).is_loopback
    except ValueError:
        return host == "localhost"


def expand(name: str, macros: Mapping[str, str]) -> str:
    """Replace macros of the server, such as `{cluster}`, by their values; unknown macros stay."""
    return _MACRO.sub(lambda found: macros.get(found[1], found[0]), name)


@asynccontextmanager
async def open_servers(config: ClickHouseStore) -> AsyncIterator[Servers]:
    """Open the first URL that answers; raises UnreachableError."""
    servers = Servers(config)
    try:
        await servers.connect()
        yield servers
    finally:
        await servers.close()


class Servers:
    """Queries one server, and switches to the next if it does not answer.

    `admit` is called with each server to switch to, and raises UnreachableError for a server with other data.
    """

    def __init__(self, config: ClickHouseStore) -> None:
        self._config = config
        self._at = 0
        self._opened = AsyncExitStack()
        self._server: Server | None = None
        self._stop: Stop | None = None
        self.admit: Callable[[Server], Awaitable[None]] | None = None

    @property
    def several(self) -> bool:
        """Whether there is another URL to switch to."""
        return len(self._config.url) > 1

    def heed(self, stop: Stop) -> None:
        """End each query on any server as soon as a stop is requested."""
        self._stop = stop
        if self._server is not None:
            self._server.heed(stop)

    async def connect(self) -> None:
        """Connect to the first server that answers."""
        await self._ask(_nothing)

    async def close(self) -> None:
        """Close the connection."""
        self._server, opened, self._opened = None, self._opened, AsyncExitStack()
        await opened.aclose()

    async def rows(
        self, statement: str, parameters: Mapping[str, Any], *, strict: bool = True
    ) -> list[dict[str, Any]]:
        """Return the rows of a query, from the first server that answers."""
        return await self._ask(lambda server: server.rows(statement, parameters, strict=strict))

    async def do(self, statement: str, parameters: Mapping[str, Any]) -> str:
        """Send a statement other than a query, once.

        After an UnreachableError it may have arrived or not; the following queries go to the next server.
        """
        if self.several:
            # If the server is dead already, find out before sending: then the statement cannot have arrived.
            await self._ask(lambda server: server.rows("SELECT 1", {}))
        try:
            return await (await self._connected()).do(statement, parameters)
        except UnreachableError as lost:
            await self._leave(lost)
            raise

    async def insist(self, statement: str, parameters: Mapping[str, Any]) -> str:
        """Send a statement that may arrive twice, until a server answers it."""
        return await self._ask(lambda server: server.do(statement, parameters))

    async def others(self) -> AsyncIterator[Server]:
        """Yield each other server that answers."""
        for context, url in enumerate(self._config.url):
            if context != self._at:
                try:
                    async with open_server(self._config, url) as server:
                        yield server
                except UnreachableError:
                    continue

    async def _ask(self, question: Callable[[Server], Awaitable[T]]) -> T:
        urls = len(self._config.url)
        tries = _ROUNDS * urls if self.several else 1
        for attempt in range(1, tries + 1):
            try:
                return await question(await self._connected())
            except PartUnreachableError:
                raise
            except UnreachableError as lost:
                if attempt == tries:
                    raise
                await self._leave(lost)
            if attempt % urls == 0:
                await self._pause()
        raise AssertionError("a server was asked less than once")

    async def _connected(self) -> Server:
        if self._server is None:
            opening = self._open()
            self._server = await (opening if self._stop is None else self._stop.unless_asked(opening))
        return self._server

    async def _open(self) -> Server:
        async with AsyncExitStack() as opened:
            server = await opened.enter_async_context(open_server(self._config, self._config.url[self._at]))
            if self._stop is not None:
                server.heed(self._stop)
            if self.admit is not None:
                await self.admit(server)
            self._opened = opened.pop_all()
        return server

    async def _leave(self, lost: UnreachableError) -> None:
        if self.several:
            await self.close()
            self._at = (self._at + 1) % len(self._config.url)
            get_logger(store="clickhouse").warning(
                "store_server_lost", error=str(lost), next=self._config.url[self._at]
            )

    async def _pause(self) -> None:
        await (asyncio.sleep(_BETWEEN_ROUNDS) if self._stop is None else self._stop.wait(_BETWEEN_ROUNDS))


async def _nothing(_server: Server) -> None:
    """Ask nothing: a connection is all that is wanted."""
