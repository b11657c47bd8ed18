"""This machine as the ledger sees it: its name, this process, and whether its wall clock leapt."""

from __future__ import annotations

import getpass
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

_UNKNOWN_BOOT = "unknown"


@dataclass(frozen=True, slots=True)
class HostClock:
    """How far the wall clock is ahead of the time since this boot, in seconds."""

    boot_id: str
    wall_ahead: float

    @property
    def known(self) -> bool:
        """Whether it is known which boot this is: only then a later reading can be compared with it."""
        return self.boot_id != _UNKNOWN_BOOT


def host_name() -> str:
    """Return the name by which other hosts' logs and the ledger call this machine."""
    return socket.gethostname()


def process_id() -> int:
    """Return the id of this process."""
    return os.getpid()


def actor() -> str:
    """Return the user of this process as `user@host`, for the ledger's entries of manual actions."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{host_name()}"


def read_clock() -> HostClock:
    """Read the wall clock against CLOCK_BOOTTIME, which continues through a suspend and never leaps."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot_id = _UNKNOWN_BOOT
    return HostClock(boot_id, time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
