"""A store in the midst of its life: with a quarantine of an earlier pass, and with work for the next one.

It is made once and copied for each test: the database by its server, the media directory file by file.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from tests.support.store import COMMON_THUMBNAILS, DendriteStore, ThumbnailRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.model.media import MediaKey, MediaRow
    from tests.support.database import DatabaseServer
    from tests.support.real_program import RealProgram

_YESTERDAY = timedelta(days=1)


@dataclass(frozen=True)
class WornStore:
    """The store with the program that works on it, and what it was at the beginning."""

    server: DatabaseServer
    database: str
    connection: asyncpg.Connection[asyncpg.Record]
    store: DendriteStore
    program: RealProgram
    rows: dict[MediaKey, MediaRow]
    """The rows that dendrite had, but for those that never had a file."""
    thumbnails: list[ThumbnailRow]
    due: set[MediaKey]

    @asynccontextmanager
    async def copy(self, directory: Path) -> AsyncIterator[WornStore]:
        """Lend a copy, in an empty directory."""
        media_path = directory / "media"
        # It makes the directory above, too.
        await asyncio.to_thread(shutil.copytree, self.store.media_path, media_path)
        database = await self.server.clone(self.database)
        connection = await asyncpg.connect(database)
        program = replace(self.program, directory=directory, database=database, media_path=media_path)
        program.settings = dict(self.program.settings)
        try:
            store = self.store.copied_to(connection, media_path)
            yield replace(self, database=database, connection=connection, store=store, program=program)
        finally:
            program.clear()
            await connection.close()
            await self.server.drop(database)
            await asyncio.to_thread(shutil.rmtree, directory)

    @asynccontextmanager
    async def reconnected(self) -> AsyncIterator[WornStore]:
        """Lend it with a new connection, after its server went away."""
        connection = await asyncpg.connect(self.database)
        try:
            store = self.store.copied_to(connection, self.store.media_path)
            yield replace(self, connection=connection, store=store)
        finally:
            await connection.close()

    async def until_gone(self) -> None:
        """Wait until the server has seen that whoever was killed is gone, and given its locks free."""
        here = "application_name = 'retentiond' AND datname = current_database()"
        while await self.connection.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {here}"):
            await asyncio.sleep(0.005)

    async def broken(self) -> set[str]:
        """References that are broken now."""
        return set(await self.store.broken_references())

    async def problems(self) -> list[str]:
        """What is not as it must be after any start, by rows and files alone."""
        return [
            *await self.store.broken_references(),
            *(f"no row stands for {path}" for path in await self.store.orphan_files()),
            *(f"no media row stands for {row}" for row in await self.store.orphan_thumbnail_rows()),
            *(f"left behind: {path}" for path in self.left_of_a_step()),
        ]

    def left_of_a_step(self) -> list[str]:
        """What lies where only a step under way puts it."""
        return [path for path in self.store.left_of_ours() if path.startswith(("purging/", "staging/"))]

    async def missing(self) -> list[str]:
        """What is not there as it was at the beginning."""
        rows = await self.store.rows()
        thumbnails = await self.store.thumbnail_rows()
        return [
            *(
                f"{key.uri} is {rows.get(key)}, and was {row}"
                for key, row in self.rows.items()
                if rows.get(key) != row
            ),
            *(f"{row} is gone" for row in self.thumbnails if row not in thumbnails),
        ]

    async def purged(self) -> tuple[int, int]:
        """How many entries the passes' totals count as purged, and their bytes."""
        total = await self.connection.fetchrow(
            "SELECT sum(purged_entries)::bigint AS entries, sum(purged_bytes)::bigint AS bytes FROM retentiond.pass"
        )
        assert total is not None
        return total["entries"], total["bytes"]

    async def judge_kept(self) -> list[str]:
        """Finish what is open; then bring all of it back, which must be as it was."""
        ended = await self.program.run("once")
        problems = [] if ended.status == 0 else [f"once: {ended}"]
        problems += await self.problems()
        ended = await self.program.run("quarantine", "restore", "--all", "--json")
        (restored,) = ended.document["restores"]
        if restored["failed"] or restored["busy"]:
            problems.append(f"restore: {ended}")
        return problems + await self.problems() + await self.missing()

    async def judge_purged(self, expected: tuple[int, int]) -> list[str]:
        """Finish what is open; then nothing is left of what was due, and each blob was counted once."""
        ended = await self.program.run("once")
        problems = [] if ended.status == 0 else [f"once: {ended}"]
        problems += await self.problems()
        problems += [f"{key.uri} is still there" for key in self.due & set(await self.store.rows())]
        problems += [f"not purged: {path}" for path in self.store.left_of_ours()]
        purged = await self.purged()
        return problems if purged == expected else [*problems, f"counted {purged} as purged, not {expected}"]


@asynccontextmanager
async def make_worn_store(server: DatabaseServer, program: RealProgram) -> AsyncIterator[WornStore]:
    """Make one, by the program's own hand, in the program's database and media directory."""
    connection = await asyncpg.connect(program.database)
    store = DendriteStore(connection, program.media_path)
    earlier = [await store.add(thumbnails=COMMON_THUMBNAILS) for _ in range(5)]
    program.configure(grace="0s", settle="1s")
    ended = await program.run("once")
    assert ended.status == 0, ended
    # Two are wanted again: of one, dendrite found the file before it was renamed; of one it made the file anew.
    await store.add(content=earlier[0].content, age=_YESTERDAY, file=False)
    await store.add(content=earlier[1].content, age=_YESTERDAY)
    # A thumbnail that was made while its medium left.
    await store.add_thumbnail(earlier[2], (17, 17, "crop"), file=False)
    due = [await store.add(thumbnails=COMMON_THUMBNAILS) for _ in range(5)]
    due += [await store.add(content=b"twice", media_id=name) for name in ("twice1", "twice2")]
    due.append(await store.add(content=b"shared", thumbnails=COMMON_THUMBNAILS[:1]))
    await store.add(content=b"shared", origin="here.test", user_id="@u:here.test", age=_YESTERDAY)
    await store.add(origin="here.test", user_id="@u:here.test", thumbnails=COMMON_THUMBNAILS)
    nothing = await store.add(file=False, size=7)
    rows = await store.rows()
    rows.pop(nothing.key)
    late = await store.orphan_thumbnail_rows()
    thumbnails = [row for row in await store.thumbnail_rows() if row not in late]
    # The entries' settle is over by the time that anybody looks.
    await connection.execute("UPDATE retentiond.entry SET renamed_at = renamed_at - interval '1 hour'")
    # A database that somebody is connected to cannot be copied.
    await connection.close()
    program.configure(grace="24h", settle="0s")
    keys = {media.key for media in due} | {nothing.key}
    try:
        yield WornStore(server, program.database, connection, store, program, rows, thumbnails, keys)
    finally:
        program.clear()
