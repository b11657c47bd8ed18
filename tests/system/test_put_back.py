"""An older database is put back under a newer disk: nothing is purged, and what its rows bear comes back."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.chance import AGAIN, SEED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.worn_store import WornStore

pytestmark = pytest.mark.timeout(1200)


@asynccontextmanager
async def older(worn: WornStore) -> AsyncIterator[WornStore]:
    """Lend the store with a copy of its database as it is now, for later."""
    await worn.connection.close()
    database = await worn.server.clone(worn.database)
    try:
        async with replace(
            worn, database=database, program=replace(worn.program, database=database)
        ).reconnected() as lent:
            yield lent
    finally:
        await worn.server.drop(database)


def contents(worn: WornStore) -> set[str]:
    """What lies in quarantine."""
    return {path for path in worn.store.left_of_ours() if path.startswith("quarantine/")}


@pytest.mark.parametrize("grace", ["24h", "0s"])
async def test_with_an_older_database_nothing_is_purged_and_what_rows_bear_comes_back(
    copy: WornStore, grace: str
) -> None:
    async with older(copy) as back, copy.reconnected() as newer:
        newer.program.configure(grace="24h")
        # By the older database the earlier pass's entries are due; by the newer they are not.
        await newer.connection.execute("UPDATE retentiond.entry SET settle = interval '1 day'")
        assert (await newer.program.run("once")).status == 0
        back.program.configure(grace=grace)
        lying = contents(newer)
        assert len(await back.broken()) > 10
        for words in (("once", "--yes"), ("quarantine", "purge", "--yes")):
            ended = await back.program.run(*words)
            assert ended.status == 3, ended
            assert "accept" in ended.stdout + ended.stderr
            assert contents(back) == lying
        assert await back.broken() == set()
        assert await back.missing() == []


async def test_an_older_database_that_is_accepted_goes_on_with_all_that_its_rows_bear(
    copy: WornStore,
) -> None:
    async with older(copy) as back, copy.reconnected() as newer:
        assert (await newer.program.run("once")).status == 0
        assert (await back.program.run("once")).status == 3
        accepted = await back.program.run("quarantine", "accept", "media", "--yes")
        assert accepted.status == 0, accepted
        assert await back.broken() == set()
        assert await back.judge_kept() == []


async def test_when_the_newer_database_comes_back_all_can_still_be_restored(copy: WornStore) -> None:
    async with older(copy) as back, copy.reconnected() as newer:
        assert (await newer.program.run("once")).status == 0
        assert (await back.program.run("once")).status == 3
        assert (await newer.program.run("once")).status == 0
        assert (await newer.program.run("quarantine", "restore", "--all")).status == 0
        assert await newer.problems() == []
        assert await newer.missing() == []


async def test_a_database_put_back_to_the_midst_of_the_last_pass_loses_nothing_that_its_rows_bear(
    worn: WornStore, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    points = [
        ("before rename live>quarantine", 4),
        ("after commit quarantine_done", 2),
        ("after commit lock_candidates*", 3),
    ]
    for words in (("quarantine", "restore", "--all"), ("once",)):
        at, most = rng.choice(points)
        nth = rng.randint(1, most)
        async with worn.copy(tmp_path / "copy") as copy:
            await copy.program.run("once", orders=[copy.program.order(at, "kill", nth)])
            async with older(copy) as back, copy.reconnected() as newer:
                await newer.program.run(*words)
                await back.program.run("once")
                assert await back.broken() == set(), f"{AGAIN}: {at}, {nth}, {words}"
                await back.program.run("quarantine", "restore", "--all")
                assert await back.broken() == set(), f"{AGAIN}: {at}, {nth}, {words}"
                if words[0] == "quarantine":
                    assert await back.missing() == [], f"{AGAIN}: {at}, {nth}, {words}"
