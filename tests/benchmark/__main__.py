"""How fast a pass is against the floor: one bulk DELETE and `rm -rf` of the same rows and directories.

    python -m tests.benchmark [--media 100000] [--runs 1]

Both stores are made anew for each figure, on the file system of the temporary directory (TMPDIR). The pass runs as
the real command in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import asyncpg
from rich.console import Console
from rich.table import Table

from retentiond.demo.postgres import EmbeddedPostgres
from tests.benchmark.store import fill_database, fill_directory

GONE = "DELETE FROM mediaapi_thumbnail; DELETE FROM mediaapi_media_repository"


class Figure(NamedTuple):
    """One measured run: seconds for rows and files, and the largest process in MiB."""

    name: str
    seconds: float
    memory: float


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--media", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=1)
    chosen = arguments.parse_args()
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="retentiond-benchmark-") as temporary,
        EmbeddedPostgres() as server,
    ):
        bench = Bench(server, Path(temporary), chosen.media)
        table = Table(title=f"{chosen.media} media, three thumbnails each")
        for column in ("run", "what", "seconds", "media a second", "ratio to the floor", "peak memory, MiB"):
            table.add_column(column, justify="right")
        for run in range(1, chosen.runs + 1):
            floor = bench.floor()
            figures = [floor, bench.once("purged to the last unlink", grace="0s", settle="0s")]
            figures.append(bench.once("renamed, with a grace", grace="24h", settle="0s"))
            for figure in figures:
                table.add_row(
                    str(run),
                    figure.name,
                    f"{figure.seconds:.2f}",
                    f"{chosen.media / figure.seconds:,.0f}",
                    f"{figure.seconds / floor.seconds:.2f}",
                    f"{figure.memory:.0f}" if figure.memory else "",
                )
        console.print(table)


class Bench:
    """Makes the same store again and again, and takes it away in different ways."""

    def __init__(self, server: EmbeddedPostgres, directory: Path, media: int) -> None:
        self._server = server
        self._directory = directory
        self._media = media

    def floor(self) -> Figure:
        """One bulk DELETE and one `rm -rf`, one after the other."""
        dsn, media_path = self._make()
        began = time.monotonic()
        asyncio.run(_execute(dsn, GONE))
        subprocess.run(["rm", "-rf", str(media_path)], check=True)
        return Figure("bulk DELETE and rm -rf", time.monotonic() - began, 0)

    def once(self, name: str, *, grace: str, settle: str) -> Figure:
        """Time one pass, as the command does it."""
        dsn, media_path = self._make()
        config = self._directory / "config.yaml"
        config.write_text(json.dumps(_config(dsn, media_path, grace, settle)))
        began = time.monotonic()
        command = [sys.executable, "-m", "retentiond", "--config", str(config), "once", "--yes", "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        seconds = time.monotonic() - began
        if done.returncode:
            raise SystemExit(done.stderr + done.stdout)
        removed = json.loads(done.stdout)["passes"][0]["removed"]["items"]
        left = sum(len(files) for _, _, files in os.walk(media_path))
        if removed != self._media or left != (1 if grace == "0s" else 4 * self._media + 1):
            raise SystemExit(
                f"{removed} items were removed and {left} files are left: this is no measurement"
            )
        shutil.rmtree(media_path)
        return Figure(name, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)

    def _make(self) -> tuple[str, Path]:
        media_path = self._directory / "media"
        fill_directory(media_path, range(self._media))
        asyncio.run(_execute(self._server.dsn(), "DROP DATABASE IF EXISTS bench WITH (FORCE)"))
        asyncio.run(_execute(self._server.dsn(), "CREATE DATABASE bench"))
        asyncio.run(fill_database(self._server.dsn("bench"), self._media))
        # What was written to make the store is not charged to whoever takes it away.
        os.sync()
        return self._server.dsn("bench"), media_path


def _config(dsn: str, media_path: Path, grace: str, settle: str) -> dict[str, object]:
    return {
        "targets": {
            "media": {
                "kind": "dendrite_media",
                "database": dsn,
                "media_path": str(media_path),
                "server_name": "here.test",
                "grace": grace,
                "settle": settle,
                "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
                "limits": {"max_share": 1.0, "max_items": 100_000_000},
                "pace": {"max_items_per_second": 100_000_000},
            }
        },
        "logging": {"level": "warning"},
    }


async def _execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements.split(";"):
            await connection.execute(statement)
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
