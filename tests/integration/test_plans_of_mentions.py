"""The plans of the statements that ask what mentions media, over a store that is large enough to matter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.adapters.postgres import connect
from retentiond.ledger.ledger import Ledger
from retentiond.targets.dendrite_media.database.rows import SCHEMA
from retentiond.targets.dendrite_media.quarantine.release import SQL as RELEASE_SQL
from retentiond.targets.dendrite_media.quarantine.released_rows import SQL as RELEASED_SQL
from retentiond.targets.dendrite_media.references.copies import PLAN_COPY
from retentiond.targets.dendrite_media.references.copies import SQL as REFERENCES
from retentiond.targets.dendrite_media.restore.wanted import SQL as WANTED_SQL
from retentiond.targets.dendrite_media.surveys.asked import SQL as ASKED_SQL
from retentiond.targets.dendrite_media.surveys.survey import PLAN_SQL, SQL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from retentiond.adapters.postgres import Conn

FILL = """
INSERT INTO mediaapi_media_repository
SELECT 'media' || n, 'there.test', 'image/png', 1, 1, '', repeat('A', 43), '' FROM generate_series(1, 30000) n;
INSERT INTO retentiond.reference_copy (sources, begun_at) VALUES ('{room_state,messages}', now());
INSERT INTO retentiond.reference SELECT 1, s, 'media' || n, 'there.test'
FROM generate_series(1, 60000) n CROSS JOIN unnest(ARRAY['room_state', 'messages']) s;
INSERT INTO retentiond.reference_member SELECT 1, '@user' || n || ':here.test' FROM generate_series(1, 20000) n;
ANALYZE;
"""


@pytest.fixture
async def large(database: str) -> AsyncIterator[Conn]:
    """A connection as the program opens it, to a store with a copy of references."""
    connection = await connect(database)
    await Ledger().make(connection, SCHEMA)
    await connection.execute(FILL)
    yield connection
    await connection.close()


async def nodes(connection: Conn, statement: str, *arguments: Any) -> list[tuple[str, str]]:
    """The nodes of a statement's plan: what each does, and to which relation or index."""
    found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)

    def walk(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
        yield node["Node Type"], node.get("Index Name") or node.get("Relation Name") or ""
        for child in node.get("Plans", ()):
            yield from walk(child)

    return list(walk(json.loads(found)[0]["Plan"]))


ASKED = ["room_state", "messages", "encrypted"]
OURS = ["here.test"]


async def test_a_page_of_rows_with_mentions_is_read_by_indexes_and_sorts_nothing(large: Conn) -> None:
    for statement in ("make_mentions", "make_members"):
        await large.execute(SQL[statement])
    await large.execute(SQL["learn_mentions"], 1, ASKED)
    await large.execute(SQL["learn_members"], 1)
    for statement in ("sort_mentions", "analyze_mentions", "sort_members", "analyze_members"):
        await large.execute(SQL[statement])
    plan = await nodes(large, SQL["media_page_with_mentions"], "media2", "there.test", 2000, ASKED, OURS)
    used = {name for _, name in plan}
    assert {"mediaapi_media_repository_index", "mention_by_key", "mention_member_by_user"} <= used
    assert not {"Sort", "Hash Join", "Merge Join"} & {kind for kind, _ in plan}
    # Whether there is any member at all is read once, and ends at the first.
    assert {name for kind, name in plan if kind == "Seq Scan"} <= {"mention_member"}


async def test_a_release_asks_the_copy_by_its_indexes(large: Conn) -> None:
    keys = [f"media{number}" for number in range(100)], ["there.test"] * 100
    rows = ["@user1:here.test"] * 100, [1] * 100
    for statement, arguments in (
        (SQL["mentions_of"], (1, ASKED, *rows, OURS)),
        (RELEASE_SQL["kept_keys"], (1, ASKED, OURS)),
    ):
        plan = await nodes(large, statement, *keys, *arguments)
        assert {"reference_by_key", "reference_member_by_user"} <= {name for _, name in plan}
        for relation in ("reference", "mediaapi_media_repository"):
            assert ("Seq Scan", relation) not in plan


async def test_what_is_protected_in_quarantine_is_asked_by_indexes(large: Conn) -> None:
    await large.execute(
        "INSERT INTO retentiond.released_media (pass_id, policy, released_at, grace_until, even_protected, had_file,"
        " media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id, thumbnails)"
        " SELECT 1, 'rule', now(), now(), false, true, 'gone' || n, 'there.test', 'image/png', 1, 1, '',"
        " md5(n::text) || repeat('A', 11), '@user' || n || ':here.test', '{}' FROM generate_series(1, 50000) n"
    )
    await large.execute("VACUUM ANALYZE retentiond.released_media")
    found = await large.fetch("SELECT base64hash AS hash FROM retentiond.released_media LIMIT 1000")
    hashes = [row["hash"] for row in found]
    plan = await nodes(large, WANTED_SQL["protected_hashes"], hashes, 1, ASKED, OURS)
    used = {name for _, name in plan}
    assert {"released_media_by_hash", "reference_by_key", "reference_member_by_user"} <= used
    for relation in ("released_media", "reference"):
        assert ("Seq Scan", relation) not in plan


async def test_what_a_protection_keeps_is_marked_in_one_join_and_not_row_by_row(large: Conn) -> None:
    await large.execute(SQL["make_due"])
    await large.execute(
        "INSERT INTO due SELECT base64hash, media_id, media_origin, 0 FROM mediaapi_media_repository; ANALYZE due"
    )
    for statement in ("make_plan_copy", "make_plan_members", "sort_plan_members"):
        await large.execute(REFERENCES[statement])
    await large.execute(f"INSERT INTO {PLAN_COPY} SELECT * FROM retentiond.reference")
    await large.execute(f"INSERT INTO {PLAN_COPY}_member SELECT * FROM retentiond.reference_member")
    await large.execute(REFERENCES["analyze_copy"].replace("{reference}", PLAN_COPY))
    for statements, index in (
        (SQL, "reference_member_by_user"),
        (PLAN_SQL, "plan_reference_member_by_user"),
    ):
        for statement, arguments in (
            ("keep_referenced", (1, ["room_state"])),
            ("keep_encrypted", (1, ["encrypted"], OURS)),
        ):
            plan = await nodes(large, statements[statement], *arguments)
            joins = [kind for kind, _ in plan if "Join" in kind]
            assert joins in (["Hash Join"], ["Merge Join"])
        assert index in {name for _, name in plan}


async def test_what_is_asked_again_is_read_by_indexes_a_page_at_a_time(large: Conn) -> None:
    facts = '{"policies": [{"name": "rule", "keep_seconds": 1.0, "match": {"unreferenced": true, "content_type": "*"}}]}'
    await large.execute(
        "INSERT INTO retentiond.released_media (pass_id, policy, released_at, grace_until, even_protected, had_file, facts,"
        " media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id, thumbnails)"
        f" SELECT 1, 'rule', now(), now(), false, true, CASE WHEN n % 2 = 0 THEN '{facts}'::jsonb END, 'gone' || n,"
        " 'there.test', 'image/png', 1, 1, '', md5(n::text) || repeat('A', 11), '', '{}' FROM generate_series(1, 50000) n"
    )
    await large.execute("VACUUM ANALYZE retentiond.released_media")
    hashes = [row["hash"] for row in await large.fetch(
        "SELECT base64hash AS hash FROM retentiond.released_media LIMIT 1000"
    )]  # fmt: skip
    asked: dict[str, tuple[str, tuple[Any, ...]]] = {
        "released_media_by_facts": (ASKED_SQL["asked_page"], (0, 1000)),
        "released_media_by_hash": (ASKED_SQL["asked_of"], (hashes,)),
        "released_media_pkey": (RELEASED_SQL["mark_refuted"], (list(range(1000)), 1)),
    }
    for index, (statement, arguments) in asked.items():
        plan = await nodes(large, statement, *arguments)
        assert index in {name for _, name in plan}, statement
        for relation in ("released_media", "mediaapi_media_repository"):
            assert ("Seq Scan", relation) not in plan, statement
