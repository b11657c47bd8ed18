"""Large stores made quickly, and the command that works on them: every medium with three thumbnails, from elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from retentiond.adapters.postgres import named_queries
from retentiond.demo.store import make_tables
from tests.benchmark.frame import Sample, run_program, timed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from retentiond.demo.postgres import EmbeddedPostgres

SQL: Final = {**named_queries(__package__, "store.sql"), **named_queries(__package__, "protections.sql")}
NAMES: Final = ("file", "thumbnail-32x32-crop", "thumbnail-96x96-crop", "thumbnail-640x480-scale")
SMALL: Final = 2000
_KEPT_ROWS: Final = 12_000_000
_SIZE: Final = 256


def media_uri(number: int) -> str:
    """Return the URI of a media item."""
    return f"mxc://there.test/media{number:08d}"


@dataclass(frozen=True)
class Shape:
    """A store's properties: `every`th medium is old, and each file has `size` bytes.

    With `state_events` the rooms, messages and profiles refer to its media.
    """

    media: int
    every: int = 1
    size: int = _SIZE
    state_events: int | None = None

    @property
    def due(self) -> range:
        """The numbers of the old media."""
        return range(0, self.media, self.every)


@dataclass(frozen=True)
class Store:
    """A store in the database `bench` and a directory, with a configuration."""

    bench: Bench
    dsn: str
    media_path: Path
    shape: Shape

    def run(self, *words: str, **keys: Any) -> tuple[Sample, Any]:
        """Time the real command in a process of its own, with these keys of the target; return what it printed."""
        config = self.bench.directory / "config.yaml"
        target = {
            "kind": "dendrite_media",
            "database": self.dsn,
            "media_path": str(self.media_path),
            "server_name": "here.test",
            "settle": "0s",
            "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
            "limits": {"max_share": 1.0, "max_items": 100_000_000, "max_missing_files": 1.0},
            "pace": {"max_items_per_second": 100_000_000},
        }
        config.write_text(json.dumps({"targets": {"media": target | keys}, "logging": {"level": "warning"}}))
        return self.bench.command("--config", str(config), *words)

    def remove(self, removed: int, files: int, **keys: Any) -> Sample:
        """Time a pass that removes that many items, after which that many files are there, ours too."""
        sample, document = self.run("once", "--yes", "--json", **keys)
        items = document["passes"][0]["removed"]["items"]
        left = sum(len(found) for _, _, found in os.walk(self.media_path)) - 1  # the store ID file
        if (items, left) != (removed, files):
            raise SystemExit(f"{items} items were removed and {left} files are left: this is no measurement")
        return sample

    def delete_all(self) -> Sample:
        """Time the floor: one bulk DELETE a table, and `rm -rf`."""

        def work() -> None:
            execute(self.dsn, "DELETE FROM mediaapi_thumbnail", "DELETE FROM mediaapi_media_repository")
            subprocess.run(["rm", "-rf", self.media_path], check=True)

        return timed(self.bench.server, work)


@dataclass
class Bench:
    """A server, the directories to measure in by their file system, and the size of it all."""

    server: EmbeddedPostgres
    disks: dict[str, Path]
    media: int
    checkout: Path
    """The checkout whose package is measured."""
    prefix: tuple[str, ...] = ()
    """Words before the command: a program that watches it."""
    _shapes: dict[Shape, str] = field(default_factory=dict)
    _made: int = 0
    _last: Path | None = None

    @property
    def directory(self) -> Path:
        """The directory on the first file system."""
        return next(iter(self.disks.values()))

    @property
    def small(self) -> int:
        """The size of a small store."""
        return min(SMALL, self.media)

    def store(self, shape: Shape, disk: str | None = None, *, files: Iterable[int] | None = None) -> Store:
        """Make a store, in the place of the last one; the old media have files, or those of these numbers."""
        if self._last is not None:
            shutil.rmtree(self._last, ignore_errors=True)
        self._last = media_path = (self.disks[disk] if disk else self.directory) / "media"
        fill_directory(media_path, shape.due if files is None else files, shape.size)
        self.copy_database(self._shapes.get(shape) or self._make_base(shape))
        # The writes that made it are not charged to its removal.
        os.sync()
        return Store(self, self.server.dsn("bench"), media_path, shape)

    def copy_database(self, base: str) -> None:
        """Make the database `bench` anew, as a copy."""
        execute(self.server.dsn(), "DROP DATABASE IF EXISTS bench WITH (FORCE)")
        execute(self.server.dsn(), f"CREATE DATABASE bench TEMPLATE {base} STRATEGY file_copy", "CHECKPOINT")

    def _make_base(self, shape: Shape) -> str:
        # Rows have shapes in common, and the largest takes long to make, and gigabytes.
        while self._shapes and shape.media + sum(kept.media for kept in self._shapes) > _KEPT_ROWS:
            execute(self.server.dsn(), f"DROP DATABASE {self._shapes.pop(next(iter(self._shapes)))}")
        self._made += 1
        base = f"base_{self._made}"
        execute(self.server.dsn(), f"CREATE DATABASE {base}")
        asyncio.run(_fill_database(self.server.dsn(base), shape))
        self._shapes[shape] = base
        return base

    def command(self, *words: str) -> tuple[Sample, Any]:
        """Time the command; return what it printed, parsed if it was JSON."""
        said, memory = "", 0.0
        # `-m` takes the package of the working directory before an installed one.
        command = [*self.prefix, sys.executable, "-m", "retentiond", *words]

        def work() -> None:
            nonlocal said, memory
            said, memory = run_program(command, env=environment(), cwd=self.checkout)

        sample = timed(self.server, work)
        return sample._replace(memory=memory), json.loads(said) if "--json" in words else said


def environment() -> dict[str, str]:
    """Return an environment in which the command is compiled once, as an installed one is."""
    return {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def compile_package(checkout: Path) -> None:
    """Compile the package as an installation does."""
    command = [sys.executable, "-m", "compileall", "-q", str(checkout / "retentiond")]
    subprocess.run(command, env=environment(), check=True)


def fill_directory(media_path: Path, media: Iterable[int], size: int = _SIZE) -> None:
    """Write the files of these media, four each."""
    media_path.mkdir()
    for number in media:
        content = str(number).encode().ljust(size)
        blob = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        directory = f"{media_path}/{blob[0]}/{blob[1]}/{blob[2:]}"
        os.makedirs(directory, mode=0o750)
        for name in NAMES:
            with open(f"{directory}/{name}", "wb") as file:
                file.write(content)


async def _fill_database(dsn: str, shape: Shape) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await make_tables(connection)
        statements: dict[str, tuple[int, ...]] = {
            "media": (shape.media, shape.every, shape.size),
            "thumbnails": (),
        }
        if shape.state_events is not None:
            statements |= {"messages": (shape.media,), "state": (shape.state_events, shape.media)}
            statements |= {"rooms": (), "members": ()}
        for name, values in statements.items():
            await connection.execute(SQL[name], *values, timeout=7200)
        await connection.execute("VACUUM ANALYZE", timeout=7200)
    finally:
        await connection.close()


def execute(dsn: str, *statements: str) -> None:
    """Execute statements one after the other."""

    async def work() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=7200)
        finally:
            await connection.close()

    asyncio.run(work())
