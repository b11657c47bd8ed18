"""What the protections cost: a pass with every one of them against a pass with none, over the same store.

    python -m tests.benchmark.protections [--media 100000] [--state-events MEDIA] [--runs 1]

One in ten media is old enough to go. A third pass goes by policies that ask for rooms and for what nothing mentions,
beside all protections. Each pass runs as the real command, on a copy of the database and of the directory.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from rich.console import Console

from retentiond.adapters.postgres import named_queries
from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.demo.store import make_tables
from retentiond.model.protections import PROTECT
from tests.benchmark.store import fill_directory

SQL = named_queries(__package__, "protections.sql")
REMOTE = {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}
LEFT = {"name": "left", "match": {"room": "no_local_members"}, "keep": "60d"}
UNREFERENCED = {"name": "unreferenced", "match": {"unreferenced": True}, "keep": "60d"}
EVERY = {"protect": list(PROTECT), "messages_in": ["joined_rooms"]}
PASSES: dict[str, dict[str, Any]] = {
    "no protection": {"protect": [], "policies": [REMOTE]},
    "every protection": EVERY | {"policies": [REMOTE]},
    "and by room and mention": EVERY | {"policies": [LEFT, UNREFERENCED, REMOTE]},
}


class Figure(NamedTuple):
    """One measured pass: seconds, and the command's largest memory in MiB."""

    seconds: float
    memory: float


@dataclass(frozen=True)
class RepairContext:
    """One store, copied for each pass."""

    server: EmbeddedPostgres
    directory: Path
    media: int

    async def fill(self, state_events: int) -> None:
        """Make the store that is copied."""
        await self._execute("CREATE DATABASE base")
        connection = await asyncpg.connect(self.server.dsn("base"))
        await make_tables(connection)
        for name, counts in {
            "media": (self.media,),
            "messages": (self.media,),
            "state": (state_events, self.media),
            "rooms": (),
            "members": (),
        }.items():
            await connection.execute(SQL[name], *counts)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        fill_directory(self.directory / "base", range(0, self.media, 10))

    def once(self, keys: dict[str, Any]) -> Figure:
        """Time one pass, as the command does it."""
        self._copy()
        config = self.directory / "config.yaml"
        config.write_text(json.dumps(self._config(keys)))
        command = [sys.executable, "-m", "retentiond", "--config", str(config), "once", "--yes", "--json"]
        began = time.monotonic()
        with (
            (self.directory / "out").open("w+b") as output,
            subprocess.Popen(command, stdout=output) as process,
        ):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - began
            output.seek(0)
            removed = json.load(output)["passes"][0]["removed"]["items"]
        if removed != self.media // 10:
            raise SystemExit(f"{removed} items were removed: this is no measurement")
        return Figure(seconds, usage.ru_maxrss / 1024)

    def _copy(self) -> None:
        asyncio.run(self._execute("DROP DATABASE IF EXISTS bench WITH (FORCE)"))
        asyncio.run(self._execute("CREATE DATABASE bench TEMPLATE base"))
        shutil.rmtree(self.directory / "media", ignore_errors=True)
        # Nothing is written into the files, so links do.
        subprocess.run(["cp", "-al", self.directory / "base", self.directory / "media"], check=True)
        os.sync()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server.dsn())
        await connection.execute(statement)
        await connection.close()

    def _config(self, keys: dict[str, Any]) -> dict[str, Any]:
        target = {
            "kind": "dendrite_media",
            "database": self.server.dsn("bench"),
            "media_path": str(self.directory / "media"),
            "server_name": "here.test",
            "settle": "0s",
            "limits": {"max_share": 1.0, "max_missing_files": 1.0},
        }
        return {"targets": {"media": target | keys}, "logging": {"level": "warning"}}


def main() -> None:
    """Measure, and print both ratios of each pass to the one without a protection."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--media", type=int, default=100_000)
    arguments.add_argument("--state-events", type=int)
    arguments.add_argument("--runs", type=int, default=1)
    chosen = arguments.parse_args()
    events = chosen.media if chosen.state_events is None else chosen.state_events
    console = Console()
    console.print(f"{chosen.media:,} media and messages, {events:,} state events")
    with (
        tempfile.TemporaryDirectory(prefix="retentiond-benchmark-") as temporary,
        EmbeddedPostgres({"max_wal_size": "4GB"}) as server,
    ):
        bench = RepairContext(server, Path(temporary), chosen.media)
        asyncio.run(bench.fill(events))
        for run in range(1, chosen.runs + 1):
            none: Figure | None = None
            for name, keys in PASSES.items():
                figure = bench.once(keys)
                none = none or figure
                # Each as it is known: a large store takes its time.
                console.print(
                    f"run {run}, {name}: {figure.seconds:.2f} s, ratio {figure.seconds / none.seconds:.2f}; "
                    f"peak memory {figure.memory:.0f} MiB, ratio {figure.memory / none.memory:.2f}"
                )


if __name__ == "__main__":
    main()
