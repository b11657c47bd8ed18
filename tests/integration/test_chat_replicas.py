"""Replicas of a chat database: real standbys, archives and slots, behind, gone, hidden, or waited for by each commit."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from retentiond.adapters import postgres_watch
from retentiond.adapters.postgres import pool
from retentiond.adapters.postgres_watch import WatchLimits
from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.model.errors import MissingRightError, UnreachableError
from retentiond.model.replication import Replication, find_delay
from retentiond.targets.chat_database import throttle
from retentiond.targets.chat_database.removal import Removal
from retentiond.targets.chat_database.target import open_chat_database
from retentiond.targets.chat_database.throttle import look_at_replication, read_replication
from tests.support.chats import ChatStore
from tests.support.ports import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType


class _Replica:
    """A program that streams from the primary, by its application name, for as long as the block lasts."""

    def __init__(self, primary: EmbeddedPostgres, name: str) -> None:
        self.name = name
        self._primary = primary
        self._programs = primary._programs
        self._directory = Path(tempfile.mkdtemp(prefix="replica-"))
        self._directory.chmod(0o711)
        self._data = self._directory / "data"
        self._data.mkdir(mode=0o700)
        self._programs.give(self._data)
        self._process: subprocess.Popen[bytes] | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        shutil.rmtree(self._directory)

    async def stop(self) -> None:
        """End it, and wait until the primary has noticed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            await asyncio.to_thread(self._process.wait)
            self._process = None

    def _url(self) -> str:
        return f"{self._primary.dsn()}?application_name={self.name}"

    def _spawn(self, program: str, *options: str) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = self._programs.spawn(program, options, log)

    async def _until_streaming(self) -> None:
        connection = await asyncpg.connect(self._primary.dsn())
        statement = "SELECT state FROM pg_stat_replication WHERE application_name = $1"
        try:
            while await connection.fetchval(statement, self.name) != "streaming":
                assert self._process is not None
                assert self._process.poll() is None, (self._directory / "log").read_text()
                await asyncio.sleep(0.01)
        finally:
            await connection.close()


class Standby(_Replica):
    """A hot standby; `dsn` is its own URL."""

    async def __aenter__(self) -> Self:
        copied = await asyncio.to_thread(
            self._programs.run,
            "pg_basebackup",
            ["-d", self._url(), "-D", str(self._data), "-R", "-X", "stream", "-c", "fast", "--no-sync"],
        )
        assert not copied.returncode, copied.stdout
        port = free_port()
        self.dsn = urlsplit(self._primary.dsn())._replace(netloc=self._netloc(port)).geturl()
        sockets = str(self._data)
        self._spawn(
            "postgres",
            *("-D", str(self._data), "-h", "127.0.0.1", "-p", str(port), "-k", sockets),
            *("-c", f"cluster_name={self.name}", "-c", "fsync=off"),
            *("-c", "wal_receiver_status_interval=1s"),
        )
        await self._until_streaming()
        return self

    def _netloc(self, port: int) -> str:
        return f"{urlsplit(self._primary.dsn()).netloc.rpartition(':')[0]}:{port}"


class WalArchive(_Replica):
    """An archive that confirms what it has written; it is a synchronous standby where its name is among those."""

    async def __aenter__(self) -> Self:
        self._spawn("pg_receivewal", "-d", self._url(), "-D", str(self._data), "--synchronous")
        await self._until_streaming()
        return self


TEN_SECONDS = timedelta(seconds=10)
STANDBY = "SELECT pg_create_physical_replication_slot('gone', true)"
SUBSCRIBER = "SELECT pg_create_logical_replication_slot('gone', 'pgoutput')"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server whose settings a test may change."""
    with EmbeddedPostgres({"fsync": "off", "wal_level": "logical"}) as started:
        yield started


@pytest.fixture
async def chats(server: EmbeddedPostgres) -> AsyncIterator[ChatStore]:
    """A store on it; afterwards no slot and no setting of the test is left."""
    admin = await asyncpg.connect(server.dsn())
    try:
        await admin.execute("CREATE DATABASE chats")
        connection = await asyncpg.connect(server.dsn("chats"))
        store = ChatStore(server.dsn("chats"), connection)
        await store.make()
        try:
            yield store
        finally:
            await set_up(admin, "synchronous_standby_names", "")
            await set_up(admin, "max_slot_wal_keep_size", "-1")
            await connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
            await connection.close()
            await admin.execute("DROP DATABASE chats WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No replica is waited for."""
    monkeypatch.setattr(throttle, "PATIENCE", timedelta(0))


async def set_up(connection: asyncpg.Connection[asyncpg.Record], name: str, value: str) -> None:
    """Change a setting of the server, and wait until it holds."""
    await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await connection.execute("SELECT pg_reload_conf()")
    while await connection.fetchval(f"SHOW {name}") != value:
        await asyncio.sleep(0.01)


async def pile_up(connection: asyncpg.Connection[asyncpg.Record], segments: int = 2) -> None:
    """Move the server's WAL on, by so many segments of 16 MiB."""
    for _ in range(segments):
        await connection.execute("SELECT pg_logical_emit_message(false, '', 'filling')")
        await connection.execute("SELECT pg_switch_wal()")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("slot", "whose"), [(STANDBY, "standby"), (SUBSCRIBER, "subscriber")])
async def test_a_replica_that_is_gone_while_wal_piles_up_for_it_holds_the_purge_and_is_named(
    chats: ChatStore, slot: str, whose: str
) -> None:
    # pg_stat_replication does not show it at all.
    chat = await chats.chat()
    await chats.connection.execute(slot)
    await pile_up(chats.connection)
    report = await chats.purge()
    assert (report.state, report.exit_status) == ("interrupted", 4)
    assert f"no {whose} has been connected to the replication slot gone" in (report.error or "")
    assert "SELECT pg_drop_replication_slot('gone')" in (report.error or "")
    assert await chats.chats() == {chat}


async def test_a_purge_that_waits_for_a_replica_that_is_gone_goes_on_once_it_is_there_no_more(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "POLL", 0.0)
    await chats.chat()
    await chats.connection.execute(STANDBY)
    await pile_up(chats.connection)
    seen: list[bool] = []

    async def look() -> Replication:
        replication = await look_at_replication(chats.connection)
        seen.append(find_delay(replication, TEN_SECONDS) is not None)
        if len(seen) == 3:
            await chats.connection.execute("SELECT pg_drop_replication_slot('gone')")
        return replication

    with capture_logs() as log:
        report = await chats.purge(look_at_replicas=look)
    assert (report.state, report.chats) == ("finished", 1)
    assert seen[:4] == [True, True, True, False]
    (told,) = [entry for entry in log if entry["event"] == "replica_behind"]
    assert told["replica"] == "gone"


@pytest.mark.usefixtures("impatient")
async def test_a_slot_that_was_never_used_or_is_lost_holds_no_purge(chats: ChatStore) -> None:
    await chats.chat()
    await chats.connection.execute("SELECT pg_create_physical_replication_slot('never_used')")
    await chats.connection.execute(STANDBY)
    await set_up(chats.connection, "max_slot_wal_keep_size", "1MB")
    await pile_up(chats.connection, 5)
    await chats.connection.execute("CHECKPOINT")
    lost = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'gone'"
    assert await chats.connection.fetchval(lost) == "lost"
    report = await chats.purge()
    assert (report.state, report.chats) == ("finished", 1)


async def test_of_several_replicas_the_one_that_is_furthest_behind_is_named(
    server: EmbeddedPostgres, chats: ChatStore
) -> None:
    async with Standby(server, "hot") as hot, WalArchive(server, "archive"):
        assert find_delay(await look_at_replication(chats.connection), TEN_SECONDS) is None
        standby = await asyncpg.connect(hot.dsn)
        try:
            await standby.execute("SELECT pg_wal_replay_pause()")
            while await standby.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":
                await asyncio.sleep(0.01)
            # It receives, and reports that it replays nothing of it; the archive is up to date.
            limit, delay = timedelta(milliseconds=500), None
            while delay is None or delay.replica != "hot":
                await chats.chat()
                delay = find_delay(await look_at_replication(chats.connection), limit)
            assert delay.lag is not None
            assert delay.lag > limit
            assert "the standby hot is" in delay.reason
        finally:
            await standby.close()


async def test_a_role_that_may_not_see_how_far_a_replica_is_behind_is_told_the_grant(
    server: EmbeddedPostgres, chats: ChatStore
) -> None:
    await chats.connection.execute("CREATE ROLE cleaner LOGIN PASSWORD 'x'")
    dsn = f"postgresql://cleaner:x@127.0.0.1:{server.port}/chats"
    try:
        async with pool(dsn) as opened:
            await read_replication(opened)
            async with WalArchive(server, "archive"):
                with pytest.raises(MissingRightError, match=r"\(archive\).*GRANT pg_monitor TO cleaner"):
                    await read_replication(opened)
                await chats.connection.execute("GRANT pg_monitor TO cleaner")
                (archive,) = (await read_replication(opened)).replicas
                assert (archive.name, archive.state) == ("archive", "streaming")
    finally:
        await chats.connection.execute("DROP ROLE cleaner")


async def test_a_role_that_sees_no_lag_may_purge_nothing_and_changes_nothing(chats: ChatStore) -> None:
    await chats.chat()

    async def look() -> Replication:
        raise MissingRightError("this role may not see how far replicas are behind")

    with pytest.raises(MissingRightError):
        await chats.purge(look_at_replicas=look)
    assert await chats.connection.fetchval("SELECT to_regnamespace('retentiond')") is None


@pytest.mark.parametrize("names", ["nobody", "FIRST 2 (archive, nobody)", "ANY 2 (archive, nobody)"])
async def test_a_purge_whose_commits_would_wait_for_a_standby_that_is_down_does_not_begin(
    server: EmbeddedPostgres, chats: ChatStore, names: str
) -> None:
    chat = await chats.chat()
    async with WalArchive(server, "archive"):
        await set_up(chats.connection, "synchronous_standby_names", names)
        with pytest.raises(UnreachableError, match="synchronous standbys are connected") as raised:
            await chats.purge()
    assert "take it out of synchronous_standby_names" in str(raised.value)
    # Not a row was written, of the ledger either: that commit would have waited as well.
    assert await chats.connection.fetchval("SELECT to_regnamespace('retentiond')") is None
    assert await chats.chats() == {chat}


@pytest.mark.parametrize("names", ["archive", "*", "ANY 1 (archive, nobody)"])
async def test_a_synchronous_standby_that_is_there_holds_no_purge(
    server: EmbeddedPostgres, chats: ChatStore, names: str
) -> None:
    await chats.chat()
    async with WalArchive(server, "archive"):
        await set_up(chats.connection, "synchronous_standby_names", names)
        in_step = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))"
        while not await chats.connection.fetchval(in_step):
            await asyncio.sleep(0.01)
        report = await chats.purge()
        await set_up(chats.connection, "synchronous_standby_names", "")
    assert (report.state, report.chats) == ("finished", 1)


async def test_a_role_that_commits_locally_waits_for_no_synchronous_standby(chats: ChatStore) -> None:
    await chats.chat()
    await chats.connection.execute("ALTER DATABASE chats SET synchronous_commit = local")
    await set_up(chats.connection, "synchronous_standby_names", "nobody")
    assert (await chats.purge()).chats == 1


@pytest.mark.parametrize("during", ["a batch", "the pause after one"])
async def test_a_synchronous_standby_that_is_lost_in_the_midst_ends_the_purge_with_whole_chats_and_exact_counts(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    # A commit that waits for it is done on the server's own disk, and would wait without an end.
    monkeypatch.setattr(throttle, "PATIENCE", timedelta(0))
    monkeypatch.setattr(throttle, "POLL", 0.0)
    soon = WatchLimits(every=0.02, answer=5.0, standby_noted=0.1, standby=0.3)
    monkeypatch.setattr(postgres_watch, "LIMITS", soon)
    for _ in range(3):
        await chats.chat()
    holder, name = (Removal, "_record") if during == "a batch" else (throttle.Throttle, "count")
    step = getattr(holder, name)

    async def lose_the_standby(self: object, *arguments: object) -> object:
        told = await step(self, *arguments)
        await set_up(chats.connection, "synchronous_standby_names", "nobody")
        return told

    monkeypatch.setattr(holder, name, lose_the_standby)
    report = await chats.purge(pace={"batch": 1})
    assert (report.state, report.exit_status) == ("interrupted", 4)
    assert "synchronous_standby_names" in (report.error or "")
    await set_up(chats.connection, "synchronous_standby_names", "")
    monkeypatch.setattr(holder, name, step)
    assert len(await chats.chats()) == 2
    assert await chats.torn() == set()
    assert (await chats.purge()).chats == 2
    async with open_chat_database("chats", chats.config()) as target:
        recorded = [record async for record in target.records() if record["kind"] == "purged"]
    assert sum(record["body"]["rows"]["chatthread"] for record in recorded) == 3
