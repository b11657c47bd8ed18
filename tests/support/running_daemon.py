"""The daemon in the test's own event loop: real signals, a real notify socket, and nothing else that is real."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import yaml

from retentiond.adapters.systemd import Notifier
from retentiond.daemon.run import run_daemon
from tests.support.fake_clock import FakeClock
from tests.support.fake_daemon_target import FakeStores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from retentiond.daemon.policies import OpenTarget


def media(**changes: Any) -> dict[str, Any]:
    """A target as the configuration has it."""
    target = {
        "kind": "dendrite_media",
        "database": "postgresql://nowhere/media",
        "media_path": "/nowhere/media",
        "schedule": {"cron": "30 3 * * *", "timezone": "UTC"},
        "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
    }
    return {key: value for key, value in {**target, **changes}.items() if value is not None}


class RunningDaemon:
    """A daemon, the manager that it talks to, and its log."""

    def __init__(self, directory: Path, open_target: OpenTarget | None = None) -> None:
        self.config_path = directory / "config.yaml"
        self.stores = FakeStores()
        self._open_target = open_target or self.stores.open
        self.clock = FakeClock()
        self.messages: list[str] = []
        self._log = io.StringIO()
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(directory / "notify"))
        self._manager.setblocking(False)
        self._task: asyncio.Task[int] | None = None

    def configure(
        self,
        *,
        text: str | None = None,
        logging: dict[str, str] | None = None,
        metrics: dict[str, str] | None = None,
        http: dict[str, Any] | None = None,
        **targets: Any,
    ) -> None:
        """Write the configuration file."""
        sections = {"targets": targets, "logging": logging, "metrics": metrics, "http": http}
        document = {name: section for name, section in sections.items() if section is not None}
        self.config_path.write_text(
            yaml.safe_dump(document, sort_keys=False) if text is None else text, encoding="utf-8"
        )

    def begin(self, **environment: str) -> None:
        """Start the daemon."""
        environment["NOTIFY_SOCKET"] = str(self._manager.getsockname())
        self._task = asyncio.create_task(
            run_daemon(
                self.config_path,
                environment,
                open_target=self._open_target,
                notifier=Notifier(environment),
                clock=self.clock,
                stream=self._log,
            )
        )

    async def start(self, **targets: Any) -> None:
        """Start the daemon with these targets, and wait until it is ready."""
        self.configure(**targets)
        self.begin()
        await self.until(lambda: self.told("READY=1") == 1)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until it holds; the test's own time-out is the bound."""
        while not holds():
            self.drain()
            if self._task is not None and self._task.done() and not holds():
                raise AssertionError(f"the daemon ended with {self._task.result()}: {self.entries()}")
            await asyncio.sleep(0.001)

    async def reload(self) -> None:
        """Send SIGHUP, and wait until the daemon is ready again."""
        before = self.told("READY=1")
        os.kill(os.getpid(), signal.SIGHUP)
        await self.until(lambda: self.told("READY=1") > before)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        os.kill(os.getpid(), number)
        return await self.ended()

    async def ended(self) -> int:
        """Return the exit status."""
        assert self._task is not None
        status = await self._task
        self.drain()
        return status

    async def close(self) -> None:
        """End what a failed test left."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        self._manager.close()

    def drain(self) -> None:
        """Read what the manager was sent."""
        while True:
            try:
                self.messages.append(self._manager.recv(65_536).decode())
            except BlockingIOError:
                return

    def told(self, message: str) -> int:
        """Count the messages that begin so."""
        self.drain()
        return sum(received.startswith(message) for received in self.messages)

    @property
    def status_line(self) -> str:
        """The newest STATUS."""
        self.drain()
        lines = [line for message in self.messages for line in message.split("\n")]
        return next((line for line in reversed(lines) if line.startswith("STATUS=")), "")

    def entries(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log's entries, or those of one event."""
        entries = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [entry for entry in entries if event is None or entry["event"] == event]

    @property
    def text(self) -> str:
        """The log as it was written."""
        return self._log.getvalue()
