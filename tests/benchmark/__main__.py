"""How fast a pass is against the floor: one bulk DELETE and `rm -rf` of the same rows and directories.

    python -m tests.benchmark [--media 100000] [--runs 1]

The store is made anew for each figure, on the file system of the temporary directory (TMPDIR). The pass runs as the
real command in a process of its own, whose peak memory is told; a store of a tenth of the size shows that it does not
grow with the store. Ratios hold from one machine to another, absolute figures do not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
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


_TENTH = 10


class Figure(NamedTuple):
    """One measured run: how many media, seconds for their rows and files, and the process's peak memory in MiB."""

    name: str
    media: int
    seconds: float
    memory: float | None


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--media", type=int, default=100_000, help="with three thumbnails each")
    arguments.add_argument("--runs", type=int, default=1, help="how often each figure is taken")
    chosen = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="retentiond-benchmark-") as temporary,
        EmbeddedPostgres() as server,
    ):
        bench = RepairContext(server, Path(temporary))
        console = Console()
        for _ in range(chosen.runs):
            console.print(_table(bench, chosen.media))


def _table(bench: RepairContext, media: int) -> Table:
    table = Table(title="Media with three thumbnails each, purged against the floor")
    for column in ("media", "what", "seconds", "media a second", "ratio to the floor", "peak memory, MiB"):
        table.add_column(column, justify="right")
    for size in (max(1, media // _TENTH), media):
        floor = bench.floor(size)
        figures = (
            floor,
            bench.once("purged to the last unlink", size, grace="0s"),
            bench.once("renamed, with a grace", size, grace="24h"),
        )
        for figure in figures:
            table.add_row(
                f"{size:,}",
                figure.name,
                f"{figure.seconds:.2f}",
                f"{size / figure.seconds:,.0f}",
                f"{figure.seconds / floor.seconds:.2f}",
                "" if figure.memory is None else f"{figure.memory:.0f}",
            )
        table.add_section()
    return table


class RepairContext:
    """Makes the same store again and again, and takes it away in different ways."""

    def __init__(self, server: EmbeddedPostgres, directory: Path) -> None:
        self._server = server
        self._directory = directory

    def floor(self, media: int) -> Figure:
        """One bulk DELETE and one `rm -rf`, one after the other."""
        dsn, media_path = self._make(media)
        began = time.monotonic()
        asyncio.run(_execute(dsn, GONE))
        subprocess.run(["rm", "-rf", str(media_path)], check=True)
        return Figure("bulk DELETE and rm -rf", media, time.monotonic() - began, None)

    def once(self, name: str, media: int, *, grace: str) -> Figure:
        """Time one pass, as the command does it, over a store that nobody writes to."""
        dsn, media_path = self._make(media)
        config = self._directory / "config.yaml"
        config.write_text(json.dumps(_config(dsn, media_path, grace)))
        command = [sys.executable, "-m", "retentiond", "--config", str(config), "once", "--yes", "--json"]
        with (self._directory / "told").open("w+") as told:
            began = time.monotonic()
            process = subprocess.Popen(command, stdout=told)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            told.seek(0)
            document = told.read()
        if process.returncode:
            raise SystemExit(f"the pass ended with {process.returncode}: {document}")
        removed = json.loads(document)["passes"][0]["removed"]["items"]
        left = sum(len(files) for _, _, files in os.walk(media_path))
        if removed != media or left != (1 if grace == "0s" else 4 * media + 1):
            raise SystemExit(
                f"{removed} items were removed and {left} files are left: this is no measurement"
            )
        shutil.rmtree(media_path)
        return Figure(name, media, seconds, usage.ru_maxrss / 1024)

    def _make(self, media: int) -> tuple[str, Path]:
        media_path = self._directory / "media"
        fill_directory(media_path, range(media))
        asyncio.run(_execute(self._server.dsn(), "DROP DATABASE IF EXISTS bench WITH (FORCE)"))
        asyncio.run(_execute(self._server.dsn(), "CREATE DATABASE bench"))
        asyncio.run(fill_database(self._server.dsn("bench"), media))
        # What was written to make the store is not charged to whoever takes it away.
        os.sync()
        return self._server.dsn("bench"), media_path


def _config(dsn: str, media_path: Path, grace: str) -> dict[str, object]:
    return {
        "targets": {
            "media": {
                "kind": "dendrite_media",
                "database": dsn,
                "media_path": str(media_path),
                "server_name": "here.test",
                "grace": grace,
                "settle": "0s",
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
