"""A server that is gone, that takes everything and never answers, or whose commits hang: no wait is without an end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from retentiond.adapters import postgres_watch
from retentiond.adapters.postgres import Conn, connect, connection_to, pool, translate_errors
from retentiond.adapters.postgres_watch import WatchLimits, hang_up
from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.demo.store import make_tables
from retentiond.model.errors import UnreachableError
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.registry import open_target
from tests.support.media_target import Retention
from tests.support.postgres_proxy import proxy_before
from tests.support.running_daemon import RunningDaemon, media
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    Connection = asyncpg.Connection[asyncpg.Record]

SOON = WatchLimits(every=0.02, answer=1.0, standby_noted=0.1, standby=0.5)


@pytest.fixture
def watched_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent server is noticed within seconds, a commit that hangs within one."""
    monkeypatch.setattr(postgres_watch, "LIMITS", SOON)


async def minutes_of_silence(connection: Conn) -> tuple[float, float]:
    """For how long the server, and we, wait for a sign of life before the other is gone; both ask over TCP only."""
    [over_tcp] = await connection.fetchrow("SELECT inet_client_addr() IS NOT NULL") or [False]
    if not over_tcp:
        return 2.0, 2.0
    names = ("idle", "interval", "count")
    theirs = [int(await connection.fetchval(f"SHOW tcp_keepalives_{name}")) for name in names]
    line = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
    assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    ours = [line.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    theirs_in_all, ours_in_all = (idle + interval * count for idle, interval, count in (theirs, ours))
    return theirs_in_all / 60, ours_in_all / 60


async def test_a_server_or_a_client_that_vanished_without_a_word_is_waited_for_two_minutes(
    database: str,
) -> None:
    single = await connect(database)
    try:
        assert await minutes_of_silence(single) == (2.0, 2.0)
    finally:
        single.terminate()
    async with pool(database) as several, several.acquire() as one:
        assert await minutes_of_silence(one) == (2.0, 2.0)


@pytest.mark.usefixtures("watched_closely")
async def test_a_statement_on_a_server_that_takes_it_and_never_answers_ends_and_the_next_connection_does_not_wait(
    database: str,
) -> None:
    async with (
        proxy_before(database) as proxy,
        pool(proxy.dsn) as several,
        connection_to(proxy.dsn) as single,
    ):
        proxy.fall_silent()
        with (
            pytest.raises(UnreachableError, match="does not answer: it takes what it is sent"),
            translate_errors("it"),
        ):
            await single.fetchval("SELECT 1")
        with pytest.raises(UnreachableError, match="does not answer"), translate_errors("it"):
            await several.fetchval("SELECT 1")
        proxy.speak()
        while True:
            try:
                with translate_errors("it"):
                    assert await several.fetchval("SELECT 1") == 1
                break
            except UnreachableError:
                await asyncio.sleep(0.02)


@pytest.mark.usefixtures("watched_closely")
async def test_a_server_that_answers_slowly_but_answers_is_left_its_time(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may take seconds for the answer itself.
    monkeypatch.setattr(postgres_watch, "LIMITS", WatchLimits(**asdict(SOON) | {"answer": 5.0}))
    async with connection_to(database) as one:
        assert await one.fetchval("SELECT 7 FROM pg_sleep(6)") == 7


async def test_what_waits_for_a_stopped_backend_ends_as_soon_as_the_connections_are_cut() -> None:
    with EmbeddedPostgres({"fsync": "off"}) as server:
        async with connection_to(server.dsn()) as one, pool(server.dsn()) as several:
            pids = [await db.fetchval("SELECT pg_backend_pid()") for db in (one, several)]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                waits = [asyncio.ensure_future(db.fetchval("SELECT 1")) for db in (one, several)]
                # The second takes its connection first.
                while not several.get_size() - several.get_idle_size():
                    await asyncio.sleep(0)
                for wait in waits:
                    wait.cancel()
                # The pool takes its connection back, and waits for the server's answer to the cancellation.
                (still,) = (await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED))[1]
                hang_up()
                await asyncio.wait({still})
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def store_of_its_own(media_path: Path) -> AsyncIterator[tuple[Retention, DendriteStore, Connection]]:
    """A store on a server whose settings a test may change."""
    await asyncio.to_thread(media_path.mkdir)
    with EmbeddedPostgres({"fsync": "off"}) as server:
        connection = await asyncpg.connect(server.dsn())
        try:
            await make_tables(connection)
            yield Retention(server.dsn(), media_path), DendriteStore(connection, media_path), connection
        finally:
            await connection.close()


async def wait_for_standby(connection: Connection, name: str) -> None:
    """Let every commit wait for a standby of that name from now on; for none with an empty name."""
    await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    await connection.execute("SELECT pg_reload_conf()")
    while await connection.fetchval("SHOW synchronous_standby_names") != name:
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("watched_closely")
async def test_a_release_whose_commit_waits_for_a_standby_that_is_down_touches_no_file_and_is_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store_of_its_own(tmp_path / "media") as (retention, store, connection):
        due = await store.add()
        release = released_rows.release

        async def release_then_lose_the_standby(*batch: Any) -> Any:
            released = await release(*batch)
            await wait_for_standby(connection, "nobody")
            return released

        monkeypatch.setattr(released_rows, "release", release_then_lose_the_standby)
        with capture_logs() as log:
            report = await retention.one_pass()
        assert report.state == "interrupted"
        assert "synchronous_standby_names" in (report.error or "")
        (waited, *_) = [entry for entry in log if entry["event"] == "database_waits"]
        assert (waited["wait_event"], waited["statement"]) == ("SyncRep", "COMMIT;")
        assert store.path_of(due.base64hash).exists()
        await wait_for_standby(connection, "")
        # The server had it on its own disk: the outcome was unknown to the pass, and not to the ledger.
        assert await store.rows() == {}
        async with retention.opened() as target:
            await target.sweep(everything=True)
        assert not store.path_of(due.base64hash).exists()
        assert await connection.fetchval("SELECT state FROM retentiond.entry") == "quarantined"


async def test_a_role_that_commits_locally_waits_for_no_standby(tmp_path: Path) -> None:
    async with store_of_its_own(tmp_path / "media") as (retention, store, connection):
        await store.add()
        await connection.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = local")
        await wait_for_standby(connection, "nobody")
        assert (await retention.one_pass()).removed_items == 1


@pytest.mark.parametrize("level", ["local", "remote_write", "on", "remote_apply"])
async def test_a_setting_of_the_role_that_loses_no_commit_stays(database: str, level: str) -> None:
    assert await settings_under(database, "synchronous_commit", level) == {level}


async def test_without_synchronous_commit_a_commit_is_on_the_servers_own_disk_all_the_same(
    database: str,
) -> None:
    assert await settings_under(database, "synchronous_commit", "off") == {"local"}


@pytest.mark.parametrize("limit", ["statement_timeout", "idle_session_timeout", "transaction_timeout"])
async def test_a_time_limit_of_the_role_ends_no_statement_of_ours(database: str, limit: str) -> None:
    known = await settings_under(database, limit, "90s")
    assert known <= {"6h", "0", None}


async def settings_under(database: str, setting: str, value: str) -> set[str | None]:
    """A setting as our connections have it, new and used ones, where the database sets it to that value."""
    admin = await asyncpg.connect(database)
    try:
        if await admin.fetchval("SELECT current_setting($1, true)", setting) is None:
            return {None}
        name = await admin.fetchval("SELECT quote_ident(current_database())")
        await admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    finally:
        await admin.close()
    async with connection_to(database) as single, pool(database, size=1) as several:
        return {
            await source.fetchval("SELECT current_setting($1)", setting)
            for source in (single, several, several)
        }


async def test_a_daemon_whose_server_fell_silent_ends_at_sigterm_within_the_time_of_its_unit(
    connection: Connection, database: str, media_path: Path, tmp_path: Path
) -> None:
    async with proxy_before(database) as proxy:
        daemon = RunningDaemon(tmp_path, open_target)
        try:
            await daemon.start(media=media(database=proxy.dsn, media_path=str(media_path)))
            # It is on duty: the first sweep is over.
            while not await connection.fetchval(
                "SELECT true FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
            ):
                await asyncio.sleep(0.01)
            await daemon.clock.advance(1)
            proxy.fall_silent()
            # The next sweep asks, and gets no answer; its watch runs by the machine's clock, and has not noticed yet.
            asked = proxy.taken
            while proxy.taken == asked:
                await daemon.clock.advance(60)
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            await daemon.until(lambda: daemon.told("STOPPING=1"))
            before = daemon.clock.now()
            ending = asyncio.ensure_future(daemon.ended())
            while not ending.done():
                await daemon.clock.advance(1)
                await asyncio.sleep(0.01)
            assert await ending == 0
            assert daemon.clock.now() - before < timedelta(seconds=45)
        finally:
            await daemon.close()
