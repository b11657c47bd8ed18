"""The real program on a real store: in a process of its own, that a test may kill, stop and let fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.support.sabotage import as_environment

if TYPE_CHECKING:
    from tests.support.sabotage import PassOptions

_TIMEOUT = 500


@dataclass(frozen=True)
class Ended:
    """How a run ended: its status (a signal's number below zero) and what it said."""

    status: int
    stdout: str
    stderr: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    def entries(self, event: str) -> list[dict[str, Any]]:
        """The log's entries of one event."""
        entries = [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]


class Run:
    """A run under way, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process_id = process.pid
        self._process = process
        self._directory = directory

    async def until_paused(self) -> None:
        """Wait until it stands at the point where it was told to pause."""
        while not (self._directory / "paused").exists():
            if self._process.poll() is not None:
                raise AssertionError(f"it never came by that point: {await self.end()}")
            await asyncio.sleep(0.005)

    def go_on(self) -> None:
        """Let it go on."""
        (self._directory / "go").touch()

    def kill(self) -> None:
        """Kill it, if it is there still."""
        with suppress(ProcessLookupError):
            os.kill(self.process_id, signal.SIGKILL)

    async def end(self) -> Ended:
        """Wait for its end."""
        stdout, stderr = await asyncio.to_thread(self._process.communicate, timeout=_TIMEOUT)
        for name in ("paused", "go"):
            (self._directory / name).unlink(missing_ok=True)
        return Ended(self._process.returncode, stdout, stderr)

    def clear(self) -> None:
        """Kill it where a failed test left it under way, or paused."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Zygote:
    """A process that forks runs, one at a time; a context manager."""

    def __enter__(self) -> Self:
        self._turn = Lock()
        self._last: ForkedRun | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote"],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_exception: object) -> None:
        self.clear()
        self._process.kill()
        self._process.communicate()

    def fork(self, request: dict[str, Any], directory: Path) -> ForkedRun:
        """Start a run."""
        files = {name: str(directory / name) for name in ("stdout", "stderr")}
        # It may be killed before it has opened them itself.
        for file in files.values():
            Path(file).write_bytes(b"")
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request | files) + "\n")
        self._process.stdin.flush()
        self._last = ForkedRun(self, int(self._answer()), directory)
        return self._last

    def wait(self, run: ForkedRun) -> int:
        """Wait for a run's exit status."""
        with self._turn:
            if run.status is None:
                run.status = int(self._answer())
            return run.status

    def clear(self) -> None:
        """End what a failed test left under way: the next run must not get its answer."""
        if self._last is not None and self._last.status is None:
            self._last.kill()
            self.wait(self._last)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@dataclass
class ForkedRun:
    """A run under way, forked."""

    zygote: Zygote
    process_id: int
    directory: Path
    status: int | None = None

    def kill(self) -> None:
        """Kill it, if it is there still; its zygote buries it only when it forks the next."""
        with suppress(ProcessLookupError):
            os.kill(self.process_id, signal.SIGKILL)

    async def end(self) -> Ended:
        """Wait for its end."""
        waiting = asyncio.create_task(asyncio.to_thread(self.zygote.wait, self))
        done, _ = await asyncio.wait({waiting}, timeout=_TIMEOUT)
        if not done:
            self.kill()
        status = await waiting
        said = [(self.directory / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        ended = Ended(status, *said)
        assert done, f"it did not end by itself: {ended}"
        return ended


@dataclass
class RealProgram:
    """`python -m retentiond` with a configuration of one target; `settings` are the target's keys.

    With `all_is_old` a repair that is forked takes nothing for too young.
    """

    directory: Path
    database: str
    media_path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    zygote: Zygote | None = None
    all_is_old: bool = False
    _under_way: list[Run] = field(default_factory=list)

    def configure(self, **settings: Any) -> None:
        """Change the target's settings."""
        self.settings |= settings

    def write_config(self) -> Path:
        """Write the configuration, and return its path."""
        target: dict[str, Any] = {
            "kind": "dendrite_media",
            "database": self.database,
            "media_path": str(self.media_path),
            "server_name": "here.test",
            "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
            "limits": {"max_share": 1.0, "max_missing_files": 1.0},
            "pace": {"batch": 3, "concurrency": 2, "max_items_per_second": 1000000},
            "settle": "0s",
            "grace": "24h",
        }
        path = self.directory / "config.yaml"
        path.write_text(yaml.safe_dump({"targets": {"media": target | self.settings}}), encoding="utf-8")
        return path

    def order(self, at: str, action: str, nth: int = 1) -> PassOptions:
        """Return an order for a saboteur."""
        return {"at": at, "action": action, "nth": nth, "directory": str(self.directory)}

    def start(self, *words: str, orders: list[PassOptions] | None = None, log: Path | None = None) -> Run:
        """Start a command."""
        sabotage = as_environment(orders or [], log) if orders or log else {}
        process = subprocess.Popen(
            [sys.executable, "-m", "retentiond", *self._line(words)],
            env=os.environ | sabotage,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        run = Run(process, self.directory)
        self._under_way.append(run)
        return run

    def clear(self) -> None:
        """End what a failed test left under way, of this program and of its copies."""
        for run in self._under_way:
            run.clear()
        self._under_way.clear()
        if self.zygote is not None:
            self.zygote.clear()

    async def run(
        self, *words: str, orders: list[PassOptions] | None = None, log: Path | None = None
    ) -> Ended:
        """Run a command to its end."""
        if self.zygote is not None:
            return await self.fork(*words, orders=orders, log=log).end()
        return await self.start(*words, orders=orders, log=log).end()

    def fork(
        self, *words: str, orders: list[PassOptions] | None = None, log: Path | None = None
    ) -> ForkedRun:
        """Start a command in a fork of the program as it is when loaded."""
        assert self.zygote is not None
        request = {"words": self._line(words), "orders": orders or [], "log": str(log) if log else None}
        return self.zygote.fork(request | {"all_is_old": self.all_is_old}, self.directory)

    def _line(self, words: tuple[str, ...]) -> list[str]:
        return ["--config", str(self.write_config()), *words]
