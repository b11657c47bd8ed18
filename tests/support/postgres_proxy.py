"""Programs between retentiond and PostgreSQL: a proxy that falls silent, and a pooler in transaction mode."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from retentiond.adapters.postgres import connect
from retentiond.ledger import session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


class PostgresProxy:
    """`dsn` leads through the proxy; `taken` counts the bytes that it was sent, from both sides."""

    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.dsn = ""
        self.taken = 0

    def fall_silent(self) -> None:
        """Take everything from now on, new connections too, and pass on nothing."""
        self._speaks.clear()

    def speak(self) -> None:
        """Pass on again what is sent."""
        self._speaks.set()

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            await self._speaks.wait()
            other_reader, other = await asyncio.open_connection(self._server.hostname, self._server.port)
            writers.append(other)
            await asyncio.gather(self._pass_on(reader, other), self._pass_on(other_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for one in writers:
                one.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            self.taken += len(data)
            await self._speaks.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError

    async def close(self) -> None:
        """End all connections."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def at(self, port: int) -> None:
        """Take the proxy's own port into its URL."""
        credentials = self._server.netloc.rpartition("@")[0]
        place = f"127.0.0.1:{port}"
        self.dsn = self._server._replace(netloc=f"{credentials}@{place}" if credentials else place).geturl()


@asynccontextmanager
async def proxy_before(server: str) -> AsyncIterator[PostgresProxy]:
    """Put a proxy before a server, given by its URL."""
    proxy = PostgresProxy(server)
    listener = await asyncio.start_server(proxy.run, "127.0.0.1", 0)
    proxy.at(listener.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        listener.close()
        await proxy.close()


class _Pooled:
    def __init__(self, backends: list[Any]) -> None:
        self._backends = backends
        self._turn = 0

    async def fetchval(self, *arguments: Any, **keywords: Any) -> Any:
        self._turn += 1
        return await self._backends[self._turn % 2].fetchval(*arguments, **keywords)

    def terminate(self) -> None:
        for backend in self._backends:
            backend.terminate()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backends[0], name)


def pool_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the pooler before every session that is opened from now on."""

    async def connect_pooled(*arguments: Any, **keywords: Any) -> Any:
        return _Pooled([await connect(*arguments, **keywords) for _ in range(2)])

    monkeypatch.setattr(session, "connect", connect_pooled)
