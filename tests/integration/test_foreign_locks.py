"""Locks that other roles hold: they find no key of ours in advance, and a lock of ours names its holder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from retentiond.engine.target import PassOptions
from retentiond.ledger.session import CLAIMANT, DUTY, LEASE
from retentiond.ledger.session import SQL as LOCKS
from retentiond.model.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

ROLE = "retentiond_test_bystander"


@pytest.fixture
async def bystander(database: str, connection: Connection) -> AsyncIterator[Connection]:
    """A connection of a role that may do nothing but connect."""
    await connection.execute(
        f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN PASSWORD 'x'; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    user = database.split("//")[1].split("@", maxsplit=1)[0]
    opened = await asyncpg.connect(database.replace(user, f"{ROLE}:x"))
    yield opened
    await opened.close()


async def test_a_role_that_may_only_connect_stops_nothing_with_locks_of_keys_that_it_can_know(
    retention: Retention, store: DendriteStore, bystander: Connection, connection: Connection
) -> None:
    for kind in (LEASE, CLAIMANT, DUTY, 1380931143):
        for name in range(50):
            await bystander.execute("SELECT pg_advisory_lock($1::integer, $2::integer)", kind, name)
    await bystander.execute("SELECT pg_advisory_lock(hashtextextended('retentiond.reference', 0))")
    await bystander.execute(f"SELECT pg_advisory_lock({DUTY}, hashtext('media'))")
    await store.add()
    assert (await retention.one_pass(settle="0s", grace="1h")).removed_items == 1
    # A dead process had claimed it.
    await connection.execute("UPDATE retentiond.entry SET claimed_by = 7")
    async with retention.opened(settle="0s") as target:
        assert (await target.end_grace()).purged == 1


async def test_a_lock_that_no_retentiond_holds_names_the_role_the_process_and_its_start(
    retention: Retention, store: DendriteStore, connection: Connection, bystander: Connection
) -> None:
    await store.add()
    await retention.one_pass()
    await connection.execute(f"GRANT USAGE ON SCHEMA retentiond TO {ROLE}")
    await connection.execute(f"GRANT SELECT ON retentiond.store TO {ROLE}")
    assert await bystander.fetchval(LOCKS["try_lock"], LEASE, "")
    process = await bystander.fetchval("SELECT pg_backend_pid()")
    async with retention.opened() as target:
        with pytest.raises(BusyError) as refused:
            await target.run_pass(PassOptions("once", patience=0.0))
        status = await target.status()
    for told in (str(refused.value), str(status.holder)):
        assert f"role {ROLE}, process {process} of the database server, from " in told
        assert "connected since 20" in told
    assert "pg_terminate_backend" in str(refused.value)
