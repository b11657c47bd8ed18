"""Stands before a ClickHouse server as a coordinator that a test can end in the middle of a purge.

With `shards` it is a stand-in for Distributed DDL, too, which the engine of these tests does not have: it takes `ON CLUSTER`
out of a statement, and sends ALTER and KILL to one server of each shard that answers, all else to each server. Of the real
one it has neither the queue nor the table of hosts in the answer; a server that is down does not hear of it later.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_ON_CLUSTER = re.compile(rb"\bON CLUSTER `?\w+`?")
_ONE_A_SHARD = re.compile(rb"\b(ALTER|KILL)\b[^;]{0,400}?\bON CLUSTER\b")
_DOWN = b"HTTP/1.1 500 Error\r\nX-ClickHouse-Exception-Code: 210\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndown"


@dataclass
class Coordinator:
    """`dies_at` is a word: the server does what the first statement with it says, its answer is lost, and no other follows."""

    server: str
    shards: Sequence[Sequence[str]] = ()
    url: str = ""
    dies_at: bytes | None = None
    dead: bool = False
    sent: list[bytes] = field(default_factory=list)
    """The statements that change something."""

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await _body(reader, head)
            if not self.dead:
                answer = await self._answer(head, body)
                if self.dies_at is not None and self.dies_at in head + body:
                    self.dead = True
                else:
                    writer.write(answer)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # as if the server itself had been asked, and is down
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
        if b"ALTER TABLE" in body:
            self.sent.append(body)
        if not self.shards or not _ON_CLUSTER.search(body):
            return await _ask(self.server, head, body)
        statement, answer = _ON_CLUSTER.sub(b"", body), b""
        for shard in self.shards:
            for server in shard:
                try:
                    answer = await _ask(server, head, statement)
                except OSError:
                    continue
                if _ONE_A_SHARD.search(body):
                    break
        return answer or _DOWN


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = re.search(rb"(?i)content-length: (\d+)", head)
    if length:
        return await reader.readexactly(int(length[1]))
    body = b""
    if re.search(rb"(?i)transfer-encoding: chunked", head):
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return body


async def _ask(server: str, head: bytes, body: bytes) -> bytes:
    """Ask a server, by a connection of its own."""
    reader, writer = await asyncio.open_connection(urlsplit(server).hostname, urlsplit(server).port)
    head = re.sub(rb"(?i)\r\n(connection|content-length|transfer-encoding): [^\r]*", b"", head)
    end = b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    try:
        writer.write(head.removesuffix(b"\r\n\r\n") + end + body)
        answer = await reader.read()
    finally:
        writer.close()
    if not answer:
        raise ConnectionResetError
    answer_head, _, rest = answer.partition(b"\r\n\r\n")
    return re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", answer_head) + b"\r\nConnection: close\r\n\r\n" + rest


@asynccontextmanager
async def coordinating(server: str, shards: Sequence[Sequence[str]] = ()) -> AsyncIterator[Coordinator]:
    """Stand before a server."""
    coordinator = Coordinator(server, shards)
    listening = await asyncio.start_server(coordinator.pass_on, "127.0.0.1", 0)
    coordinator.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield coordinator
    finally:
        listening.close()
