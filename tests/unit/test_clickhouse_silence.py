"""A server of ClickHouse's that takes connections and then says nothing: a purge must not hang on it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from retentiond.config.chat_stores import ClickHouseStore
from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.clickhouse import connection


async def test_a_server_that_takes_a_connection_and_never_answers_is_given_up_at_the_door(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_WELCOME_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        config = ClickHouseStore(url=f"http://127.0.0.1:{mute.getsockname()[1]}", table="webim_stats.thread")
        async with asyncio.timeout(120):
            with pytest.raises(UnreachableError, match="did not answer in time"):
                async with connection.open_server(config):
                    pytest.fail("it let us in")
