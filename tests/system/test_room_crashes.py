"""kill -9 between any two effects of a pass over rooms: the next runs purge each due room once, record it once, and no other."""

from __future__ import annotations

import json
import random
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import yaml

from retentiond.targets.dendrite_rooms.context import SCHEMA, RoomLedger
from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.crashes import distinct
from tests.support.dendrite_admin import RecordedDendrite, recorded_dendrite
from tests.support.real_program import RealProgram
from tests.support.room_target import configure_rooms
from tests.support.rooms_store import RoomsStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.database import DatabaseServer
    from tests.support.real_program import Ended, Zygote

GONE = ["!gone1:there.test", "!gone2:there.test"]
KEPT = {"!joined:there.test", "!invited:there.test", "!held:there.test"}
_ONCE = ("once", "--yes")
# By day only the steps of a purge; the others have points of their own in the tests of passes over media.
_OWN = re.compile(r"request purgeRoom|commit (intend|change_state|claim|leave)")

pytestmark = pytest.mark.timeout(3600 if NIGHTLY else 600)


class _Program(RealProgram):
    """The program with one target of rooms, at a recorded dendrite."""

    url = ""

    def write_config(self) -> Path:
        path = self.directory / "config.yaml"
        path.write_text(yaml.safe_dump(configure_rooms(self.database, self.url)), encoding="utf-8")
        return path


class Site:
    """A database with rooms, a dendrite over it, and the program."""

    def __init__(self, store: RoomsStore, dendrite: RecordedDendrite, program: _Program) -> None:
        self.store = store
        self.dendrite = dendrite
        self.program = program

    async def settle(self) -> list[Ended]:
        """Let hours pass and run the program as often as it takes: once for what is open, once for the rest."""
        ended = []
        for _ in range(2):
            await self.store.connection.execute(
                "UPDATE retentiond.room_purge SET sent_at = sent_at - interval '3 hours',"
                " emptied_at = emptied_at - interval '3 hours'"
            )
            await self.dendrite.delivered()
            ended.append(await self.program.run(*_ONCE))
        return ended

    async def problems(self) -> list[str]:
        """Say what is not as it must be once all is settled."""
        found = []
        if (rooms := await self.store.rooms()) != KEPT:
            found.append(f"rooms are {rooms}")
        if self.dendrite.purged != dict.fromkeys(GONE, 1):
            found.append(f"purged were {self.dendrite.purged}")
        rows = await self.store.connection.fetch("SELECT content FROM retentiond.record ORDER BY number")
        bodies = [json.loads(row["content"]) for row in rows]
        purged = {one["body"]["room"]: one["body"] for one in bodies if one["kind"] == "room_purged"}
        if sorted(one["body"]["room"] for one in bodies if one["kind"] == "room_purged") != GONE:
            found.append(f"recorded were {sorted(purged)}")
        found += [
            f"{room}: recorded {body['rows']}, left {body['left']}"
            for room, body in purged.items()
            if (body["rows"]["roomserver_events"], body["rows"]["syncapi_output_room_events"], body["left"])
            != (6, 6, {})
        ]
        found += [f"rows of {room} in sync" for room in GONE if await self.store.rows_of_sync(room)]
        open_purges = await self.store.connection.fetch(
            "SELECT room_id, state FROM retentiond.room_purge WHERE state NOT IN ('purged', 'undone', 'withdrawn')"
        )
        return found + [f"still {row['state']}: {row['room_id']}" for row in open_purges]


@pytest.fixture
async def original(database: str) -> str:
    """A database with rooms that a pass would purge, and rooms that it must keep."""
    connection = await asyncpg.connect(database)
    store = RoomsStore(connection)
    await store.prepare()
    await RoomLedger().make(connection, SCHEMA)
    for room in GONE:
        await store.add(room)
    await store.add("!joined:there.test", members={"@in:here.test": "join"})
    await store.add("!invited:there.test", members={"@left:here.test": "leave", "@new:here.test": "invite"})
    await store.add("!held:there.test")
    await connection.execute(
        "INSERT INTO retentiond.hold (kind, subject, reason, added_at, added_by)"
        " VALUES ('room', '!held:there.test', '', now(), '')"
    )
    await store.see_empty()
    await connection.close()
    return database


@asynccontextmanager
async def site_of(
    postgres: DatabaseServer, original: str, directory: Path, zygote: Zygote, **keys: Any
) -> AsyncIterator[Site]:
    database = await postgres.clone(original)
    connection = await asyncpg.connect(database)
    program = _Program(directory, database, directory, {}, zygote)
    try:
        async with recorded_dendrite(database, **keys) as dendrite:
            program.url = dendrite.url
            yield Site(RoomsStore(connection), dendrite, program)
    finally:
        program.clear()
        await connection.close()
        await postgres.drop(database)


async def test_a_pass_over_rooms_that_is_killed_at_any_step_is_finished_by_the_next_runs(
    postgres: DatabaseServer, original: str, tmp_path: Path, zygote: Zygote
) -> None:
    async with site_of(postgres, original, tmp_path, zygote) as site:
        log = tmp_path / "points"
        ended = await site.program.run(*_ONCE, log=log)
        assert ended.status == 0, ended
        assert await site.problems() == []
        points = distinct(log.read_text().splitlines())
    assert any("request" in point for point in points)
    rng = random.Random(SEED)
    failures = []
    for at, count in points.items():
        if not NIGHTLY and not _OWN.search(at):
            continue
        nth = rng.randint(1, count)
        async with site_of(postgres, original, tmp_path, zygote) as site:
            killed = await site.program.run(*_ONCE, orders=[site.program.order(at, "kill", nth)])
            problems = [] if killed.killed else [f"it was not killed: {killed}"]
            runs = await site.settle()
            problems += [f"{run}" for run in runs if run.status not in {0, 1}]
            problems += await site.problems()
            failures += [f"{at}, {nth} of {count}: {problem}" for problem in problems]
    assert failures == [], AGAIN
