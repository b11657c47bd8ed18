"""What the proof of disposal says of a search when a purge is ended in the middle: no document less than went."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.chats import ChatStore
from tests.support.killed_purge import KilledPurge
from tests.support.search_index import SLOW
from tests.support.stats_table import CUTOFF

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from tests.support.search_index import Chats

# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("server", ["opensearch"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_documents_that_a_task_deletes_before_and_after_the_purge_was_ended_are_in_no_record(
    chats: Chats,
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    store = ChatStore(database, connection)
    await store.make()
    await chats.make()
    await chats.add("testcom", first=CUTOFF - timedelta(days=10), count=200, every=timedelta(minutes=10))
    index = chats.config.model_dump(exclude_unset=True)
    pace = {"max_rows_per_second": SLOW}
    purge = KilledPurge(store, tmp_path, "elasticsearch", elasticsearch=index, pace=pace)
    async with purge.ended_by(number) as process:
        while process.returncode is None and await chats.left("testcom") == 200:
            await asyncio.sleep(0.05)
        # Some are gone; it is slow enough for most to be there still.
    before = await purge.records()
    assert len(before) == (number == signal.SIGINT)
    assert all(one["at_least"] and one["state"] == "interrupted" for one in before)
    assert await chats.left("testcom") > 0
    hurrying = asyncio.create_task(_hurry(chats))
    report = await purge.again()
    hurrying.cancel()
    last = (await purge.records())[-1]
    assert last["rows"] == report["stores"]["elasticsearch"]["rows"]
    assert (last["state"], last["at_least"], last["continued"]) == ("finished", False, True)
    assert sum(one["rows"] for one in before) + last["rows"] == 200
    assert await chats.left("testcom") == 0


async def _hurry(chats: Chats) -> None:
    while True:
        await chats.hurry()
        await asyncio.sleep(0.1)
