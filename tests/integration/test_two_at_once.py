"""Two at once: one works, the other waits or leaves it, and a holder that died is no holder."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from retentiond.engine.target import AuditOptions, PassOptions, Selection, Stop
from retentiond.ledger.leadership import Leadership
from retentiond.ledger.lease import hold_lease
from retentiond.model.errors import BusyError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.model.request import Request
from retentiond.targets.dendrite_media.passes.steps import MediaSteps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import asyncpg

    from retentiond.targets.dendrite_media.target import DendriteMedia
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

OLD = timedelta(days=90)
BRIEF: dict[str, Any] = {"settle": "30s"}
"""A command by hand waits for no last sweep with it."""
END_HOLDERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::bigint::oid"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
"""Of this database alone: other tests may use the server."""
COMMANDS: dict[str, Any] = {
    "once": lambda target: target.run_pass(PassOptions("once", patience=0.3)),
    "delete": lambda target: target.run_pass(
        PassOptions("delete", patience=0.3, request=Request("origin", "there.test"))
    ),
    "audit --repair": lambda target: target.audit(AuditOptions("audit --repair", patience=0.3, repair=True)),
}


class HeardWait(Stop):
    """A stop that shows when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        self.waiting.set()
        await super().wait(seconds)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@asynccontextmanager
async def at_work(database: str, command: str = "run") -> AsyncIterator[None]:
    """Hold the store's lease, as a pass that is under way does."""
    async with hold_lease(database, command, patience=0.0):
        yield


@asynccontextmanager
async def ledger(retention: Retention, store: DendriteStore) -> AsyncIterator[DendriteMedia]:
    """Open a target over a store of one old medium, whose ledger was made by a pass that took nothing."""
    await store.add(origin="there.test", age=OLD)
    async with retention.opened(policies=[], **BRIEF) as target:
        await target.run_pass(PassOptions("once"))
    async with retention.opened(**BRIEF) as target:
        yield target


@pytest.mark.parametrize("command", COMMANDS)
async def test_beside_a_pass_under_way_a_command_ends_with_who_has_the_store_and_since_when(
    retention: Retention, database: str, store: DendriteStore, command: str
) -> None:
    async with ledger(retention, store) as target, at_work(database):
        with pytest.raises(
            BusyError, match=rf"run on {socket.gethostname()}, pid \d+, since \d{{4}}-"
        ) as caught:
            await COMMANDS[command](target)
    assert caught.value.exit_status == 5
    assert len(await store.rows()) == 1


async def test_a_pass_that_waits_for_another_runs_after_it(
    retention: Retention, database: str, store: DendriteStore
) -> None:
    async with ledger(retention, store) as target:
        async with at_work(database):
            stop = HeardWait()
            waiting = asyncio.create_task(target.run_pass(PassOptions("once", patience=600.0, stop=stop)))
            await stop.waiting.wait()
        assert (await waiting).state == "finished"
    assert not await store.rows()


async def test_a_stop_ends_the_wait_for_another_pass_at_once(
    retention: Retention, database: str, store: DendriteStore
) -> None:
    async with ledger(retention, store) as target, at_work(database):
        stop = HeardWait()
        waiting = asyncio.create_task(target.run_pass(PassOptions("once", patience=600.0, stop=stop)))
        await stop.waiting.wait()
        stop.ask()
        with pytest.raises(BusyError):
            await asyncio.wait_for(waiting, 60)
    assert len(await store.rows()) == 1


@pytest.mark.parametrize("command", COMMANDS)
async def test_beside_a_daemon_that_is_idle_every_command_works(
    retention: Retention, store: DendriteStore, command: str
) -> None:
    async with (
        ledger(retention, store) as target,
        retention.opened(policies=[]) as daemon,
    ):
        await daemon.run_pass(PassOptions("run"))
        await daemon.sweep(everything=True)
        await COMMANDS[command](target)
        await target.restore(Selection())
        await target.holds.add(HoldRequest(HoldSubject("media", "mxc://there.test/a")))
        assert (await target.status()).ledger
        # And the daemon works on, after them.
        assert (await daemon.run_pass(PassOptions("run"))).state == "finished"


async def test_a_holder_whose_connection_ended_is_no_holder(
    retention: Retention, database: str, store: DendriteStore, connection: Connection
) -> None:
    async with ledger(retention, store) as target, at_work(database):
        assert (await target.status()).holder is not None
        await connection.execute(END_HOLDERS, 1380931140)
        # Its name still stands in the lease.
        assert await connection.fetchval("SELECT host FROM retentiond.lease") == socket.gethostname()
        while (await target.status()).holder is not None:
            await asyncio.sleep(0.01)
        assert (await target.run_pass(PassOptions("once", patience=0.0))).removed_items == 1


async def test_of_two_daemons_one_looks_after_the_target_and_the_other_says_who_does(
    retention: Retention, store: DendriteStore, log: list[Any]
) -> None:
    await store.add(origin="there.test", age=OLD)
    async with retention.opened() as first, retention.opened() as second:
        assert (await first.run_pass(PassOptions("run", patience=0.0))).removed_items == 1
        await store.add(origin="there.test", age=OLD)
        for _ in range(2):
            with pytest.raises(
                BusyError, match=rf"retentiond daemon on {socket.gethostname()[:30]}, pid \d+ \(role"
            ):
                await second.run_pass(PassOptions("run", patience=0.0))
        await second.sweep(everything=True)
        assert len(await store.rows()) == 1
        assert (await first.run_pass(PassOptions("run", patience=0.0))).removed_items == 1
    assert [entry["event"] for entry in log].count("standing_by") == 1


async def test_a_daemon_is_known_to_the_status_before_its_first_sign_of_life_and_before_there_is_a_ledger(
    retention: Retention, store: DendriteStore
) -> None:
    await store.add(origin="there.test", age=OLD)
    async with retention.opened() as daemon, retention.opened() as asked:
        assert (await asked.status()).daemon is None
        await daemon.sweep(everything=True)
        at_first = await asked.status()
        assert (at_first.ledger, at_first.daemon) == (
            False,
            f"{socket.gethostname()[:30]}, pid {os.getpid()}",
        )
        await asked.run_pass(PassOptions("once", patience=0.0))
        assert (await asked.status()).daemon == at_first.daemon
    async with retention.opened() as asked:
        assert (await asked.status()).daemon is None


async def test_another_daemon_takes_over_at_the_next_time_when_the_first_is_gone(
    retention: Retention, store: DendriteStore, connection: Connection, log: list[Any]
) -> None:
    await store.add(origin="there.test", age=OLD)
    async with retention.opened() as first, retention.opened() as second:
        await first.run_pass(PassOptions("run", patience=0.0))
        with pytest.raises(BusyError):
            await second.run_pass(PassOptions("run", patience=0.0))
        # As it is when the first is killed: the server ends its session.
        await connection.execute(END_HOLDERS, 1380931142)
        await store.add(origin="there.test", age=OLD)
        while (report := await _try_pass(second)) is None:
            await asyncio.sleep(0.01)
        assert report.removed_items == 1
        # And the first, should it live after all, leaves it to the other now.
        with pytest.raises(BusyError):
            await first.run_pass(PassOptions("run", patience=0.0))
    assert "took_over" in [entry["event"] for entry in log]


async def _try_pass(target: DendriteMedia) -> Any:
    try:
        return await target.run_pass(PassOptions("run", patience=0.0))
    except BusyError:
        return None


async def test_a_daemon_that_opens_its_target_anew_is_on_duty_at_once(
    retention: Retention, store: DendriteStore
) -> None:
    await store.add(origin="there.test", age=OLD)
    for _ in range(3):
        async with retention.opened() as target:
            await target.run_pass(PassOptions("run", patience=0.0))


async def test_duty_is_for_a_target_by_its_name(database: str) -> None:
    async with (
        Leadership(database, "media") as one,
        Leadership(database, "media") as other,
        Leadership(database, "chats") as third,
    ):
        await one.take()
        await one.take()
        with pytest.raises(BusyError):
            await other.take()
        await third.take()


async def test_a_pass_under_way_ends_when_its_lock_is_lost_and_another_goes_on(
    retention: Retention,
    store: DendriteStore,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media = [await store.add(origin="there.test", age=OLD) for _ in range(3)]
    begin = MediaSteps.begin

    async def begin_and_lose(self: MediaSteps, report: Any) -> None:
        await begin(self, report)
        await connection.execute(END_HOLDERS, 1380931140)
        monkeypatch.undo()
        async with retention.opened(**BRIEF) as other:
            assert (await other.run_pass(PassOptions("once", patience=100.0))).removed_items == len(media)

    monkeypatch.setattr(MediaSteps, "begin", begin_and_lose)
    async with retention.opened(**BRIEF) as target:
        report = await target.run_pass(PassOptions("once"))
    assert (report.state, report.removed_items) == ("interrupted", 0)
    assert json.dumps(report.as_json())
    assert not await store.broken_references()
