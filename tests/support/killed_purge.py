"""A purge of chats as a process of its own, which a test ends in the middle, and what the proof of disposal says of it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import TO_DATE

if TYPE_CHECKING:
    import signal
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.targets.chat_database.store import StoreName
    from tests.support.chats import ChatStore


_FLAGS: Final[dict[StoreName, str]] = {
    "clickhouse": "--purge-clickhouse",
    "elasticsearch": "--purge-elastic",
}


class KilledPurge:
    """A purge by hand of the account, in the database and one store beside it."""

    def __init__(self, chats: ChatStore, tmp_path: Path, store: StoreName, **keys: Any) -> None:
        self._chats = chats
        self._store = store
        self._keys = keys
        self._path = tmp_path / "config.yaml"
        target = {
            "kind": "chat_database",
            "database": chats.dsn,
            "accounts": {"testcom": {"schema": chats.schema}},
        }
        self._path.write_text(json.dumps({"targets": {"chats": target | keys}}))

    @asynccontextmanager
    async def ended_by(self, number: signal.Signals) -> AsyncIterator[Process]:
        """Begin it, and end it after the block; then its connections are gone, too."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "retentiond", "--config", str(self._path), "purge-chats", "--json"),
            *("--account", "testcom", "--to-date", str(TO_DATE), _FLAGS[self._store]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
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

    async def again(self) -> dict[str, Any]:
        """Do it anew, to its end, in this process, and return its report."""
        report = await self._chats.purge(wish={"stores": (self._store,)}, **self._keys)
        assert report.exit_status == 0, report
        return report.as_json()

    async def records(self) -> list[dict[str, Any]]:
        """Return what the records say of the store, the oldest first."""
        async with open_chat_database("chats", self._chats.config()) as target:
            assert (await target.verify_records()).broken is None
            return [one["body"] async for one in target.records() if one["kind"] == "store_purged"]
