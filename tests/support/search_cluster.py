"""A real search cluster of several nodes on this machine that the environment names, and the deaths of its nodes."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

URLS = "RETENTIOND_TEST_SEARCH_CLUSTER"
"""The URLs of all nodes, with blanks between them."""
START = "RETENTIOND_TEST_SEARCH_CLUSTER_START"
"""The command that starts the nodes that are down, and ends once the cluster is green."""


class SearchCluster:
    """Nodes that may be killed: the command brings them back, with their data."""

    def __init__(self, urls: list[str], start: str) -> None:
        self.urls = urls
        self._start = start

    async def kill(self, url: str) -> None:
        """Kill a node as a power cut would."""
        os.kill(await self._process(url), signal.SIGKILL)

    @asynccontextmanager
    async def hanging(self, url: str) -> AsyncIterator[None]:
        """Let a node hang: it takes connections, and answers nothing; then let it go on."""
        process = await self._process(url)
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    async def _process(self, url: str) -> int:
        answer = await _ask(url, "/_nodes/_local/process")
        (node,) = answer["nodes"].values()
        return int(node["process"]["id"])

    async def revive(self) -> None:
        """Start whatever is down, and wait until the cluster is whole."""
        await asyncio.to_thread(
            subprocess.run, shlex.split(self._start), check=True, stdout=subprocess.DEVNULL, timeout=400
        )

    async def data_node(self, index: str) -> str:
        """Return the URL of a node that has a primary copy of the index, other than the first."""
        copies = await _ask(self.urls[0], f"/_cat/shards/{index}?format=json")
        names = {copy["node"] for copy in copies if copy["prirep"] == "p"}
        for url in self.urls[1:]:
            if (await _ask(url, "/"))["name"] in names:
                return url
        raise AssertionError(f"all of {index} is on the first node")


async def _ask(url: str, path: str) -> Any:
    def ask() -> Any:
        with urlopen(url + path, timeout=60) as answer:
            return json.load(answer)

    return await asyncio.to_thread(ask)
