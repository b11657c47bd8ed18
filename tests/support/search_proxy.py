"""Stands before a search server: sees what it is asked, does something first, loses an answer, or gives another."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@dataclass
class SearchProxy:
    """What stands between; each word is one that the request's line has in it."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    """The lines of all requests."""
    first: dict[str, Callable[[], Awaitable[Any]]] = field(default_factory=dict)
    """What is done before the server hears of a request."""
    lost: set[str] = field(default_factory=set)
    """What the server does, while its answer is lost."""
    instead: dict[str, Any] = field(default_factory=dict)
    """What is answered in the server's place."""
    unheard: set[str] = field(default_factory=set)
    """What nobody hears or answers, as long as this stands here."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def times(self, word: str) -> int:
        """Count the requests with a word."""
        return sum(word in line for line in self.asked)

    async def pass_on(self, server: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        line = head.partition(b"\r\n")[0].decode()
        self.asked.append(line)
        for word, action in list(self.first.items()):
            if word in line:
                await action()
        if any(word in line for word in self.unheard):
            await self.over.wait()
            writer.close()
            return
        answer = next(
            (json.dumps(told).encode() for word, told in self.instead.items() if word in line), None
        )
        if answer is None:
            answer = await _answer(server, head, body)
        else:
            kind = (
                b"Content-Type: application/json\r\nX-Elastic-Product: Elasticsearch\r\nConnection: close\r\n"
            )
            answer = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (kind, len(answer), answer)
        if not any(word in line for word in self.lost):
            writer.write(answer)
        writer.close()


async def _answer(server: str, head: bytes, body: bytes) -> bytes:
    """Ask the server, by a connection of its own."""
    reader, writer = await asyncio.open_connection(urlsplit(server).hostname, urlsplit(server).port)
    writer.write(_last(head) + body)
    try:
        return _last(await reader.read())
    finally:
        writer.close()


def _last(message: bytes) -> bytes:
    """Say in a request, or an answer, that the connection ends with it."""
    head, end, body = message.partition(b"\r\n\r\n")
    head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)
    return head + b"\r\nConnection: close" + end + body


@asynccontextmanager
async def standing_before(server: str) -> AsyncIterator[SearchProxy]:
    """Stand before a server."""
    proxy = SearchProxy()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await proxy.pass_on(server, reader, writer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        proxy.over.set()
        listening.close()
