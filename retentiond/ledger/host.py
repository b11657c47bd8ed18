"""This machine as the ledger sees it: its name, this process, and whether its wall clock leapt."""

from __future__ import annotations

import getpass
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

LARGEST_LEAP = 3600.0
"""Seconds by which the wall clock may move against the time since boot before purges stop."""


_UNKNOWN_BOOT = "unknown"


@dataclass(frozen=True, slots=True)
class HostClock:
    """How far the wall clock is ahead of the time since this boot, in seconds."""

    boot_id: str
    wall_ahead: float

    def leapt_from(self, earlier: HostClock) -> float:
        """Seconds by which the wall clock moved since `earlier`; 0 across a boot, where they are not comparable."""
        same_boot = self.boot_id == earlier.boot_id != _UNKNOWN_BOOT
        return self.wall_ahead - earlier.wall_ahead if same_boot else 0.0


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
