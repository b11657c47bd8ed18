"""How fast an audit is against the floor: `find`, which asks the size of each file of the same tree, and nothing else.

    python -m tests.benchmark.audit [--media 100000] [--runs 3]

One store for all runs, on the file system of the temporary directory (TMPDIR). Nothing is changed by an audit, so the
runs of both alternate, and the medians are told. The audit is the real command, with the start of Python in its time
and its peak memory its own; its ratio to `find` shall be 2.5 at the most, and its memory the same for any store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
from rich.console import Console
from rich.table import Table

from retentiond.demo.postgres import EmbeddedPostgres
from tests.benchmark.store import fill_database, fill_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

GOAL = 2.5


class Figure(NamedTuple):
    """One measured run: seconds, and the process's peak memory in MiB."""

    seconds: float
    memory: float


def main() -> None:
    """Measure, and print a table; exit 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--media", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="retentiond-benchmark-") as temporary,
        EmbeddedPostgres() as server,
    ):
        finds, audits = _measure(server, Path(temporary), chosen.media, chosen.runs)
    ratio = _median(audits) / _median(finds)
    table = Table(title=f"{chosen.media:,} media, three thumbnails each; medians of {chosen.runs}")
    for column in ("what", "seconds", "media a second", "ratio to find", "peak memory, MiB"):
        table.add_column(column, justify="right")
    for name, figures in (("find -type f -printf '%s\\n' | wc -l", finds), ("retentiond audit", audits)):
        seconds = _median(figures)
        table.add_row(
            name,
            f"{seconds:.2f}",
            f"{chosen.media / seconds:,.0f}",
            f"{seconds / _median(finds):.2f}",
            f"{max(figure.memory for figure in figures):.0f}",
        )
    Console().print(table)
    sys.exit(0 if ratio <= GOAL else 1)


def _median(figures: Sequence[Figure]) -> float:
    return statistics.median(figure.seconds for figure in figures)


def _measure(
    server: EmbeddedPostgres, directory: Path, media: int, runs: int
) -> tuple[list[Figure], list[Figure]]:
    media_path = directory / "media"
    fill_directory(media_path, range(media))
    asyncio.run(_make_database(server))
    asyncio.run(fill_database(server.dsn("bench"), media))
    os.sync()
    config = directory / "config.yaml"
    target = {"kind": "dendrite_media", "database": server.dsn("bench"), "media_path": str(media_path)}
    config.write_text(json.dumps({"targets": {"media": target}, "logging": {"level": "warning"}}))
    audit = [sys.executable, "-m", "retentiond", "--config", str(config), "audit", "--json"]
    find = ["sh", "-c", "find \"$0\" -type f -printf '%s\\n' | wc -l", str(media_path)]
    finds, audits = [], []
    for _ in range(runs):
        figure, counted = _run(find)
        finds.append(figure)
        if int(counted) != 4 * media:
            raise SystemExit(f"find counted {counted} files: this is no measurement")
        figure, told = _run(audit)
        audits.append(figure)
        (report,) = json.loads(told)["audits"]
        if (report["rows"], report["blobs"], report["findings"]) != (media, media, {}):
            raise SystemExit(f"the audit told {report}: this is no measurement")
    return finds, audits


def _run(command: Sequence[str]) -> tuple[Figure, str]:
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{command[0]} exited with {process.returncode}: {told}")
    return Figure(seconds, usage.ru_maxrss / 1024), told


async def _make_database(server: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute("CREATE DATABASE bench")
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
