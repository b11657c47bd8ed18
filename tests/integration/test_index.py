"""The index that dendrite lacks: made once, right, and used by every look; and what each page of a pass costs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from retentiond.adapters.postgres import connect
from retentiond.ledger.ledger import Ledger
from retentiond.targets.dendrite_media.database import index
from retentiond.targets.dendrite_media.database.index import SQL as INDEX_SQL
from retentiond.targets.dendrite_media.database.index import ensure_index
from retentiond.targets.dendrite_media.database.rows import SCHEMA
from retentiond.targets.dendrite_media.holds.holds import SQL as HELD_SQL
from retentiond.targets.dendrite_media.quarantine.entries import SQL as ENTRIES_SQL
from retentiond.targets.dendrite_media.quarantine.entry_table import SQL as ENTRY_SQL
from retentiond.targets.dendrite_media.quarantine.release import SQL as RELEASE_SQL
from retentiond.targets.dendrite_media.quarantine.released_rows import SQL as RELEASED_SQL
from retentiond.targets.dendrite_media.restore.wanted import SQL as RESTORE_SQL
from retentiond.targets.dendrite_media.surveys.survey import SQL as DUE_SQL
from retentiond.targets.dendrite_media.sweeps.sweep import ROWS_SQL as THUMBNAIL_ROW_SQL
from tests.support.media_target import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import asyncpg

    from retentiond.adapters.postgres import Conn
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

INDEXES = "SELECT indexdef FROM pg_indexes WHERE tablename = 'mediaapi_media_repository' ORDER BY indexname"
SQL = {**DUE_SQL, **ENTRIES_SQL, **ENTRY_SQL, **RELEASE_SQL, **RELEASED_SQL}
ROWS = 100_000


async def definitions(connection: Connection) -> list[str]:
    return [row["indexdef"] for row in await connection.fetch(INDEXES)]


async def test_the_index_is_a_hash_index_in_collation_c_made_once_and_logged(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    with capture_logs() as log:
        await retention.one_pass()
        await retention.one_pass()
    (ours,) = [text for text in await definitions(connection) if "retentiond" in text]
    assert 'USING hash (base64hash COLLATE "C")' in ours
    assert [entry["event"] for entry in log if "index" in entry["event"]] == ["index_making", "index_made"]


async def test_no_index_is_made_where_the_configuration_says_so(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    before = await definitions(connection)
    assert (await retention.one_pass(create_index=False)).removed_items == 1
    assert await definitions(connection) == before


async def test_an_invalid_remnant_of_ours_is_made_again(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    await store.add()
    await connection.execute(INDEX_SQL["make_index"])
    await connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'retentiond_base64hash'::regclass"
    )
    await retention.one_pass()
    assert await connection.fetchval(INDEX_SQL["index_state"])


async def test_without_the_right_to_make_it_the_pass_goes_on(
    store: DendriteStore, database: str, media_path: Path, connection: Connection
) -> None:
    await store.add()
    role = f"guest_{database.rpartition('/')[2]}"
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        await connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
            f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {role}', current_database()); END $$"
        )
        guest = database.replace(database.split("//")[1].split("@", maxsplit=1)[0], f"{role}:x")
        with capture_logs() as log:
            assert (await Retention(guest, media_path).one_pass()).state == "finished"
        assert await store.rows() == {}
        (told,) = [entry for entry in log if entry["event"] == "index_not_made"]
        assert "must be owner" in told["reason"]
        assert "create_index: false" in told["hint"]
    finally:
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")


async def test_an_index_that_an_open_transaction_is_in_the_way_of_is_left_to_the_next_pass(
    store: DendriteStore, retention: Retention, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add()
    monkeypatch.setattr(index, "_TIMEOUT", 0.2)
    async with connection.transaction():
        await connection.execute("LOCK TABLE mediaapi_media_repository IN ROW EXCLUSIVE MODE")
        with capture_logs() as log:
            assert (await retention.one_pass()).removed_items == 1
    (told,) = [entry for entry in log if entry["event"] == "index_not_made"]
    assert "the next pass tries again" in told["hint"]


@pytest.fixture
async def large(database: str, connection: Connection) -> AsyncIterator[Conn]:
    """A connection as a pass has it, to a store with enough rows for a plan to matter, and its ledger."""
    await connection.execute(
        "INSERT INTO mediaapi_media_repository SELECT 'media' || n, 'there.test', 'image/png', 1, 0, '',"
        f" translate(encode(sha256(n::text::bytea), 'base64'), '+/=', '-_'), '' FROM generate_series(1, {ROWS}) n"
    )
    await connection.execute(
        "INSERT INTO mediaapi_thumbnail SELECT media_id, media_origin, 'image/png', 1, 0, 32, 32, 'crop'"
        " FROM mediaapi_media_repository"
    )
    ours = await connect(database)
    await Ledger().make(ours, SCHEMA)
    await ensure_index(ours, "media")
    await connection.execute(
        "INSERT INTO retentiond.entry (pass_id, hash, kind, state, files, bytes, settle, renamed_at, looked_at)"
        " SELECT 1, base64hash, 'blob', 'quarantined', 1, 1, '0', now(), now() FROM mediaapi_media_repository"
        " LIMIT 5000"
    )
    await connection.execute("VACUUM ANALYZE")
    try:
        yield ours
    finally:
        await ours.close()


async def plan_of(connection: Conn, statement: str, *arguments: Any) -> dict[str, Any]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
    finally:
        await transaction.rollback()
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def scans(plan: dict[str, Any], relation: str) -> set[str]:
    return {
        node["Node Type"]
        for node in nodes(plan)
        if node.get("Relation Name") == relation and "Scan" in node["Node Type"]
    }


def indexes(plan: dict[str, Any]) -> set[str]:
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node}


async def test_every_look_of_a_batch_goes_by_an_index_and_never_reads_the_whole_table(large: Conn) -> None:
    rows = await large.fetch(
        "SELECT media_id, media_origin, base64hash FROM mediaapi_media_repository LIMIT 1000"
    )
    ids, origins = [row["media_id"] for row in rows], [row["media_origin"] for row in rows]
    hashes = [row["base64hash"] for row in rows]
    ones = [1] * len(rows)
    looks: dict[str, tuple[Any, ...]] = {
        "record_entries": (1, 1, timedelta(0), hashes, ones, ones),
        "note_shared": (1, timedelta(0), hashes),
        "look_quarantined": (0, 1000, 1, True),
        "claim_returned": (0, 1000, 1, True),
        "quarantine_done": (list(range(1, 1001)), 1),
        "wanted_hashes": (hashes,),
        "wanted_thumbnails": (hashes,),
    }
    for name, arguments in looks.items():
        plan = await plan_of(large, SQL[name], *arguments)
        assert scans(plan, "mediaapi_media_repository") <= {"Index Scan", "Bitmap Heap Scan"}, name
        assert "retentiond_base64hash" in indexes(plan), name
    by_key: dict[str, tuple[Any, ...]] = {
        "lock_candidates": (ids, origins),
        "release": (
            1,
            ids,
            origins,
            ["p"] * len(ids),
            hashes,
            [1] * len(ids),
            [None] * len(ids),
            [None] * len(ids),
            0,
            timedelta(0),
            False,
        ),
    }
    for name, arguments in by_key.items():
        plan = await plan_of(large, SQL[name], *arguments)
        for relation in ("mediaapi_media_repository", "mediaapi_thumbnail"):
            assert scans(plan, relation) <= {"Index Scan", "Bitmap Heap Scan"}, name

    # A plan that is made once for all knows no batch's length: the seventh release took seven seconds by it.
    for _ in range(7):
        await large.fetch(SQL["wanted_hashes"], hashes)
    counts = "SELECT sum(generic_plans) FROM pg_prepared_statements WHERE cardinality(parameter_types) > 0"
    assert await large.fetchval(counts) == 0


async def test_pages_of_the_survey_and_of_what_is_due_go_by_an_index_without_a_sort(large: Conn) -> None:
    await large.execute(SQL["make_due"])
    await large.execute(
        "INSERT INTO pg_temp.due SELECT base64hash, media_id, media_origin, 0, 1, NULL FROM mediaapi_media_repository"
    )
    for statement in ("sort_due", "analyze_due"):
        await large.execute(SQL[statement])
    pages: dict[str, tuple[Any, ...]] = {
        "media_page": ("media5", "there.test", 2000),
        "due_page": ("A" * 43, 0, 1000),
    }
    for name, arguments in pages.items():
        plan = await plan_of(large, SQL[name], *arguments)
        types = {node["Node Type"] for node in nodes(plan)}
        assert types == {"Limit", "Index Scan"}, name


async def test_what_a_sweep_asks_each_minute_does_not_read_all_that_lies_in_quarantine(large: Conn) -> None:
    await large.execute("UPDATE retentiond.entry SET renamed_at = now() - interval '5 hours'")
    copied = "1, 'p', now() - interval '5 hours', now() + interval '19 hours'"
    row = (
        "media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id"
    )
    await large.execute(
        "INSERT INTO retentiond.released_media (pass_id, policy, released_at, grace_until, even_protected, had_file,"
        f" {row}, thumbnails) SELECT {copied}, false, true, {row}, '{{}}' FROM mediaapi_media_repository LIMIT 50000"
    )
    await large.execute(
        "INSERT INTO retentiond.thumbnail_release (pass_id, policy, released_at, grace_until, media_id, media_origin,"
        f" base64hash, thumbnails) SELECT {copied}, media_id, media_origin, base64hash, '{{}}' FROM retentiond.released_media"
    )
    for relation in ("released_media", "thumbnail_release", "entry"):
        await large.execute(f"VACUUM ANALYZE retentiond.{relation}")
    keys = (False, 1000, "", "", 0, 0, "")
    asked: list[tuple[str, str, tuple[Any, ...]]] = [
        ("released_media_by_time", THUMBNAIL_ROW_SQL["drop_late_thumbnail_rows"], (False,)),
        ("released_media_by_time", THUMBNAIL_ROW_SQL["thumbnails_of_returned_keys"], keys),
        ("entry_by_rename", ENTRY_SQL["look_quarantined"], (0, 1000, 1, False)),
        ("released_media_by_grace", HELD_SQL["due_rows_without_entry"], (0, 1000)),
        ("thumbnail_release_by_grace", RELEASED_SQL["forget_thumbnails_alone"], ()),
        ("thumbnail_release_restoring", RESTORE_SQL["thumbnail_restorers"], ()),
    ]
    for name, statement, arguments in asked:
        assert name in indexes(await plan_of(large, statement, *arguments)), statement


async def test_a_page_of_a_restore_reads_no_whole_table_while_the_ledger_has_no_statistics(
    large: Conn,
) -> None:
    row = (
        "media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id"
    )
    await large.execute(
        "INSERT INTO retentiond.released_media (pass_id, policy, released_at, grace_until, even_protected, had_file,"
        f" {row}, thumbnails) SELECT 1, 'p', now(), now(), false, true, {row}, '{{}}' FROM mediaapi_media_repository"
    )
    await large.execute(
        "INSERT INTO retentiond.entry (pass_id, hash, kind, state, files, bytes, settle)"
        " SELECT 1, base64hash, 'blob', 'quarantined', 1, 1, interval '0' FROM retentiond.released_media"
    )
    await large.execute("DELETE FROM pg_statistic WHERE starelid = 'retentiond.entry'::regclass")
    hashes = [record["hash"] for record in await large.fetch("SELECT hash FROM retentiond.entry LIMIT 1000")]
    marking = await plan_of(
        large, RELEASED_SQL["select_to_restore"], "", 1000, None, None, None, '{"claimant": 1}'
    )
    assert "Seq Scan" not in scans(marking, "mediaapi_media_repository")
    for name, arguments in (("claim_copies", (hashes, 1)), ("lock_copies_of", (hashes,))):
        assert "Seq Scan" not in scans(await plan_of(large, ENTRY_SQL[name], *arguments), "entry"), name
