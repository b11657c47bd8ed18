"""A purge in a real ClickHouse that refuses, fails, stands still, fills up, forgets, or is lost in the middle."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import NullProgress, Stop
from retentiond.targets.chat_database.clickhouse import connection
from tests.support.clickhouse_server import ClickHouseServer
from tests.support.file_systems import small_disk
from tests.support.stats_table import CUTOFF, IMPATIENT, Stats
from tests.support.store_purge import HELD, Notes, Purge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.model.purge import StoreReport


@asynccontextmanager
async def waiting(stats: Stats, purge: Purge) -> AsyncIterator[asyncio.Task[StoreReport]]:
    """Begin a purge whose mutation is written down and waits, since nothing is rewritten in its table."""
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.do("SYSTEM STOP MERGES retentiond_test.thread")
    async with stats.opened() as store:
        task = asyncio.create_task(store.purge(purge, NullProgress()))
        while not await stats.marks():
            await asyncio.sleep(0.02)
        yield task


async def left_waiting(stats: Stats, notes: Notes) -> None:
    """Leave a mutation that waits, as a daemon does that dies."""
    async with waiting(stats, Purge("acme", CUTOFF, notes=notes)) as task:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_the_daemons_death_left_running_is_followed_and_not_sent_again(stats: Stats) -> None:
    notes = Notes()
    await left_waiting(stats, notes)
    await stats.do("SYSTEM START MERGES retentiond_test.thread")
    report = await stats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert (report.state, report.rows, report.at_least) == ("finished", 50, False)
    assert await stats.left() == 50
    assert await stats.marks() == 1
    assert await notes.read() == {}


async def test_asked_to_stop_it_leaves_the_mutation_to_the_server_and_the_next_purge_finds_it(
    stats: Stats,
) -> None:
    stop, notes = Stop(), Notes()
    async with waiting(stats, Purge("acme", CUTOFF, notes=notes, stop=stop)) as task:
        stop.ask()
        report = await task
    assert report.state == "interrupted"
    await stats.do("SYSTEM START MERGES retentiond_test.thread")
    assert (await stats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))).state == "finished"
    assert await stats.marks() == 1


async def test_a_stop_is_heard_while_a_server_that_went_silent_is_told_to_delete_and_the_next_purge_goes_on(
    stats: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GRACE", 0.05)
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    stop, notes = Stop(), Notes()

    async def go_silent(*_: object, **__: object) -> None:
        stop.ask()
        await asyncio.Event().wait()

    async with asyncio.timeout(60), stats.opened() as store:
        server = store._servers._server
        assert server is not None
        monkeypatch.setattr(server._client, "raw_query", go_silent)
        report = await store.purge(Purge("acme", CUTOFF, notes=notes, stop=stop), NullProgress())
    assert (report.state, report.at_least) == ("interrupted", True)
    assert (await stats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))).state == "finished"
    assert await stats.left() == 50


async def test_a_mutation_that_does_not_get_on_is_killed_and_said(stats: Stats) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.do("SYSTEM STOP MERGES retentiond_test.thread")
    report = await stats.purge(patience=IMPATIENT)
    assert report.state == "finished_with_failures"
    assert report.error is not None
    assert "makes no progress" in report.error
    assert await stats.marks() == 0
    assert await stats.left() == 100


async def test_a_hold_has_the_mutation_killed_that_was_sent_before_it_and_none_follows(stats: Stats) -> None:
    purge = Purge("acme", CUTOFF, held_after=1)
    async with waiting(stats, purge) as task, stats.opened() as beside:
        await beside.halt(await purge.notes.read())
        report = await task
    assert (report.state, report.rows, report.refused) == ("refused", 0, HELD)
    assert await stats.marks() == 0


async def test_a_mutation_that_fails_is_killed_with_the_servers_reason(
    stats: Stats, clickhouse_server: ClickHouseServer | None
) -> None:
    if clickhouse_server is None:
        pytest.skip("the files of a server that was named are not ours to damage")
    await stats.make(partition=None)
    await stats.do("ALTER TABLE t MODIFY SETTING min_bytes_for_wide_part = 0")
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    # A column that counting does not read, and rewriting does.
    part = await stats.value("SELECT path FROM system.parts WHERE database = 'retentiond_test' AND active")
    os.truncate(f"{part}value.bin", 3)
    report = await stats.purge()
    assert report.state == "finished_with_failures"
    assert report.error is not None
    assert "Cannot read all data" in report.error
    assert await stats.marks() == 0


async def test_a_mutation_behind_anothers_that_fails_says_whose_and_leaves_that_alone(stats: Stats) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.do(
        "ALTER TABLE t DELETE WHERE throwIf(threadid = 3, 'somebody else') SETTINGS mutations_sync = 0"
    )
    report = await stats.purge(patience=IMPATIENT)
    assert report.error is not None
    assert "which is not ours" in report.error
    assert "somebody else" in report.error
    assert await stats.marks() == 0
    assert (
        await stats.value(
            "SELECT count() FROM system.mutations WHERE NOT is_done AND database = 'retentiond_test'"
        )
        == 1
    )


async def test_a_mutation_that_may_not_be_killed_is_told_with_its_own_reason_and_followed_again(
    stats: Stats,
) -> None:
    notes = Notes()
    await left_waiting(stats, notes)
    report = await stats.as_user("reader").purge(Purge("acme", CUTOFF, purge_id=2, notes=notes), IMPATIENT)
    assert (report.state, report.rows) == ("finished_with_failures", 0)
    assert "makes no progress: the server does not say why; it could not be killed" in (report.error or "")
    assert "ALTER DELETE" in (report.error or "")
    assert "mark" in await notes.read()
    await stats.do("SYSTEM START MERGES retentiond_test.thread")
    assert (await stats.purge(Purge("acme", CUTOFF, purge_id=3, notes=notes))).state == "finished"
    assert await stats.left() == 50
    assert await stats.marks() == 1


@pytest.mark.parametrize(
    ("setting", "code", "next_step"),
    [
        ("number_of_mutations_to_throw = 1", "TOO_MANY_MUTATIONS", "system.mutations"),
        ("table_readonly = 1", "READ_ONLY", "make the table writable"),
    ],
)
async def test_a_table_that_takes_no_mutation_is_told_with_what_to_do_and_keeps_all(
    stats: Stats, setting: str, code: str, next_step: str
) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.do("SYSTEM STOP MERGES retentiond_test.thread")
    await stats.do("ALTER TABLE t DELETE WHERE account = 'nobody' SETTINGS mutations_sync = 0")
    await stats.do(f"ALTER TABLE t MODIFY SETTING {setting}")
    report = await stats.purge()
    assert (report.state, report.rows, report.waiting) == ("finished_with_failures", 0, ())
    assert code in (report.error or "")
    assert next_step in (report.error or "")
    assert await stats.left() == 100


async def test_a_refusal_in_the_middle_tells_the_rows_that_are_gone_already(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=datetime(2023, 3, 1, tzinfo=UTC), count=10)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.do("SYSTEM STOP MERGES retentiond_test.thread")
    await stats.do("ALTER TABLE t DELETE WHERE account = 'nobody' SETTINGS mutations_sync = 0")
    await stats.do("ALTER TABLE t MODIFY SETTING number_of_mutations_to_throw = 1")
    report = await stats.purge()
    assert (report.state, report.rows) == ("finished_with_failures", 10)
    assert any("old parts still hold" in text for text in report.waiting)


async def test_a_part_too_large_to_be_dropped_is_rewritten(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=datetime(2023, 3, 1, tzinfo=UTC), count=10)
    report = await stats.as_user("wary").purge()
    assert (report.state, report.rows) == ("finished", 10)
    assert await stats.left() == 0
    assert await stats.marks() == 1


async def test_a_mutation_that_somebody_kills_is_no_answer_and_the_rows_are_deleted_anew(
    stats: Stats,
) -> None:
    async with waiting(stats, Purge("acme", CUTOFF)) as task:
        await stats.do("KILL MUTATION WHERE database = 'retentiond_test'")
        await stats.do("SYSTEM START MERGES retentiond_test.thread")
        report = await task
    assert (report.state, report.rows) == ("finished", 50)
    assert await stats.left() == 50


async def test_a_mutation_that_was_done_and_then_forgotten_by_the_server_is_not_sent_again(
    stats: Stats,
) -> None:
    notes = Notes()
    await left_waiting(stats, notes)
    await stats.do("SYSTEM START MERGES retentiond_test.thread")
    while await stats.left() > 50:
        await asyncio.sleep(0.02)
    # Of one that is done it removes the record, as does the server when there are too many.
    await stats.do("KILL MUTATION WHERE database = 'retentiond_test'")
    assert (await stats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))).state == "finished"
    assert await notes.read() == {}
    assert await stats.marks() == 0


async def test_rows_that_come_in_while_a_mutation_waits_are_deleted_too_and_counted(stats: Stats) -> None:
    async with waiting(stats, Purge("acme", CUTOFF)) as task:
        await stats.add(first=CUTOFF - timedelta(hours=10), count=20)
        await stats.do("SYSTEM START MERGES retentiond_test.thread")
        report = await task
    assert (report.state, report.rows) == ("finished", 60)
    assert await stats.left() == 60


async def test_a_server_killed_in_the_middle_is_unreachable_and_the_next_purge_ends_what_it_began(
    stats: Stats, clickhouse_server: ClickHouseServer | None
) -> None:
    if clickhouse_server is None:
        pytest.skip("a server that was named is not ours to kill")
    notes = Notes()
    async with waiting(stats, Purge("acme", CUTOFF, notes=notes)) as task:
        clickhouse_server.kill()
        report = await task
    assert (report.state, report.rows, report.at_least) == ("interrupted", 0, True)
    assert re.search("cannot be reached|was lost", report.error or "")
    await asyncio.to_thread(clickhouse_server.start)
    # It goes on by itself after its start, since nobody stops its merges any more.
    report = await stats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert report.state == "finished"
    assert await stats.left() == 50
    assert await stats.marks() == 1


async def test_a_server_lost_after_the_first_of_several_steps_leaves_word_of_what_is_surely_gone(
    stats: Stats, clickhouse_server: ClickHouseServer | None
) -> None:
    if clickhouse_server is None:
        pytest.skip("a server that was named is not ours to kill")
    server = clickhouse_server

    class Deadly(NullProgress):
        def advance(self, items: int, size: int = 0) -> None:
            server.kill()

    await stats.make()
    await stats.add(first=datetime(2023, 3, 1, tzinfo=UTC), count=10)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    async with stats.opened() as store:
        report = await store.purge(Purge("acme", CUTOFF), Deadly())
    assert (report.state, report.rows, report.at_least) == ("interrupted", 10, True)
    await asyncio.to_thread(server.start)


async def test_a_long_query_is_let_go_of_when_somebody_asks_to_stop_and_the_server_ends_it(
    stats: Stats,
) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    question = "SELECT count() FROM system.processes WHERE user = 'slow'"
    stop = Stop()
    # What tells this user's rows is a list without an end.
    async with asyncio.timeout(60), stats.as_user("slow").opened() as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, stop=stop), NullProgress()))
        while not await stats.value(f"{question} AND query LIKE '%min(toDate32%'"):
            await asyncio.sleep(0.02)
        stop.ask()
        report = await task
        assert report.state == "interrupted"
        assert "stopped on request" in (report.error or "")
        while await stats.value(question):
            await asyncio.sleep(0.02)


async def test_a_full_disk_cuts_no_count_short_and_is_told_as_why_a_mutation_waits_until_there_is_room(
    tmp_path: Path,
) -> None:
    if os.geteuid():
        pytest.skip("only root mounts")
    with small_disk(tmp_path, "64m") as disk:
        server = ClickHouseServer(disk / "server")
        server.start()
        try:
            stats = Stats(server.url)
            await stats.make(partition=None)
            await stats.do(
                "INSERT INTO TABLE t SELECT 'acme', toDateTime('2023-08-20 00:00:00', 'UTC') + number * 10, number + 1, "
                "randomString(1000) FROM numbers(15000)"
            )
            ballast = disk / "ballast"
            async with stats.opened(IMPATIENT) as store:
                for _ in range(3):
                    with suppress(OSError), ballast.open("ab", buffering=0) as filler:
                        while True:
                            filler.write(bytes(4096))
                    assert (
                        await store.purge(Purge("acme", CUTOFF, dry_run=True), NullProgress())
                    ).rows == 8640
                # Enough to write a mutation down.
                os.truncate(ballast, ballast.stat().st_size - 1_000_000)
                report = await store.purge(Purge("acme", CUTOFF), NullProgress())
            assert (report.state, report.rows) == ("finished_with_failures", 0)
            assert "Exceed max source part size" in (report.error or "")
            assert await stats.marks() == 0
            ballast.unlink()
            assert (await stats.purge()).rows == 8640
            assert await stats.left() == 15_000 - 8640
        finally:
            server.stop()
