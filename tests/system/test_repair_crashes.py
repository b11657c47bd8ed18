"""kill -9 between any two effects of a repair: nothing that was whole breaks, and the next repair finds what is left.

The judge knows nothing of the ledger: it compares rows and files with what they come to where nobody kills anything.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.crashes import distinct, fail_at, failing_calls, kill_at, points_of
from tests.support.store import COMMON_THUMBNAILS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.model.media import MediaKey, MediaRow
    from tests.support.store import DendriteStore, ThumbnailRow
    from tests.support.worn_store import WornStore

pytestmark = pytest.mark.timeout(7200 if NIGHTLY else 1200)

_REPAIR = ("audit", "--repair", "--verify-content", "--drop-damaged-remote")
_CALLS = (
    "before rename live>quarantine",
    "before rename live>staging",
    "before unlink staging",
    "before rmdir staging",
    "before mkdir *",
    "before fsync *",
    "before sync *",
)
# What no pass comes by.
_OWN = re.compile(
    r"live>(staging|purging)|intend_orphans|release_(orphan|dead)|record_stray|strays_quarantined"
)


class State(NamedTuple):
    """What a last audit finds, and what there is once all was brought back."""

    findings: dict[str, Any]
    rows: dict[MediaKey, MediaRow]
    thumbnails: list[ThumbnailRow]
    files: dict[str, bytes]


_SMALL, _MIDDLE, _LARGE = COMMON_THUMBNAILS
_LONG_AGO = 1_600_000_000
_LOCAL: dict[str, Any] = {"origin": "here.test", "user_id": "@u:here.test"}


async def damage(worn: WornStore) -> None:
    """Add media with something of each kind to repair, more than one page of what is repaired by pages."""
    store = worn.store
    await _missing_files(store)
    await _orphans(worn)
    await _thumbnails(store)
    await _damaged(store)
    for number in range(4):
        upload = store.media_path / "tmp" / str(number)
        upload.mkdir(parents=True)
        (upload / "content").write_bytes(b"half")
        os.utime(upload / "content", (_LONG_AGO, _LONG_AGO))


async def _missing_files(store: DendriteStore) -> None:
    for _ in range(3):
        await store.add(file=False)
    await store.add(file=False, **_LOCAL)
    lost = await store.add(thumbnails=[_SMALL])
    (store.path_of(lost.base64hash) / "file").unlink()


async def _orphans(worn: WornStore) -> None:
    """Add blobs without a row, and thumbnail rows without a media row."""
    for _ in range(4):
        media = await worn.store.add(thumbnails=[_SMALL])
        await worn.connection.execute(
            "DELETE FROM mediaapi_media_repository WHERE media_id = $1 AND media_origin = $2", *media.key
        )


async def _thumbnails(store: DendriteStore) -> None:
    for _ in range(2):
        media = await store.add(thumbnails=[_SMALL])
        await store.add_thumbnail(media, _MIDDLE, row=False)
        await store.add_thumbnail(media, _LARGE, row=False)
    for _ in range(4):
        media = await store.add()
        await store.add_thumbnail(media, _SMALL, file=False)
        await store.add_thumbnail(media, _LARGE, size=7)


async def _damaged(store: DendriteStore) -> None:
    """Add files of another size or content than their rows say, one with a local row."""
    await store.add(size=7, thumbnails=[_SMALL])
    for origin in ("there.test", "elsewhere.test"):
        await store.add(content=b"of a size", size=7, origin=origin)
    for rotten in (await store.add(), await store.add(**_LOCAL)):
        file = store.path_of(rotten.base64hash) / "file"
        file.write_bytes(b"x" * len(rotten.content))


async def finish(store: WornStore) -> tuple[State, list[str]]:
    """Start, repair, audit, and bring all back; return what it came to, and what was not as it must be meanwhile."""
    broken = await store.broken()
    problems = []
    for words in (("once",), _REPAIR):
        ended = await store.program.run(*words)
        problems += [] if ended.status == 0 else [f"{words}: {ended}"]
        problems += [f"after {words}: {problem}" for problem in sorted(await store.broken() - broken)]
        problems += [f"after {words}, left behind: {path}" for path in store.left_of_a_step()]
    audited = await store.program.run("audit", "--json", "--verify-content")
    (audit,) = audited.document["audits"]
    ended = await store.program.run("quarantine", "restore", "--all")
    problems += [] if ended.status == 0 else [f"restore: {ended}"]
    state = State(
        audit["findings"],
        await store.store.rows(),
        await store.store.thumbnail_rows(),
        store.store.files(),
    )
    return state, problems + await store.missing()


def differences(state: State, expected: State) -> list[str]:
    """What is not as it is where nobody kills anything."""
    found = [] if state.findings == expected.findings else [f"found at last: {state.findings}"]
    for name in ("rows", "thumbnails", "files"):
        ours, theirs = getattr(state, name), getattr(expected, name)
        found += [f"{name}, not expected: {item}" for item in ours if item not in theirs]
        found += [f"{name}, gone: {item}" for item in theirs if item not in ours]
    return found if found or state == expected else ["another content or size"]


@asynccontextmanager
async def damaged(worn: WornStore, directory: Path) -> AsyncIterator[WornStore]:
    """Lend the store with something of each kind to repair, and nothing else to do."""
    async with worn.copy(directory / "damaged") as store:
        await damage(store)
        await store.connection.close()
        store.program.all_is_old = True
        store.program.configure(policies=[{"name": "all", "match": {"origin": "*"}, "keep": "forever"}])
        yield store


async def kill_by_chance(copy: WornStore, rng: random.Random, points: int) -> list[str]:
    """Kill some repairs one after the other, each at any of its points or at any time."""
    broken = await copy.broken()
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.5:
            order = copy.program.order("*", "kill", rng.randint(1, points))
            await copy.program.run(*_REPAIR, orders=[order])
        else:
            run = copy.program.fork(*_REPAIR)
            await asyncio.sleep(rng.uniform(0.0, 0.6))
            run.kill()
            await run.end()
        await copy.until_gone()
    return sorted(await copy.broken() - broken)


@pytest.mark.parametrize("grace", ["24h", "0s"])
async def test_what_a_repair_that_is_killed_leaves_is_finished_by_the_next_start_and_the_next_repair(
    worn: WornStore, tmp_path: Path, grace: str
) -> None:
    rng = random.Random(SEED)
    failures = []
    async with damaged(worn, tmp_path) as store:
        store.program.configure(grace=grace)
        async with store.copy(tmp_path / "copy") as copy:
            expected, problems = await finish(copy)
            assert problems == []
            assert set(expected.findings) == {"missing_file", "hash_mismatch"}
        points = await points_of(store, tmp_path, _REPAIR)
        worth = distinct(points)
        own = [at for at in worth if _OWN.search(at)]
        kills: list[str | None] = [*worth] if NIGHTLY else [rng.choice(own)]
        # And the rest by chance.
        kills += [None] * (50 if NIGHTLY else 1)
        for at in kills:
            nth = rng.choice([1, rng.randint(1, worth[at]), worth[at]]) if at else 0
            async with store.copy(tmp_path / "copy") as copy:
                if at:
                    problems = await kill_at(copy, _REPAIR, at, nth)
                else:
                    problems = await kill_by_chance(copy, rng, len(points))
                state, more = await finish(copy)
                problems += more + differences(state, expected)
                failures += [f"{at}, {nth}: {problem}" for problem in problems]
    assert failures == [], AGAIN


async def test_a_call_of_the_disk_that_fails_under_a_repair_is_made_good_by_the_next(
    worn: WornStore, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    failures = []
    async with damaged(worn, tmp_path) as store:
        async with store.copy(tmp_path / "copy") as copy:
            expected, _ = await finish(copy)
        for at, error, nth in failing_calls(_CALLS, 2, rng):
            async with store.copy(tmp_path / "copy") as copy:
                problems = await fail_at(copy, _REPAIR, at, error, nth)
                state, more = await finish(copy)
                problems += more + differences(state, expected)
                failures += [f"{at}, {error}, {nth}: {problem}" for problem in problems]
    assert failures == [], AGAIN
