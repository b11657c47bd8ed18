"""Two real daemons on one configuration: one looks after the target, and the other takes over when that one is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.store import DendriteStore

OLD = timedelta(days=90)


class Daemon:
    """A daemon in a process of its own, with its log in a file."""

    def __init__(self, config: Path, log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "retentiond", "--config", str(config), "run"], stdout=out, stderr=out
            )

    def entries(self, event: str) -> list[dict[str, Any]]:
        lines = [line for line in self._log.read_text().splitlines() if line.endswith("}")]
        return [entry for line in lines if (entry := json.loads(line))["event"] == event]

    def end(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        self.process.wait(timeout=60)


async def until(holds: Callable[[], object], *daemons: Daemon) -> None:
    """Wait until it holds, while these daemons live; the test's own time-out is the bound."""
    while not holds():
        assert all(daemon.process.poll() is None for daemon in daemons)
        await asyncio.sleep(0.05)


@contextmanager
def running(config: Path, log: Path) -> Iterator[Daemon]:
    daemon = Daemon(config, log)
    try:
        yield daemon
    finally:
        daemon.end(signal.SIGKILL)


@pytest.mark.timeout(1200)
async def test_a_killed_daemon_is_no_holder_and_the_other_takes_over_at_its_next_time(
    database: str, media_path: Path, store: DendriteStore, tmp_path: Path
) -> None:
    await store.add(origin="there.test", age=OLD)
    config = tmp_path / "config.yaml"
    target = {
        "kind": "dendrite_media",
        "database": database,
        "media_path": str(media_path),
        "server_name": "here.test",
        "schedule": {"every": "1s"},
        "limits": {"max_share": 1.0, "max_missing_files": 1.0},
        "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
    }
    config.write_text(yaml.safe_dump({"targets": {"media": target}}))
    with running(config, tmp_path / "first.log") as first:
        await until(lambda: first.entries("pass_finished"), first)
        with running(config, tmp_path / "second.log") as second:
            await until(lambda: len(second.entries("pass_refused")) > 1, first, second)
            refused = second.entries("pass_refused")[0]
            assert refused["reason"] == "busy"
            assert f"pid {first.process.pid} (role " in refused["error"]
            assert not second.entries("pass_started")

            first.end(signal.SIGKILL)
            await store.add(origin="there.test", age=OLD)
            await until(lambda: second.entries("took_over"), second)
            await until(lambda: second.entries("pass_finished"), second)
            second.end(signal.SIGTERM)
            assert second.process.returncode == 0
    assert not await store.rows()
    assert not await store.broken_references()
