"""Media that other retention tools lost or left broken, by what their users saw: none of it happens here.

A row that loses its file to a sweep between dendrite's look and its insert is in tests/system/test_race, and media
that a crash between file and row breaks for ever in tests/system/test_crashes.
"""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.engine.target import PassOptions, Selection
from tests.support.dendrite_writer import DendriteWriter
from tests.support.media_target import REMOTE
from tests.support.store import COMMON_THUMBNAILS, DendriteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.media_target import Retention

    Connection = asyncpg.Connection[asyncpg.Record]

YOUNG = timedelta(days=1)


async def test_live_media_are_not_lost_with_an_old_row_that_shares_their_hash(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(content=b"forwarded", thumbnails=COMMON_THUMBNAILS)
    live = [
        await store.add(content=b"forwarded", origin="here.test", user_id="@u:here.test"),
        await store.add(content=b"forwarded", origin="elsewhere.test", age=YOUNG),
    ]
    files = store.files()
    await retention.one_pass()
    assert set(await store.rows()) == {media.key for media in live}
    assert store.files() == files


async def test_another_origins_row_does_not_go_with_the_same_media_id(
    store: DendriteStore, retention: Retention
) -> None:
    await store.add(media_id="same", thumbnails=COMMON_THUMBNAILS)
    other = await store.add(media_id="same", origin="elsewhere.test", age=YOUNG, thumbnails=COMMON_THUMBNAILS)
    await retention.one_pass()
    assert set(await store.rows()) == {other.key}
    assert {row.key for row in await store.thumbnail_rows()} == {other.key}
    assert await store.broken_references() == []


async def test_media_whose_directory_is_gone_do_not_stay_broken_for_ever(
    store: DendriteStore, retention: Retention, database: str, media_path: Path
) -> None:
    await store.add(age=YOUNG)
    broken = await store.add(file=False)
    await retention.one_pass()
    # Without the row, dendrite fetches them again.
    async with asyncpg.create_pool(database, min_size=0) as pool:
        await DendriteWriter(pool, media_path).fetch(broken.key, broken.content)
    assert broken.key in await store.rows()
    assert await store.dead_references() == []


async def test_a_remote_users_avatar_stays_though_no_profile_and_no_local_policy_speaks_of_it(
    store: DendriteStore, retention: Retention
) -> None:
    avatar = await store.add()
    await store.add()
    await store.add_state_event(
        "!r:there.test",
        "m.room.member",
        "@remote:there.test",
        {"membership": "join", "avatar_url": avatar.uri},
    )
    await retention.one_pass(policies=[REMOTE])
    assert set(await store.rows()) == {avatar.key}


async def test_a_file_that_only_an_archived_row_refers_to_is_not_forgotten(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    archived = await store.add(content=b"of both")
    later = await store.add(content=b"of both", origin="elsewhere.test", age=YOUNG)
    await retention.one_pass(grace="30d")
    await connection.execute(
        "UPDATE mediaapi_media_repository SET creation_ts = 1500000000000 WHERE media_id = $1",
        later.key.media_id,
    )
    async with retention.opened(grace="0s", settle="0s", protect=[]) as target:
        assert (await target.run_pass(PassOptions(command="run"))).removed_items == 1
        await target.sweep(everything=True)
        assert (await target.sweep(everything=True)).purged == 0
        await target.restore(Selection(media=archived.uri))
    assert set(await store.rows()) == {archived.key}
    assert await store.broken_references() == []


@pytest.mark.parametrize("call", ["rename", "unlink", "stat", "fsync"])
async def test_a_disk_that_does_not_answer_does_not_hold_up_the_event_loop(
    store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await store.add(thumbnails=COMMON_THUMBNAILS)
    asked, answer = threading.Event(), threading.Event()
    real = getattr(os, call)

    def slow(*arguments: Any, **keywords: Any) -> Any:
        # Below the media directory everything goes by descriptors, and nothing else does.
        if not {"dir_fd", "src_dir_fd"} & keywords.keys() and call != "fsync":
            return real(*arguments)
        asked.set()
        # Only the loop says go on: were it held up by this, nobody would.
        assert answer.wait(20)
        return real(*arguments, **keywords)

    async def answer_when_asked() -> None:
        while not asked.is_set():
            await asyncio.sleep(0.001)
        answer.set()

    async with retention.opened(grace="0s", settle="0s") as target:
        loop = asyncio.create_task(answer_when_asked())
        with monkeypatch.context() as patched:
            patched.setattr(os, call, slow)
            report = await target.run_pass(PassOptions(command="once"))
        await loop
    assert report.state == "finished"
    assert store.left_of_ours() == []
