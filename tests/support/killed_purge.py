"""A purge of chats as a process of its own, which a test ends in the middle, and what the proof of disposal says of it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import TO_DATE

if TYPE_CHECKING:
    import signal
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.chats import ChatStore


class KilledPurge:
    """A purge by hand of the account, in the database and one store beside it."""

    def __init__(self, chats: ChatStore, tmp_path: Path, flag: str, **stores: Any) -> None:
        self._chats = chats
        self._flag = flag
        self._path = tmp_path / "config.yaml"
        target = {
            "kind": "chat_database",
            "database": chats.dsn,
            "accounts": {"testcom": {"schema": chats.schema}},
        }
        self._path.write_text(json.dumps({"targets": {"chats": target | stores}}))

    @asynccontextmanager
    async def ended_by(self, number: signal.Signals) -> AsyncIterator[Process]:
        """Begin it, and end it after the block; then its connections are gone, too."""
        process = await self._begin()
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(number)
            await process.communicate()
        while await self._chats.connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'retentiond' AND datname = current_database()"
        ):
            await asyncio.sleep(0.05)

    async def _begin(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "retentiond", "--config", str(self._path), "purge-chats", "--json"),
            *("--account", "testcom", "--to-date", str(TO_DATE), self._flag),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def again(self) -> dict[str, Any]:
        """Do it anew, to its end, and return its report."""
        process = await self._begin()
        told, errors = await process.communicate()
        assert process.returncode == 0, (told, errors)
        report: dict[str, Any] = json.loads(told)
        return report

    async def records(self) -> list[dict[str, Any]]:
        """Return what the records say of the store, the oldest first."""
        async with open_chat_database("chats", self._chats.config()) as target:
            assert (await target.verify_records()).broken is None
            return [one["body"] async for one in target.records() if one["kind"] == "store_purged"]
