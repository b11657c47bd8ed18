"""The environment of a command: streams, variables, the clock, and the functions that open targets or run the daemon."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from retentiond.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    from rich.console import Console

    from retentiond.config.schema import TargetConfig
    from retentiond.demo.options import DemoOptions
    from retentiond.engine.target import Target

    OpenTarget = Callable[[str, TargetConfig], AbstractAsyncContextManager[Target]]
    """Opens a target by its name and configuration; entering it may raise RetentiondError."""
    RunDemo = Callable[[DemoOptions, Console, Console | None], Coroutine[Any, Any, int]]
    """Runs the demo: what to do, the console of its story, and that of its bars (None: no bars)."""


class RunDaemon(Protocol):
    """Runs the daemon on a configuration file, and returns its exit status."""

    async def __call__(
        self, config_path: Path, environment: Mapping[str, str], *, quiet: bool = False, debug: bool = False
    ) -> int:
        """Run until a signal ends it."""


def _open_target(name: str, config: TargetConfig) -> AbstractAsyncContextManager[Target]:
    # The registry reads the schema of the configuration, which --help does without.
    from retentiond.targets.registry import open_target  # noqa: PLC0415

    return open_target(name, config)


async def _run_daemon(
    config_path: Path, environment: Mapping[str, str], *, quiet: bool = False, debug: bool = False
) -> int:
    # Only `run` needs the scheduler.
    from retentiond.daemon.run import run_daemon  # noqa: PLC0415

    # The modules stay for as long as the process; each full collection would look at all of them, and hold requests meanwhile.
    gc.collect()
    gc.freeze()
    return await run_daemon(config_path, environment, quiet=quiet, debug=debug)


async def _run_demo(options: DemoOptions, console: Console, screen: Console | None) -> int:
    # The demo's packages are an extra that may not be installed.
    try:
        from retentiond.demo.show import run_demo  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the demo needs {error.name}, which is not installed; pip install 'retentiond[demo]'"
        ) from error

    return await run_demo(options, console, screen)


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment of a command; by default that of the process."""

    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    open_target: OpenTarget = _open_target
    run_daemon: RunDaemon = _run_daemon
    run_demo: RunDemo = _run_demo
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    root: Path = field(default_factory=lambda: Path("/"))
    """The directory below which `init` looks for dendrite."""


def open_missing_streams() -> None:
    """Open the null device for each standard stream that the process was started without.

    Otherwise the next file or socket would get its number, and output meant for the stream would be written there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays
            setattr(sys, name, stream)
