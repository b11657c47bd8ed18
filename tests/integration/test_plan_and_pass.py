"""A plan changes nothing at all, and a pass does what the plan said, item by item, on any store."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from retentiond.engine.target import NullProgress
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.targets.dendrite_media.surveys import survey
from tests.support.chance import NIGHTLY
from tests.support.media_target import Retention
from tests.support.store import COMMON_THUMBNAILS, DendriteStore

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from tests.support.database import DatabaseServer
    from tests.support.store import StoredMedia

    Connection = asyncpg.Connection[asyncpg.Record]

POLICIES = [
    {"name": "videos", "match": {"content_type": "video/*"}, "keep": "7d"},
    {"name": "left", "match": {"room": "no_local_members"}, "keep": "30d"},
    {"name": "nowhere", "match": {"unreferenced": True, "larger_than": "200B"}, "keep": "20d"},
    {"name": "here", "match": {"origin": "local", "larger_than": "100B"}, "keep": "90d"},
    {"name": "kept", "match": {"origin": "b.test"}, "keep": "forever"},
    {"name": "unread", "match": {"origin": "a.test"}, "keep": "40d", "since": "accessed"},
    {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
]
RESTORED = "INSERT INTO retentiond.restored VALUES ($1, $2, NULL, now(), 'ann', '') ON CONFLICT DO NOTHING"


async def everything_of(connection: Connection) -> dict[str, Any]:
    """All of the database: what tables there are, what is in them, and what was ever written."""
    names = await connection.fetch(
        "SELECT n.nspname || '.' || c.relname AS name, c.relkind FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1"
    )
    found: dict[str, Any] = {"relations": [tuple(row) for row in names]}
    for row in names:
        if row["relkind"] == b"r":
            found[row["name"]] = await connection.fetchval(
                f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {row['name']} t"
            )
    functions = (
        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE nspname !~ '^pg_'"
    )
    return found | {"functions": await connection.fetchval(functions)}


def tree_of(directory: Path) -> dict[str, tuple[Any, ...]]:
    """All below a directory, with everything but the access times of directories and of our mark: a look moves them."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        about = path.lstat()
        accessed = about.st_atime_ns if path.is_file() and path.name != "store" else 0
        found[str(path)] = (
            about.st_ino,
            about.st_mode,
            about.st_uid,
            about.st_mtime_ns,
            about.st_ctime_ns,
            accessed,
        )
    return found


async def test_a_plan_changes_no_row_no_file_no_schema_and_no_index(
    store: DendriteStore, retention: Retention, media_path: Path, connection: Connection
) -> None:
    """Elsewhere a dry run was not dry."""
    await store.add(thumbnails=COMMON_THUMBNAILS)
    protected = await store.add()
    await store.add_profile("alice", protected.uri)
    for path in tree_of(media_path):
        os.utime(path, ns=(10**18, 10**18))
    for _ in range(2):
        # Without a ledger, and with one.
        rows, files = await everything_of(connection), tree_of(media_path)
        plan, _ = await retention.one_plan()
        assert plan.removed_items == 1
        assert await everything_of(connection) == rows
        assert tree_of(media_path) == files
        await retention.one_pass(policies=[])
    assert "retentiond.ledger_version" in await everything_of(connection)


LEFT, JUST_LEFT, JOINED = "!left:a.test", "!just:a.test", "!joined:a.test"
ITEM = st.fixed_dictionaries(
    {
        "content": st.sampled_from([b"one", b"two", b"three" * 50, b""]),
        "origin": st.sampled_from(["here.test", "a.test", "b.test", "[::1]:8448"]),
        "uploader": st.sampled_from(["", "@alice:here.test", "@bob:here.test"]),
        "room": st.sampled_from(["", "", LEFT, JUST_LEFT, JOINED]),
        "days": st.sampled_from([-3, 0, 8, 31, 100, 10_000]),
        "content_type": st.sampled_from(["image/png", "video/mp4; x", ""]),
        "valid": st.sampled_from([True, True, True, False]),
        "file": st.sampled_from([True, True, False]),
        "odd": st.sampled_from([False, False, False, True]),
        "protected": st.sampled_from(["", "", "profile", "state", "account"]),
        "thumbnails": st.integers(0, 3),
        "kept": st.sampled_from(["", "", "", "hold", "hold on its user", "restored"]),
        "read_days_ago": st.sampled_from([0, 50, 10_000]),
    }
)


async def build(
    store: DendriteStore, connection: Connection, retention: Retention, items: list[dict[str, Any]]
) -> None:
    kept: list[tuple[StoredMedia, dict[str, Any]]] = []
    await store.add(age=timedelta(0))  # a store without any directory is refused
    # Bob left the only encrypted room, so that only his older uploads may be shown there.
    await store.add_state_event(JOINED, "m.room.encryption", "", {})
    for room, days in ((LEFT, 60), (JUST_LEFT, 6), (JOINED, 40)):
        await store.add_room(room, (True, 3 if room == JOINED else 1))
        sent_at = int((time.time() - days * 86_400) * 1000)
        await store.add_state_event(
            room, "m.room.member", "@bob:here.test", {"membership": "leave"},
            sender="@bob:here.test", sent_at=sent_at,
        )  # fmt: skip
    for number, item in enumerate(items):
        media = await store.add(
            media_id=f"item{number}",
            origin=item["origin"],
            user_id=item["uploader"],
            content=item["content"],
            content_type=item["content_type"],
            age=timedelta(days=item["days"]),
            base64hash=None if item["valid"] else "../" * 14 + "x",
            file=item["file"],
            thumbnails=COMMON_THUMBNAILS[: item["thumbnails"]],
        )
        if item["room"]:
            await store.add_event(item["room"], {"url": media.uri}, sender=item["uploader"] or "@eve:a.test")
        if item["odd"] and item["valid"] and item["file"]:
            (store.path_of(media.base64hash) / "odd").write_bytes(b"x")
        if item["protected"] == "profile":
            await store.add_profile(f"user{number}", media.uri)
        elif item["protected"] == "state":
            await store.add_state_event("!r:a.test", "emotes", str(number), {"url": media.uri})
        elif item["protected"] == "account":
            await store.add_account_data("alice", str(number), {"url": media.uri})
        file = store.path_of(media.base64hash) / "file"
        if item["valid"] and file.exists():
            os.utime(file, (time.time() - item["read_days_ago"] * 86_400, 1))
        kept += [(media, item)] if item["kept"] else []
    await keep_by_hand(connection, retention, kept)


async def keep_by_hand(
    connection: Connection, retention: Retention, kept: list[tuple[StoredMedia, dict[str, Any]]]
) -> None:
    """Put a hold on a media item, or on its uploader, or mark it as restored."""
    if not kept:
        return
    await retention.one_pass(policies=[])
    async with retention.opened() as target:
        for media, item in kept:
            if item["kept"] == "restored":
                await connection.execute(RESTORED, *media.key)
            elif item["kept"] == "hold":
                await target.holds.add(HoldRequest(HoldSubject("media", media.uri)))
            elif item["uploader"]:
                await target.holds.add(HoldRequest(HoldSubject("user", item["uploader"])))


MORE: dict[str, Any] = {
    "policies": [
        {
            "name": "unread thumbs",
            "match": {"origin": "a.test"},
            "keep": "40d",
            "since": "accessed",
            "remove": "thumbnails",
        },
        {"name": "thumbs", "match": {"larger_than": "1B"}, "keep": "7d", "remove": "thumbnails"},
        POLICIES[1],
        {"name": "old", "match": {"larger_than": "1B"}, "keep": "90d"},
    ],
    "quota": [
        {"name": "tight", "match": {"origin": "remote"}, "max_size": "100B", "evict": "oldest", "min_age": "1d"},
        {
            "name": "none",
            "match": {"origin": "local"},
            "max_size": "0B",
            "evict": "least_recently_accessed",
            "min_age": "20d",
        },
    ],
}  # fmt: skip


async def compare(
    server: DatabaseServer, directory: Path, items: list[dict[str, Any]], batch: int, more: dict[str, Any]
) -> None:
    dsn = await server.clone()
    connection = await asyncpg.connect(dsn)
    media_path = directory / dsn.rpartition("_")[2]
    media_path.mkdir()
    try:
        store = DendriteStore(connection, media_path)
        retention = Retention(dsn, media_path)
        await build(store, connection, retention, items)
        keys: dict[str, Any] = (
            {"policies": POLICIES, "pace": {"batch": batch}}
            | more
            | {"encrypted_remote": "keep" if len(items) % 2 else "fetch_again"}
        )
        plan, listed = await retention.one_plan(**keys)
        # With quotas an explanation is a plan of the whole store.
        async with retention.opened(**keys) as target:
            for item in () if "quota" in keys else listed:
                assert (await target.explain(item.media, NullProgress())).verdict == item
        orphans = await store.orphan_thumbnail_rows()
        before = {key.uri for key in await store.rows()}
        report = await retention.one_pass(**keys)
        after = {key.uri for key in await store.rows()}
        assert {item.media for item in listed} == before
        media = [item for item in listed if item.reason != "thumbnails"]
        assert sorted(item.media for item in media) == sorted(before)
        assert {item.media for item in media if item.action == "remove"} == before - after
        assert {item.media for item in media if item.action == "keep"} == after
        for name in ("removed", "kept", "shared_blobs", "missing_file", "orphan_thumbnail_row"):
            assert getattr(report, name) == getattr(plan, name), name
        assert sum(item.bytes for item in listed) == report.removed_bytes
        assert await store.broken_references() == []
        assert await store.orphan_thumbnail_rows() == orphans
        assert (await retention.one_plan(**keys))[0].removed_items == 0
    finally:
        await connection.close()
        await server.drop(dsn)


AT_RANDOM = settings(
    max_examples=40 if NIGHTLY else 5,
    deadline=None,
    database=None,
    derandomize=True,
    # Each example costs seconds: one that fails is told as it is.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@AT_RANDOM
@given(items=st.lists(ITEM, max_size=12), batch=st.sampled_from([1, 3, 1000]))
def test_plan_and_pass_agree_item_by_item(
    postgres: DatabaseServer, tmp_path: Path, items: list[dict[str, Any]], batch: int
) -> None:
    run(compare(postgres, tmp_path, items, batch, {}))


@AT_RANDOM
@given(items=st.lists(ITEM, min_size=8, max_size=12), batch=st.sampled_from([1, 3, 1000]))
def test_plan_and_pass_agree_on_thumbnails_alone_and_on_quotas_as_well(
    postgres: DatabaseServer, tmp_path: Path, items: list[dict[str, Any]], batch: int
) -> None:
    """Each removal finds what those before it have left."""
    run(compare(postgres, tmp_path, items, batch, MORE))


def run(comparison: Coroutine[Any, Any, None]) -> None:
    with (
        pytest.MonkeyPatch.context() as patched,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        # So few rows would be one page.
        patched.setattr(survey, "_PAGE", 2)
        runner.run(comparison)
