"""One at a time, and nobody in another's hands: the lease of the store, and the claims on entries."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.adapters import postgres
from retentiond.adapters.postgres import connect
from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.demo.store import make_tables
from retentiond.engine.target import NullProgress, PassOptions
from retentiond.ledger import session as ledger_session
from retentiond.ledger.claims import claimant
from retentiond.ledger.lease import hold_lease
from retentiond.ledger.ledger import Ledger
from retentiond.ledger.session import LEASE, Guard
from retentiond.ledger.session import SQL as LOCKS
from retentiond.model.errors import BusyError, LeaseLostError, RefusedError, UnreachableError
from retentiond.targets.dendrite_media.database.rows import SCHEMA
from retentiond.targets.dendrite_media.disk.layout import EntryPath
from retentiond.targets.dendrite_media.disk.moves import purge_entries, quarantine_blobs
from retentiond.targets.dendrite_media.disk.tree import MediaTree
from retentiond.targets.dendrite_media.quarantine import removal
from retentiond.targets.dendrite_media.surveys.assess import assess
from tests.support.media_target import Retention
from tests.support.postgres_proxy import pool_sessions
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    Connection = asyncpg.Connection[asyncpg.Record]

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
TRYING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'retentiond'"
    " AND datname = current_database() AND query LIKE '%pg_try_advisory_lock%'"
)
INTENT = "UPDATE retentiond.entry SET state = 'intended', claimed_by = $1, renamed_at = NULL"


@pytest.fixture
async def ledger(connection: Connection) -> None:
    """The ledger, before any pass."""
    await Ledger().make(connection, SCHEMA)


async def entry(connection: Connection) -> tuple[str, int | None]:
    row = await connection.fetchrow("SELECT state, claimed_by FROM retentiond.entry")
    assert row is not None
    return row["state"], row["claimed_by"]


async def test_a_claim_of_one_who_lives_is_left_alone_and_of_one_who_died_is_taken_over(
    store: DendriteStore, retention: Retention, database: str, media_path: Path, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass()
    async with retention.opened() as target:
        async with claimant(database) as other:
            await connection.execute(INTENT, other.claimant_id)
            await target.sweep(everything=True)
            assert await entry(connection) == ("intended", other.claimant_id)
        await target.sweep(everything=True)
        assert await entry(connection) == ("quarantined", None)
    assert len(list((media_path / ".retentiond/quarantine").rglob("file"))) == 1


async def test_what_a_living_purge_has_in_its_hands_is_not_given_back(
    store: DendriteStore, retention: Retention, database: str, connection: Connection
) -> None:
    """A purge that holds a directory open while a sweep renames it back unlinks live files."""
    media = await store.add()
    await retention.one_pass()
    await store.add(media_id="again", content=media.content, file=False)
    async with claimant(database) as other, retention.opened() as target:
        await connection.execute(
            "UPDATE retentiond.entry SET state = 'purging', claimed_by = $1", other.claimant_id
        )
        assert (await target.sweep(everything=True)).returned == 0
    assert store.files() == {}


async def test_nothing_more_is_touched_once_the_connection_that_holds_our_lock_has_ended(
    store: DendriteStore, media_path: Path
) -> None:
    media = await store.add()
    guard = Guard()
    guard.fall()
    path = EntryPath(1, media.base64hash, 1)  # type: ignore[arg-type]
    with MediaTree(media_path) as tree:
        for work in (quarantine_blobs(tree, guard), purge_entries(tree, guard)):
            with pytest.raises(LeaseLostError, match="the next start goes on"):
                work([path])
    assert list(store.files().values()) == [media.content]


async def test_the_guard_falls_when_an_administrator_ends_the_connection(
    ledger: None, database: str, connection: Connection
) -> None:
    async with claimant(database) as one:
        one.guard.ensure()
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'retentiond'"
        )
        while one.guard.stands:
            # Until the end of it has come through the socket.
            await connection.fetchval("SELECT 1")
    with pytest.raises(LeaseLostError):
        one.guard.ensure()


async def test_a_guard_falls_when_the_server_gives_no_sign_of_life(
    ledger: None, database: str, monkeypatch: pytest.MonkeyPatch, connection: Connection
) -> None:
    monkeypatch.setattr(ledger_session, "_PING_EVERY", 0.0)
    async with claimant(database) as one:
        monkeypatch.setattr(ledger_session, "_PATIENCE", 0.0001)
        while one.guard.stands:
            await connection.fetchval("SELECT pg_sleep(0.01)")


async def test_a_guard_falls_whatever_ends_the_watch_over_its_locks(
    ledger: None, database: str, monkeypatch: pytest.MonkeyPatch, connection: Connection
) -> None:
    async def fail(*_arguments: object) -> None:
        raise asyncpg.InternalServerError("nobody foresaw that")

    monkeypatch.setattr(ledger_session, "_PING_EVERY", 0.0)
    async with claimant(database) as one:
        monkeypatch.setattr(ledger_session.Session, "ask", fail)
        while one.guard.stands:
            await connection.fetchval("SELECT pg_sleep(0.01)")


async def test_two_passes_never_work_on_one_store_also_by_two_names(
    ledger: None, store: DendriteStore, retention: Retention, database: str
) -> None:
    await store.add()
    async with hold_lease(database, "once", patience=0.0), retention.opened() as target:
        with pytest.raises(BusyError, match=r"once on .*, pid \d+, since \d{4}-"):
            await target.run_pass(PassOptions("run", patience=0.0))
        # Who only looks, and who works by claims, needs no lock.
        assert (await target.plan(None, NullProgress())).removed_items == 1
        await target.sweep(everything=True)
        await target.status()
    assert len(await store.rows()) == 1
    assert (await retention.one_pass()).removed_items == 1


async def test_who_waits_a_moment_for_another_gets_its_turn(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    async with retention.opened() as target:
        async with hold_lease_of_nobody(connection):
            waiting = asyncio.create_task(target.run_pass(PassOptions("run", patience=100.0)))
            while not await connection.fetchval(TRYING):
                await asyncio.sleep(0.001)
        assert (await waiting).removed_items == 1


async def test_a_store_is_free_at_once_when_a_pass_is_over_however_late_the_server_hears_of_its_connections_end(
    ledger: None, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Any] = []

    def linger(self: Connection) -> None:
        left.append(self)

    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "terminate", linger)
        for _ in range(2):
            async with hold_lease(database, "once", patience=0.0):
                pass
    assert len(left) == 2
    for lingering in left:
        lingering.terminate()


@asynccontextmanager
async def hold_lease_of_nobody(connection: Connection) -> AsyncIterator[None]:
    """Hold the store's lock without a word of who does, as one does who has just taken it."""
    await Ledger().make(connection, SCHEMA)
    assert await connection.fetchval(LOCKS["try_lock"], LEASE, "")
    yield
    await connection.execute("SELECT pg_advisory_unlock_all()")


async def test_a_batch_rolls_back_when_another_has_taken_the_store_over(
    store: DendriteStore,
    retention: Retention,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await store.add()

    async def take_over(*arguments: Any, **keywords: Any) -> Any:
        await connection.execute("UPDATE retentiond.lease SET epoch = epoch + 1")
        return await assess(*arguments, **keywords)

    monkeypatch.setattr(removal, "assess", take_over)
    report = await retention.one_pass()
    assert (report.state, report.removed_items) == ("interrupted", 0)
    assert report.error is not None
    assert "took the store over" in report.error
    assert len(await store.rows()) == 1


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler in transaction mode."""
    pool_sessions(monkeypatch)


async def test_a_pooler_in_transaction_mode_is_noticed_and_refused(
    pooled: None, store: DendriteStore, retention: Retention
) -> None:
    await store.add()
    report = await retention.one_pass()
    assert report.refused is not None
    assert (report.state, report.refused.limit) == ("refused", "transaction_pooler")
    assert "session mode" in report.refused.hint
    assert len(await store.rows()) == 1


async def test_a_pooler_that_ignores_the_settings_of_a_connection_is_noticed_and_refused(
    store: DendriteStore, retention: Retention, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add()
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{database}" SET synchronous_commit = off')
    monkeypatch.setattr(postgres, "_SETTINGS", {"application_name": "retentiond"})
    report = await retention.one_pass()
    assert report.refused is not None
    assert (report.state, report.refused.limit) == ("refused", "pooler_settings")
    assert "PostgreSQL itself" in report.refused.hint
    assert len(await store.rows()) == 1


async def test_a_standby_is_refused_with_and_without_a_ledger(tmp_path: Path) -> None:
    media_path = tmp_path / "media"
    media_path.mkdir()
    with EmbeddedPostgres({"fsync": "off"}) as server:
        retention = Retention(server.dsn(), media_path)
        async with store_on(server.dsn(), media_path) as store:
            await store.add()
        for with_ledger in (False, True):
            if with_ledger:
                await retention.one_pass(policies=[])
            become(server, standby=True)
            async with retention.opened() as target:
                for report in (
                    await target.plan(None, NullProgress()),
                    await target.run_pass(PassOptions("run")),
                ):
                    assert report.refused is not None
                    assert (report.state, report.refused.limit) == ("refused", "standby")
                if with_ledger:
                    with pytest.raises(UnreachableError, match="is read-only"):
                        await target.sweep(everything=True)
            become(server, standby=False)
        assert (await retention.one_pass()).removed_items == 1


def become(server: EmbeddedPostgres, *, standby: bool) -> None:
    """Start the server anew, as a standby that follows nobody, or as a primary."""
    assert server.directory is not None
    server.crash()
    (data,) = [path.parent for path in server.directory.rglob("global") if path.is_dir()]
    signal = data / "standby.signal"
    if standby:
        signal.touch()
    else:
        signal.unlink()
    server.start()


@asynccontextmanager
async def store_on(dsn: str, media_path: Path) -> AsyncIterator[DendriteStore]:
    connection = await asyncpg.connect(dsn)
    try:
        await make_tables(connection)
        yield DendriteStore(connection, media_path)
    finally:
        await connection.close()


async def test_commits_are_synchronous_whatever_the_server_is_tuned_to(
    database: str, connection: Connection
) -> None:
    """With the release lost and the rename not, nobody would know the copy."""
    await connection.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$"
    )
    ours = await connect(database)
    try:
        assert await ours.fetchval("SHOW synchronous_commit") == "local"
    finally:
        await ours.close()
    theirs = await asyncpg.connect(database)
    try:
        assert await theirs.fetchval("SHOW synchronous_commit") == "off"
    finally:
        await theirs.close()


async def test_a_sweep_that_is_refused_by_the_store_says_so(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass()
    await connection.execute("UPDATE retentiond.store SET store_id = gen_random_uuid()")
    async with retention.opened() as target:
        with pytest.raises(RefusedError, match="another_store"):
            await target.sweep(everything=True)


async def test_of_two_that_make_the_ledger_at_once_one_waits_and_finds_it_made(database: str) -> None:
    first, second, third = [await asyncpg.connect(database) for _ in range(3)]
    # Both have seen that there is none, and both wait for one that gives up in the end.
    making_too = third.transaction()
    await making_too.start()
    await third.execute("CREATE SCHEMA retentiond")
    making = [asyncio.create_task(Ledger().make(each, SCHEMA)) for each in (first, second)]
    while await third.fetchval(WAITING) < len(making):
        await asyncio.sleep(0.01)
    await making_too.rollback()
    await asyncio.gather(*making)
    assert await third.fetchval("SELECT count(*) FROM retentiond.ledger_version") == 1
    for each in (first, second, third):
        await each.close()
