"""The states of an entry: nothing that the program does leads to a change that `CHANGES` does not have."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import Selection
from retentiond.targets.dendrite_media.quarantine.entry_table import CHANGES, SQL, Change, Claim
from tests.support.media_target import let_pass, one_repair

if TYPE_CHECKING:
    import asyncpg

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

WATCH = """
CREATE TABLE seen_change (was text, becomes text);
CREATE FUNCTION watch_states() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was text := CASE WHEN TG_OP <> 'INSERT' THEN OLD.state END;
    becomes text := CASE WHEN TG_OP <> 'DELETE' THEN NEW.state END;
BEGIN
    IF was IS DISTINCT FROM becomes THEN
        INSERT INTO public.seen_change VALUES (was, becomes);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER watch_states AFTER INSERT OR UPDATE OR DELETE ON retentiond.entry
FOR EACH ROW EXECUTE FUNCTION watch_states();
"""


@pytest.fixture
async def watched(store: DendriteStore, retention: Retention, connection: Connection) -> Connection:
    """A ledger that remembers each change of an entry's state."""
    await store.add()
    await retention.one_pass()
    await connection.execute(WATCH)
    return connection


async def seen(connection: Connection) -> set[tuple[str | None, str | None]]:
    return {(row["was"], row["becomes"]) for row in await connection.fetch("SELECT * FROM seen_change")}


async def test_passes_sweeps_restores_and_purges_change_entries_only_as_the_states_allow(
    store: DendriteStore, retention: Retention, watched: Connection
) -> None:
    grace = {"grace": "1d"}
    blobs = [await store.add() for _ in range(6)]
    await retention.one_pass(**grace)
    # Wanted again by a local upload, then not any more.
    again = await store.add(
        media_id="again", origin="here.test", user_id="@a:here.test", content=blobs[0].content,
        age=timedelta(0), file=False,
    )  # fmt: skip
    async with retention.opened(**grace) as target:
        await target.sweep(everything=True)
        await watched.execute("DELETE FROM mediaapi_media_repository WHERE media_id = $1", again.key.media_id)
        await target.sweep(everything=True)
        await target.restore(Selection(media=blobs[1].uri))
    orphan = await store.add()
    await watched.execute("DELETE FROM mediaapi_media_repository WHERE media_id = $1", orphan.key.media_id)
    await one_repair(retention)
    async with retention.opened(**grace) as target:
        await target.restore(Selection())
        await target.forget([media.uri for media in blobs[:5]])
    await retention.one_pass(**grace)
    await let_pass(watched, timedelta(days=2))
    async with retention.opened(**grace) as target:
        await target.sweep(everything=True)
        await let_pass(watched, timedelta(days=2))
        await target.sweep(everything=True)
    changes = await seen(watched)
    assert changes == {
        (None, "intended"),
        ("intended", "quarantined"),
        ("quarantined", "returned"),
        ("returned", "quarantined"),
        ("quarantined", "restoring"),
        ("restoring", "returned"),
        ("restoring", "purging"),
        ("quarantined", "purging"),
        ("returned", "purging"),
        ("purging", None),
    }
    assert {(was, becomes) for was, becomes in changes if becomes not in CHANGES[was]} == set()


async def test_the_states_are_those_of_the_table_and_each_claim_and_change_has_its_statement(
    watched: Connection,
) -> None:
    check = await watched.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'retentiond.entry'::regclass AND conname = 'entry_state_check'"
    )
    assert set(re.findall(r"'(\w+)'", check)) == CHANGES.keys() - {None}
    assert {*Claim, *Change} <= SQL.keys()
