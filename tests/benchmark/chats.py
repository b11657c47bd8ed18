"""How fast a chat purge is against the floor: one bulk DELETE a table, in the same order.

    python -m tests.benchmark.chats [--chats 100000] [--messages 10] [--runs 1]

The tables are filled anew for each figure. The purge runs as the real command in a process of its own, so that its
peak memory is its own; a second purge, of a tenth of the chats, shows whether memory follows the database.
Beside the seconds stands the processor time of the server and of the command: where other programs run, only that
can be compared. It is read from /proc, and is 0 where there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from retentiond.demo.chat_show import ACCOUNT, SCHEMA, MadeUpChats, make_chat_tables, make_up_chats
from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.targets.chat_database.layout import read_layout
from tests.benchmark.frame import Case, Sample

GOAL = 1.2
TO_DATE = "2024-01-01"
_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_END = datetime(2023, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Figure:
    """One measured run: seconds, processor seconds of the server and of the client, and the client's peak memory in MiB."""

    name: str
    seconds: float
    server: float
    client: float
    memory: float = 0.0

    @property
    def processor(self) -> float:
        """The processor time of both."""
        return self.server + self.client


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--chats", type=int, default=100_000)
    arguments.add_argument("--messages", type=int, default=10)
    arguments.add_argument("--runs", type=int, default=1)
    chosen = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="retentiond-benchmark-") as temporary,
        EmbeddedPostgres() as server,
    ):
        bench = Bench(server, Path(temporary), chosen.messages)
        table = Table(title=f"{chosen.chats:,} chats, {chosen.messages} messages each; goal: {GOAL}")
        for column in (
            "run",
            "what",
            "seconds",
            "messages a second",
            "ratio to the floor",
            "processor seconds (server, client)",
            "their ratio",
            "peak memory, MiB",
        ):
            table.add_column(column, justify="right")
        # The largest process so far is told: the small purge comes first.
        small = bench.purge(chosen.chats // 10)
        table.add_row(
            *("", f"{small.name}, a tenth of them", f"{small.seconds:.2f}", "", "", _processor(small), ""),
            f"{small.memory:.0f}",
        )
        for run in range(1, chosen.runs + 1):
            floor = bench.floor(chosen.chats)
            for figure in (floor, bench.purge(chosen.chats)):
                rate = chosen.chats * chosen.messages / figure.seconds
                ratio, memory = figure.seconds / floor.seconds, figure.memory
                processor = f"{figure.processor / floor.processor:.2f}" if floor.processor else ""
                table.add_row(
                    str(run),
                    figure.name,
                    f"{figure.seconds:.2f}",
                    f"{rate:,.0f}",
                    f"{ratio:.2f}",
                    _processor(figure),
                    processor,
                    f"{memory:.0f}" if memory else "",
                )
        Console().print(table)


class Bench:
    """Makes the same database again and again, and purges it in different ways."""

    def __init__(self, server: EmbeddedPostgres, directory: Path, messages: int) -> None:
        self._server = server
        self._directory = directory
        self._messages = messages

    def floor(self, chats: int) -> Figure:
        """One bulk DELETE a table, in the order in which a purge takes them."""
        dsn = self._make(chats)
        layout = read_layout("webim")
        order = [*layout.tree(layout.chat), *layout.shared]
        statements = [f"DELETE FROM {SCHEMA}.{layout.table(entity)}" for entity in order]
        server, client, began = self._server_time(), time.process_time(), time.monotonic()
        asyncio.run(_execute(dsn, *statements))
        seconds, client = time.monotonic() - began, time.process_time() - client
        return Figure("one bulk DELETE a table", seconds, self._server_time() - server, client)

    def purge(self, chats: int) -> Figure:
        """Time the command."""
        dsn = self._make(chats)
        config = self._directory / "config.yaml"
        config.write_text(json.dumps(_config(dsn)))
        command = [sys.executable, "-m", "retentiond", "--config", str(config), "purge-chats", "--json"]
        server, client, began = self._server_time(), _client_time(), time.monotonic()
        with subprocess.Popen(
            [*command, "--account", ACCOUNT, "--to-date", TO_DATE],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            stdout, stderr = process.communicate()
        seconds, client = time.monotonic() - began, _client_time() - client
        server = self._server_time() - server
        if process.returncode:
            raise SystemExit(stderr + stdout)
        removed = json.loads(stdout)["entities"]
        if removed["chatmessage"] != chats * self._messages or removed["chatthread"] != chats:
            raise SystemExit(f"{removed} went: this is no measurement")
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return Figure("purge-chats", seconds, server, client, memory)

    def _environment(self) -> dict[str, str]:
        """Return an environment in which the command is compiled once, as an installed one is: by the first purge."""
        kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"PYTHONPYCACHEPREFIX": str(self._directory / "bytecode")}

    def _server_time(self) -> float:
        """Return the processor seconds of the postmaster and of all its children so far, also of those that ended."""
        postmaster = self._server.process_id
        running = map(_read_process, Path("/proc").glob("[0-9]*/stat"))
        ticks = sum(sum(map(int, one[11:13])) for one in running if one[1:2] == [str(postmaster)])
        # Of the postmaster with the children that it waited for.
        ticks += sum(map(int, _read_process(Path(f"/proc/{postmaster}/stat"))[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _make(self, chats: int) -> str:
        asyncio.run(_execute(self._server.dsn(), "DROP DATABASE IF EXISTS bench WITH (FORCE)"))
        asyncio.run(_execute(self._server.dsn(), "CREATE DATABASE bench"))
        dsn = self._server.dsn("bench")
        asyncio.run(_fill(dsn, MadeUpChats(chats, _BEGIN, _END, self._messages, staying_every=0)))
        # What was written to make it is not charged to whoever takes it away.
        asyncio.run(_execute(dsn, "CHECKPOINT"))
        return dsn


def purge_of_chats(server: EmbeddedPostgres, directory: Path, chats: int) -> Case:
    """Return the purge as a case of the benchmark."""
    bench = Bench(server, directory, 10)

    def sample(figure: Figure) -> Sample:
        return Sample(figure.seconds, figure.processor, figure.memory)

    what = f"purge of {chats:,} chats with {10 * chats:,} messages"
    return Case(what, lambda: sample(bench.purge(chats)), lambda: sample(bench.floor(chats)))


def _client_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read_process(place: Path) -> list[str]:
    """Return the fields after the name of a process; none where it has ended."""
    try:
        return place.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _processor(figure: Figure) -> str:
    return f"{figure.processor:.2f} ({figure.server:.2f}, {figure.client:.2f})"


def _config(dsn: str) -> dict[str, object]:
    return {
        "targets": {
            "chats": {
                "kind": "chat_database",
                "database": dsn,
                "accounts": {ACCOUNT: {"schema": SCHEMA}},
                "pace": {"max_rows_per_second": 100_000_000},
            }
        },
        "logging": {"level": "warning"},
    }


async def _fill(dsn: str, made: MadeUpChats) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await make_chat_tables(connection)
        await make_up_chats(connection, made)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=3600)
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
