"""Processes by `/proc`, to kill a server in the midst of its work."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.01
"""The interval for polls of states that the system does not notify."""


def kill_family(parent: int) -> list[int]:
    """Kill a process and its children at once (SIGKILL); return their IDs."""
    # A stopped parent starts no more children while they are counted.
    os.kill(parent, signal.SIGSTOP)
    _wait_until_stopped(parent)
    family = [parent, *(child for child, (_, whose) in _processes().items() if whose == parent)]
    for process in family:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return family


def wait_until_gone(processes: list[int]) -> None:
    """Wait until all of them have ended."""
    while any(_processes().get(process, ("Z", 0))[0] not in "ZX" for process in processes):
        time.sleep(POLL_SECONDS)


def _processes() -> dict[int, tuple[str, int]]:
    """Return each process's state (a letter) and its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end while we look
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            found[int(path.parent.name)] = (state, int(parent))
    return found


def _wait_until_stopped(process_id: int) -> None:
    while _processes().get(process_id, ("Z", 0))[0] not in "TtZX":
        time.sleep(POLL_SECONDS)
