"""kill -9 between any two effects of the real program: the next start finishes or takes back each open step.

The judge knows nothing of the ledger: it compares rows with files.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.crashes import distinct, kill_at, points_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.worn_store import WornStore

KILLS = 500 if NIGHTLY else 8

_COMMANDS = {
    "24h": [("once",), ("once",), ("quarantine", "restore", "--all"), ("plan",)],
    "0s": [("once",), ("once",), ("quarantine", "purge", "--yes")],
}

_REMOTE = {"match": {"origin": "remote"}}
_THUMBNAILS_ALONE = {
    "policies": [_REMOTE | {"name": "thumbs", "keep": "30d", "remove": "thumbnails"}],
}
_OWN = re.compile(r"release|strays_quarantined|live>quarantine|mkdir quarantine|forget_(thumbnails|eviction)")
_BRINGS_BACK = re.compile(r"mark_refuted|insert_restored|entries_(returned|demoted)|staging")
_UNREFERENCED: dict[str, Any] = {
    "policies": [{"name": "unseen", "match": {"origin": "remote", "unreferenced": True}, "keep": "30d"}],
    "protect": [],
}
_QUOTA = {"policies": [], "quota": [_REMOTE | {"max_size": "1KiB", "evict": "oldest"}]}

pytestmark = pytest.mark.timeout(7200 if NIGHTLY else 1200)


async def purged_undisturbed(worn: WornStore, directory: Path) -> tuple[int, int]:
    """What the totals say when nobody kills anything."""
    async with worn.copy(directory / "undisturbed") as copy:
        copy.program.configure(grace="0s")
        assert await copy.judge_purged((0, 0)) != []
        return await copy.purged()


@pytest.mark.parametrize("grace", ["24h", "0s"])
async def test_a_pass_that_is_killed_at_any_step_is_finished_by_the_next_start(
    worn: WornStore, tmp_path: Path, grace: str
) -> None:
    expected = await purged_undisturbed(worn, tmp_path)
    worn.program.configure(grace=grace)
    points = distinct(await points_of(worn, tmp_path, ("once",)))
    rng = random.Random(SEED)
    failures = []
    # By day each grace has an eighth of the points, which are the same for both; eight runs come by all.
    share = slice(None) if NIGHTLY else slice((SEED + (0 if grace == "24h" else 4)) % 8, None, 8)
    for at, count in list(points.items())[share]:
        nth = rng.randint(1, count)
        async with worn.copy(tmp_path / "copy") as copy:
            problems = await kill_at(copy, ("once",), at, nth)
            problems += await (copy.judge_kept() if grace == "24h" else copy.judge_purged(expected))
            failures += [f"{at}, {nth} of {count}: {problem}" for problem in problems]
    assert failures == [], AGAIN


@pytest.mark.parametrize("settings", [_THUMBNAILS_ALONE, _QUOTA], ids=["thumbnails", "quota"])
async def test_a_pass_for_thumbnails_or_a_quota_that_is_killed_at_any_step_is_finished_by_the_next_start(
    worn: WornStore, tmp_path: Path, settings: dict[str, Any]
) -> None:
    worn.program.configure(**settings)
    points = distinct(await points_of(worn, tmp_path, ("once",)))
    rng = random.Random(SEED)
    failures = []
    # By day a third of what other passes do not come by, or not for this reason.
    own = [(at, count) for at, count in points.items() if NIGHTLY or _OWN.search(at)]
    for at, count in own[slice(None) if NIGHTLY else slice(SEED % 3, None, 3)]:
        nth = rng.randint(1, count)
        async with worn.copy(tmp_path / "copy") as copy:
            problems = await kill_at(copy, ("once",), at, nth) + await copy.judge_kept()
            failures += [f"{at}, {nth} of {count}: {problem}" for problem in problems]
    assert failures == [], AGAIN


async def test_a_restore_that_is_killed_at_any_step_is_finished_by_the_next_start(
    worn: WornStore, tmp_path: Path
) -> None:
    restore = ("quarantine", "restore", "--all")
    points = distinct(await points_of(worn, tmp_path, ("once",), restore))
    rng = random.Random(SEED)
    failures = []
    async with worn.copy(tmp_path / "passed") as passed:
        await passed.program.run("once")
        await passed.connection.close()
        # By day a fourth of the points.
        for at, count in list(points.items())[slice(None) if NIGHTLY else slice(SEED % 4, None, 4)]:
            nth = rng.randint(1, count)
            async with passed.copy(tmp_path / "copy") as copy:
                problems = await kill_at(copy, restore, at, nth) + await copy.judge_kept()
                failures += [f"{at}, {nth} of {count}: {problem}" for problem in problems]
    assert failures == [], AGAIN


async def test_a_sweep_that_brings_back_what_is_referenced_again_is_finished_by_the_next_start(
    worn: WornStore, tmp_path: Path
) -> None:
    worn.program.configure(**_UNREFERENCED)
    rng = random.Random(SEED)
    failures = []
    async with worn.copy(tmp_path / "passed") as passed:
        await passed.program.run("once")
        gone = worn.due - set(await passed.store.rows())
        assert gone
        for key in gone:
            await passed.store.add_event("!room:there.test", {"url": key.uri})
        # The next sweep reads the references anew.
        await passed.connection.execute("DELETE FROM retentiond.reference_copy")
        await passed.connection.close()
        points = distinct(await points_of(passed, tmp_path, ("once",)))
        # By day half of what brings back.
        bringing = [(at, count) for at, count in points.items() if NIGHTLY or _BRINGS_BACK.search(at)]
        for at, count in bringing[slice(None) if NIGHTLY else slice(SEED % 2, None, 2)]:
            nth = rng.randint(1, count)
            async with passed.copy(tmp_path / "copy") as copy:
                problems = await kill_at(copy, ("once",), at, nth)
                ended = await copy.program.run("once")
                problems += [] if ended.status == 0 else [f"once: {ended}"]
                problems += await copy.problems() + await copy.missing()
                failures += [f"{at}, {nth} of {count}: {problem}" for problem in problems]
    assert failures == [], AGAIN


async def test_kills_at_random_times_one_after_the_other_leave_nothing_broken(
    worn: WornStore, tmp_path: Path
) -> None:
    expected = await purged_undisturbed(worn, tmp_path)
    points = len(await points_of(worn, tmp_path, ("once",)))
    rng = random.Random(SEED)
    kills = 0
    while kills < KILLS:
        grace = rng.choice(["24h", "0s"])
        told = [f"{AGAIN}: kill {kills}, grace {grace}"]
        async with worn.copy(tmp_path / "copy") as copy:
            copy.program.configure(grace=grace)
            for _ in range(rng.randint(1, 6)):
                words = rng.choice(_COMMANDS[grace])
                broken = await copy.broken()
                if rng.random() < 0.5:
                    nth = rng.randint(1, points)
                    told.append(f"{words} killed at its point {nth}")
                    ended = await copy.program.run(*words, orders=[copy.program.order("*", "kill", nth)])
                else:
                    seconds = rng.uniform(0.0, 0.4)
                    told.append(f"{words} killed after {seconds} s")
                    run = copy.program.fork(*words)
                    await asyncio.sleep(seconds)
                    run.kill()
                    ended = await run.end()
                kills += ended.killed
                await copy.until_gone()
                assert await copy.broken() <= broken, told
            problems = await (copy.judge_kept() if grace == "24h" else copy.judge_purged(expected))
            assert problems == [], told


async def test_what_a_test_leaves_under_way_or_paused_ends_with_its_store(
    worn: WornStore, tmp_path: Path
) -> None:
    async with worn.copy(tmp_path / "copy") as copy:
        order = copy.program.order("before rename live>quarantine", "pause")
        paused = copy.program.start("once", orders=[order])
        await paused.until_paused()
        # It waits for the other's lease.
        waiting = copy.program.fork("once")
    with pytest.raises(ProcessLookupError):
        os.kill(paused.process_id, 0)
    assert waiting.status == -signal.SIGKILL
