"""Each class of errors that a real server can be brought to has its own words, and its own next step."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from retentiond.adapters.postgres import connection_to, translate_errors
from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.model.errors import UnreachableError
from tests.support.postgres_proxy import proxy_before

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Connection = asyncpg.Connection[asyncpg.Record]


async def told(dsn: str, *statements: str) -> str:
    """What is said of the last statement's failure, or of the connection's."""
    try:
        async with connection_to(dsn) as connection:
            with translate_errors("the database"):
                for statement in statements:
                    await connection.fetch(statement)
    except UnreachableError as error:
        return str(error)
    raise AssertionError("nothing failed")


@asynccontextmanager
async def role(connection: Connection, dsn: str, options: str = "") -> AsyncIterator[str]:
    """The URL of the database for a role of its own, which may log in."""
    name = f"guest_{os.urandom(4).hex()}"
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'right' {options}")
    parts = urlsplit(dsn)
    try:
        yield parts._replace(netloc=f"{name}:right@{parts.hostname}:{parts.port}").geturl()
    finally:
        await connection.execute(f"DROP ROLE {name}")


async def test_a_wrong_password_is_a_refused_login(connection: Connection, database: str) -> None:
    async with role(connection, database) as dsn:
        text = await told(dsn.replace(":right@", ":wrong@"))
    assert "refused the login" in text
    assert "check role and password" in text
    assert "wrong" not in text


async def test_a_database_that_is_not_there_is_called_that(database: str) -> None:
    text = await told(urlsplit(database)._replace(path="/nowhere").geturl())
    assert "is not on this server" in text
    assert "correct the database's name" in text


async def test_a_role_without_a_connection_left_is_told_what_to_raise(
    connection: Connection, database: str
) -> None:
    async with role(connection, database, "CONNECTION LIMIT 0") as dsn:
        text = await told(dsn)
    assert "has no connection left" in text
    assert "max_connections" in text


async def test_temporary_files_above_the_limit_are_no_lost_connection(database: str) -> None:
    text = await told(
        database,
        "SET temp_file_limit = '64kB'",
        "SET work_mem = '64kB'",
        "SELECT n FROM generate_series(1, 200000) AS g(n) ORDER BY n DESC",
    )
    assert "went over a limit that is set on the server" in text
    assert "SET temp_file_limit" in text


async def test_a_lock_that_is_not_free_is_called_that(connection: Connection, database: str) -> None:
    async with connection.transaction():
        await connection.execute("LOCK TABLE mediaapi_thumbnail")
        text = await told(database, "SET lock_timeout = '1ms'", "SELECT FROM mediaapi_thumbnail")
    assert "kept a lock for too long" in text
    assert "pg_blocking_pids" in text


async def test_a_statement_that_was_cancelled_is_no_server_that_is_down(database: str) -> None:
    text = await told(database, "SET statement_timeout = '1ms'", "SELECT pg_sleep(60)")
    assert "cancelled a statement" in text
    assert "pg_cancel_backend" in text


async def test_a_read_only_transaction_is_told_to_go_to_the_primary(database: str) -> None:
    text = await told(database, "SET default_transaction_read_only = on", "DELETE FROM mediaapi_thumbnail")
    assert "is read-only" in text
    assert "primary" in text


async def test_a_missing_right_is_to_be_granted(connection: Connection, database: str) -> None:
    async with role(connection, database) as dsn:
        text = await told(dsn, "SELECT FROM mediaapi_thumbnail")
    assert "denied a right: permission denied for table mediaapi_thumbnail" in text
    assert "grant that right" in text


async def test_an_ended_session_is_told_with_the_servers_own_words(
    connection: Connection, database: str
) -> None:
    async with connection_to(database) as one:
        waiting = asyncio.ensure_future(one.fetch("SELECT pg_sleep(60)"))
        while not await connection.fetchval(
            "SELECT true FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'",
            one.get_server_pid(),
        ):
            await asyncio.sleep(0.01)
        await connection.execute("SELECT pg_terminate_backend($1)", one.get_server_pid())
        ended = "ended the connection: terminating connection due to admin"
        with pytest.raises(UnreachableError, match=ended), translate_errors("the database"):
            await waiting


async def test_a_connection_that_was_closed_meanwhile_is_called_that(database: str) -> None:
    async with connection_to(database) as one:
        await one.execute("SET idle_in_transaction_session_timeout = '1ms'")
        ended = asyncio.Event()
        one.add_termination_listener(lambda _connection: ended.set())
        await one.execute("BEGIN")
        await ended.wait()
        with pytest.raises(UnreachableError, match="closed the connection"), translate_errors("the database"):
            await one.execute("SELECT 1")


async def test_text_that_is_not_utf_8_is_called_that(connection: Connection, database: str) -> None:
    name = f"ascii_{os.urandom(4).hex()}"
    await connection.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        dsn = urlsplit(database)._replace(path=f"/{name}").geturl()
        text = await told(dsn, r"""SELECT '"\u00e9"'::json #>> '{}'""")
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert "holds text that is not UTF-8" in text


@pytest.mark.parametrize(
    ("damaged", "page", "happened", "next_step"),
    [
        ("worn", b"\xff" * 8192, "cannot read or write its own files", "restore from a backup"),
        ("worn_n", bytes(8192), "has a damaged index", "REINDEX"),
    ],
)
async def test_damaged_files_of_the_server_are_to_be_mended_and_not_to_be_started(
    damaged: str, page: bytes, happened: str, next_step: str
) -> None:
    with EmbeddedPostgres({"fsync": "off"}) as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE TABLE worn AS SELECT n FROM generate_series(1, 100) AS g(n)")
        await connection.execute("CREATE INDEX worn_n ON worn (n)")
        path = await connection.fetchval(
            "SELECT current_setting('data_directory') || '/' || pg_relation_filepath($1::text::regclass)",
            damaged,
        )
        await connection.execute("CHECKPOINT")
        await connection.close()
        await asyncio.to_thread(server.crash)
        with open(path, "r+b") as file:  # noqa: ASYNC230
            # An index begins with a page about itself.
            file.seek(8192 * (damaged == "worn_n"))
            file.write(page)
        await asyncio.to_thread(server.start)
        text = await told(server.dsn(), "SET enable_seqscan = off", "SELECT * FROM public.worn WHERE n = 7")
    assert happened in text
    assert next_step in text


async def test_a_server_that_starts_up_is_waited_for_and_not_started() -> None:
    with EmbeddedPostgres({"fsync": "off"}) as server:
        connection = await asyncpg.connect(server.dsn())
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        # A session that will not end keeps the server in its shutdown: new ones are sent away.
        os.kill(pid, signal.SIGSTOP)
        try:
            assert server.directory is not None
            (postmaster,) = server.directory.rglob("postmaster.pid")
            os.kill(int(postmaster.read_text().split()[0]), signal.SIGINT)
            while True:
                with pytest.raises(UnreachableError) as caught:
                    async with connection_to(server.dsn()):
                        pass
                if "takes no connections now" in str(caught.value):
                    break
        finally:
            os.kill(pid, signal.SIGCONT)
            connection.terminate()
        assert "wait until it has started" in str(caught.value)


async def test_a_login_that_nobody_answers_is_no_server_that_is_down(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retentiond.adapters.postgres._CONNECT_SECONDS", 0.2)
    async with proxy_before(database) as proxy:
        proxy.fall_silent()
        text = await told(proxy.dsn)
    assert "did not answer in time" in text
    assert "firewall or proxy" in text


async def test_a_host_that_has_no_address_is_called_that() -> None:
    assert "host name that cannot be resolved" in await told("postgresql://nobody@host.invalid/media")


async def test_a_socket_that_is_not_there_is_named() -> None:
    text = await told("postgresql://dendrite@/media?host=/nowhere&port=5433")
    assert "(media at socket /nowhere/.s.PGSQL.5433 as role dendrite)" in text
    assert "start PostgreSQL" in text
