"""What fails around the real program: its connections, the whole PostgreSQL, the disk, each call of it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

import asyncpg
import pytest

from retentiond.demo.postgres import EmbeddedPostgres
from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.crashes import fail_at, failing_calls, kill_at
from tests.support.database import DatabaseServer
from tests.support.file_systems import small_disk
from tests.support.real_program import RealProgram
from tests.support.worn_store import WornStore, make_worn_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.real_program import Zygote

pytestmark = pytest.mark.timeout(3600 if NIGHTLY else 1200)

# Between a commit and its effect, in the midst of a rename, of a purge, of a return.
PAUSES = (
    "after commit lock_candidates*",
    "before rename live>quarantine",
    "after commit lock_due_entries*",
    "before rename quarantine>purging",
    "before unlink purging",
    "before rename staging>live",
)


def some_pauses(place: int = 0, few: int = 2) -> list[str]:
    """Return all of them by night, by day a few by chance: those of another place are others."""
    shuffled = random.Random(SEED).sample(PAUSES, len(PAUSES))
    return shuffled if NIGHTLY else shuffled[place * few : (place + 1) * few]


BACKENDS = {
    "all": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'retentiond'"
    " AND datname = current_database()",
    "the lease's": "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1380931140"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "the claimant's": "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1380931141"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
}


@pytest.mark.parametrize("whose", BACKENDS)
async def test_a_pass_whose_backends_are_killed_is_finished_by_the_next(
    worn: WornStore, tmp_path: Path, whose: str
) -> None:
    for at in some_pauses(list(BACKENDS).index(whose), few=1):
        async with worn.copy(tmp_path / "copy") as copy:
            broken = await copy.broken()
            run = copy.program.start("once", orders=[copy.program.order(at, "pause")])
            await run.until_paused()
            await copy.connection.execute(BACKENDS[whose])
            run.go_on()
            ended = await run.end()
            # The claimant of a sweep may be killed after its last effect.
            assert ended.status in ({4} if whose == "all" else {0, 4}), (AGAIN, at, ended)
            assert await copy.broken() <= broken, (AGAIN, at)
            assert await copy.judge_kept() == [], (AGAIN, at)


async def test_who_lost_its_locks_touches_nothing_that_another_has_taken_over(
    worn: WornStore, tmp_path: Path
) -> None:
    for at in some_pauses():
        async with worn.copy(tmp_path / "copy") as copy:
            broken = await copy.broken()
            run = copy.program.start("once", orders=[copy.program.order(at, "pause")])
            await run.until_paused()
            await copy.connection.execute(BACKENDS["all"])
            other = await copy.program.run("once")
            assert other.status == 0, (at, other)
            run.go_on()
            assert (await run.end()).status == 4, at
            assert await copy.broken() <= broken, (AGAIN, at)
            assert await copy.judge_kept() == [], (AGAIN, at)


async def test_who_lost_its_locks_renames_nothing_that_was_uploaded_since(copy: WornStore) -> None:
    copy.program.configure(grace="0s", pace={"batch": 10, "concurrency": 1})
    run = copy.program.start("once", orders=[copy.program.order("before rename live>quarantine", "pause")])
    await run.until_paused()
    await copy.connection.execute(BACKENDS["all"])
    # Another takes the whole batch over and purges it; then all of it is uploaded again.
    assert (await copy.program.run("once")).status == 0
    assert copy.store.left_of_ours() == []
    for key in copy.due & copy.rows.keys():
        content = copy.store.written(copy.rows[key].base64hash)
        await copy.store.add(content=content, origin="anew.test", age=timedelta(0))
    run.go_on()
    assert (await run.end()).status == 4
    # The one step that was under way may still be done; it comes back with the next sweep.
    assert len({path for _, _, path in (line.partition(": ") for line in await copy.broken())}) <= 1
    assert (await copy.program.run("once")).status == 0
    assert await copy.problems() == []


async def test_a_claim_whose_holder_lives_is_left_alone(copy: WornStore) -> None:
    worn, program = copy, copy.program
    run = program.start("once", orders=[program.order("before unlink purging", "pause")])
    await run.until_paused()
    held = await worn.connection.fetch("SELECT * FROM retentiond.entry WHERE state = 'purging'")
    lying = worn.store.left_of_ours()
    swept = await program.run("quarantine", "restore", "--all")
    assert swept.status == 1, swept
    assert held
    # The purge marks its next batch meanwhile.
    still = await worn.connection.fetch("SELECT * FROM retentiond.entry WHERE state = 'purging'")
    assert set(held) <= set(still)
    assert [path for path in lying if path.startswith("purging/")] == [
        path for path in worn.store.left_of_ours() if path.startswith("purging/")
    ]
    run.go_on()
    assert (await run.end()).status == 0
    assert await worn.judge_kept() == []


@asynccontextmanager
async def careless_server(
    directory: Path, zygote: Zygote
) -> AsyncIterator[tuple[EmbeddedPostgres, WornStore]]:
    """A PostgreSQL of one's own that may crash, on a database that is told to lose its last commits when it does."""
    # Nothing is written to the disk by itself before a minute: what nobody syncs is surely lost.
    with EmbeddedPostgres(
        {"fsync": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
    ) as postgres:
        async with DatabaseServer(postgres.dsn()) as server:
            media_path = directory / "media"
            await asyncio.to_thread(media_path.mkdir)
            database = await server.clone()
            connection = await asyncpg.connect(database)
            name = await connection.fetchval("SELECT quote_ident(current_database())")
            await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
            await connection.close()
            async with make_worn_store(
                server, RealProgram(directory, database, media_path, {}, zygote)
            ) as worn:
                yield postgres, worn


async def test_a_postgresql_that_crashes_has_forgotten_nothing_that_the_disk_relies_on(
    tmp_path: Path, zygote: Zygote
) -> None:
    async with careless_server(tmp_path, zygote) as (postgres, worn):
        for at in some_pauses():
            async with worn.copy(tmp_path / "copy") as copy:
                # The copy of a database does not inherit its settings.
                name = await copy.connection.fetchval("SELECT quote_ident(current_database())")
                await copy.connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
                # A crash right after the copying would give a sequence's numbers twice, which is PostgreSQL's own.
                await copy.connection.execute("CHECKPOINT")
                broken = await copy.broken()
                # Some steps after the point, so that a lost commit leaves a renamed file behind; one file comes back.
                nth = 2 if at in {"before rename live>quarantine", "before rename quarantine>purging"} else 1
                run = copy.program.start("once", orders=[copy.program.order(at, "pause", nth)])
                await run.until_paused()
                await asyncio.to_thread(postgres.crash)
                run.go_on()
                assert (await run.end()).status == 4, at
                await asyncio.to_thread(postgres.start)
                async with copy.reconnected() as again:
                    assert await again.broken() <= broken, (AGAIN, at)
                    assert await again.judge_kept() == [], (AGAIN, at)


@contextmanager
def away(path: Path, *, mounted: bool) -> Iterator[None]:
    """Let a media directory be unmounted: an empty one stands in its place."""
    aside = path.with_name("aside")
    if mounted:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=False)
        if done.returncode:
            pytest.skip("nothing can be mounted here")
    else:
        path.rename(aside)
        path.mkdir()
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)
        else:
            path.rmdir()
            aside.rename(path)


@pytest.mark.parametrize("mounted", [False, True])
async def test_a_media_directory_that_is_unmounted_changes_nothing(copy: WornStore, *, mounted: bool) -> None:
    if mounted and os.geteuid():
        pytest.skip("only root mounts")
    worn = copy
    before = worn.store.left_of_ours()
    entries = await worn.connection.fetch("SELECT * FROM retentiond.entry ORDER BY entry_id")
    rows, thumbnails = await worn.store.rows(), await worn.store.thumbnail_rows()
    with away(worn.store.media_path, mounted=mounted):
        for words in (
            ("once", "--yes"),
            ("quarantine", "restore", "--all"),
            ("quarantine", "purge", "--yes"),
        ):
            ended = await worn.program.run(*words)
            assert ended.status == 3, ended
            assert "check that the right disk is mounted" in ended.stderr + ended.stdout
        assert list(worn.store.media_path.iterdir()) == []
    assert entries == await worn.connection.fetch("SELECT * FROM retentiond.entry ORDER BY entry_id")
    assert (rows, thumbnails) == (await worn.store.rows(), await worn.store.thumbnail_rows())
    assert before == worn.store.left_of_ours()
    assert await worn.judge_kept() == []


async def test_a_media_directory_that_is_exchanged_under_a_pass_is_not_mistaken_for_it(
    copy: WornStore,
) -> None:
    worn = copy
    run = worn.program.start("once", orders=[worn.program.order("before rename live>quarantine", "pause", 2)])
    await run.until_paused()
    with away(worn.store.media_path, mounted=False):
        run.go_on()
        assert (await run.end()).status in {0, 3}
        assert list(worn.store.media_path.iterdir()) == []
    assert await worn.judge_kept() == []


def fill(directory: Path) -> None:
    """Take all the room there is, and all the names."""
    directory.mkdir()
    with suppress(OSError), (directory / "room").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    with suppress(OSError):
        for number in count():
            (directory / str(number)).touch()


async def test_a_full_disk_holds_a_pass_up_and_breaks_nothing(worn: WornStore, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root mounts")
    with small_disk(tmp_path, "4m,nr_inodes=2000") as disk:
        async with worn.copy(disk / "copy") as copy:
            # What is not on the full disk: the program's configuration and its output.
            copy.program.directory = tmp_path
            fill(disk / "filler")
            broken = await copy.broken()
            ended = await copy.program.run("once")
            assert ended.status in {1, 4}, ended
            assert await copy.broken() <= broken
            shutil.rmtree(disk / "filler")
            assert await copy.judge_kept() == []


_CALLS = (
    "before rename live>quarantine",
    "before rename quarantine>purging",
    "before unlink purging",
    "before rmdir purging",
    "before rmdir quarantine",
    "before link quarantine>staging",
    "before rename staging>live",
    "before rename own>own",
    "before create own",
    "before mkdir *",
    "before fsync *",
    "before sync *",
)


async def test_a_call_of_the_disk_that_fails_is_tried_again_and_breaks_nothing(
    worn: WornStore, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    failures = []
    for at, error, nth in failing_calls(_CALLS, 5, rng):
        async with worn.copy(tmp_path / "copy") as copy:
            problems = await fail_at(copy, ("once",), at, error, nth) + await copy.judge_kept()
            failures += [f"{at}, {error}, {nth}: {problem}" for problem in problems]
    assert failures == [], AGAIN


async def test_what_a_crash_left_in_staging_and_cannot_be_removed_holds_nobody_up(copy: WornStore) -> None:
    assert await kill_at(copy, ("once",), "before rename staging>live", 1) == []
    left = copy.left_of_a_step()
    assert left != []
    ended = await copy.program.run("once", orders=[copy.program.order("before unlink staging", "EIO", 0)])
    assert ended.status in {0, 1}, ended
    assert copy.due & set(await copy.store.rows()) == set()
    assert set(left) <= set(copy.left_of_a_step())
    assert all(path.split("/")[1] in ended.stderr for path in left)
    assert await copy.judge_kept() == []
