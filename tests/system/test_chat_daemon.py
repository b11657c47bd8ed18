"""The real daemon on a target of chats, from its start to its end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from tests.support.chats import ChatStore

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg


async def test_the_daemon_purges_by_schedule_and_says_what_went(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    await chats.chat()
    stays = await chats.chat(state="chatting")
    target = {
        "kind": "chat_database",
        "database": database,
        "schedule": {"every": "1s"},
        "accounts": {"testcom": {"schema": "pro", "keep": "400d"}},
    }
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"targets": {"chats": target}}))
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "retentiond", "--config", str(config), "run"), stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    entries: list[dict[str, Any]] = []
    try:
        async for line in daemon.stdout:
            entries.append(json.loads(line))
            if entries[-1]["event"] == "pass_finished":
                break
        assert entries[-1]["purges"][0]["entities"]["chatthread"] == 1
        assert await chats.chats() == {stays}
        daemon.send_signal(signal.SIGTERM)
        rest = (await daemon.stdout.read()).decode()
        assert await daemon.wait() == 0
    finally:
        if daemon.returncode is None:
            daemon.kill()
    assert "daemon_stopping" in rest
    loaded = next(entry for entry in entries if entry["event"] == "config_loaded")
    assert loaded["targets"] == {"chats": [{"name": "testcom", "keep": "400d"}]}
