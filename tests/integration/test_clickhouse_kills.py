"""What the proof of disposal says of ClickHouse when a purge is ended in the middle: no row less than went, and none more."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import NullProgress
from retentiond.targets.chat_database.clickhouse.cluster import TableRows
from tests.support.chats import ChatStore
from tests.support.killed_purge import KilledPurge
from tests.support.secondary import DiedError
from tests.support.stats_table import CUTOFF, Stats
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_rows_that_a_mutation_takes_after_the_purge_was_ended_are_in_no_record(
    stats: Stats,
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    await stats.make(partition=None)
    await stats.add("testcom", first=CUTOFF - timedelta(hours=50), count=100)
    await stats.do("SYSTEM STOP MERGES retentiond_test.thread")
    store = stats.config.model_dump(exclude_unset=True)
    purge = KilledPurge(chats, tmp_path, "clickhouse", clickhouse=store)
    async with purge.ended_by(number) as process:
        while not await stats.marks() and process.returncode is None:
            await asyncio.sleep(0.05)
    told = [(one["state"], one["rows"], one["at_least"]) for one in await purge.records()]
    assert told == ([] if number == signal.SIGKILL else [("interrupted", 0, True)])
    await stats.do("SYSTEM START MERGES retentiond_test.thread")
    report = await purge.again()
    assert report["stores"]["clickhouse"] == {**report["stores"]["clickhouse"], "rows": 50}
    last = (await purge.records())[-1]
    assert (last["state"], last["rows"], last["at_least"], last["continued"]) == ("finished", 50, False, True)
    assert await stats.left("testcom") == 50
    # What a record tells of is told once.
    assert (await purge.again())["stores"]["clickhouse"]["rows"] == 0


async def test_a_part_that_was_dropped_right_before_a_death_is_in_no_record(
    stats: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stats.make()
    for month in (3, 4, 5):
        await stats.add(first=datetime(2023, month, 1, tzinfo=UTC), count=10 * month)
    purge = Purge("acme", CUTOFF)
    drop, dropped = TableRows._drop, []

    async def die_after_two(self: TableRows, part: str) -> bool:
        done = await drop(self, part)
        dropped.append(part)
        if len(dropped) == 2:
            raise DiedError
        return done

    with monkeypatch.context() as patched:
        patched.setattr(TableRows, "_drop", die_after_two)
        async with stats.opened() as store:
            with pytest.raises(DiedError):
                await store.purge(purge, NullProgress())
    assert await stats.left() == 50
    report = await stats.purge(Purge("acme", CUTOFF, purge_id=2, notes=purge.notes))
    assert (report.state, report.rows, report.at_least) == ("finished", 120, False)


async def test_a_part_that_a_death_left_in_place_is_counted_twice(
    stats: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stats.make()
    await stats.add(first=datetime(2023, 3, 1, tzinfo=UTC), count=10)
    purge = Purge("acme", CUTOFF)

    async def die(_self: TableRows, _part: str) -> bool:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(TableRows, "_drop", die)
        async with stats.opened() as store:
            with pytest.raises(DiedError):
                await store.purge(purge, NullProgress())
    report = await stats.purge(Purge("acme", CUTOFF, purge_id=2, notes=purge.notes))
    assert (report.state, report.rows, report.at_least) == ("finished", 10, False)


async def test_what_a_mutation_that_was_killed_after_a_death_took_is_told_as_if_it_were_all(
    stats: Stats,
) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=30)
    meant: dict[str, Any] = {"text": "account = {account:String}", "parameters": {"account": "acme"}}
    purge = Purge("acme", CUTOFF)
    # It was sent when there were 50, and nobody knows it any more; ten came in or were never taken.
    await purge.notes.write({"mark": "retentiond:gone", "rows": 50, "left": 50, "meant": meant, "gone": 7})
    report = await stats.purge(purge)
    assert (report.state, report.rows, report.at_least) == ("finished", 7 + 20 + 30, True)
