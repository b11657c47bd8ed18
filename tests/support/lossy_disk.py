"""A real file system that loses at a power cut what was not synced: an image on a loop device.

The image holds what the file system has handed to the device. Its journal is committed by syncs alone here, not by the
clock, so a copy of the image is the disk as a power cut leaves it: everything that was synced, and nothing later. A sync
of one directory commits all of ext4's journal; btrfs commits that directory and what depends on it.
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.closing_lines import not_run
from tests.support.sabotage import sync_file_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MIB: Final = 2**20
# Each with the smallest size that it takes, and the options that keep it from a commit by the clock.
_KINDS: Final = {
    "ext4": (24 * _MIB, "loop,commit=3600"),
    "xfs": (300 * _MIB, "loop"),
    "btrfs": (128 * _MIB, "loop,commit=3600"),
}


class LossyDisk:
    """A mounted file system; its power can be cut while no process works on it."""

    def __init__(self, directory: Path, kind: str) -> None:
        self._kind = kind
        self.path = directory / "disk"
        self._image = directory / "image"

    def sync(self) -> None:
        """Write everything to the device."""
        sync_file_system(self.path)

    def cut_power(self) -> None:
        """Lose what was not synced: go on with the image as it is now."""
        left = self._image.with_name("left")
        subprocess.run(["cp", "--sparse=always", self._image, left], check=True)
        self.unmount()
        left.replace(self._image)
        self.mount()

    def make(self) -> None:
        """Make the file system, without a mount."""
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_KINDS[self._kind][0])
        subprocess.run([f"mkfs.{self._kind}", "-q", self._image], stdin=subprocess.DEVNULL, check=True)

    def mount(self) -> None:
        """Mount the image; raise CalledProcessError."""
        options = _KINDS[self._kind][1]
        subprocess.run(["mount", "-t", self._kind, "-o", options, self._image, self.path], check=True)

    def unmount(self) -> None:
        """Unmount the image."""
        subprocess.run(["umount", self.path], check=True)


@contextmanager
def lossy_disk(directory: Path, kind: str, config: pytest.Config) -> Iterator[LossyDisk]:
    """Lend one; the test is left out where no image can be mounted."""
    disk = LossyDisk(directory, kind)
    try:
        disk.make()
        disk.mount()
    except (OSError, subprocess.CalledProcessError):
        not_run(config, f"power cuts on {kind}", f"they need root, mkfs.{kind} and a loop device")
        pytest.skip(f"no image of {kind} can be mounted here")
    try:
        yield disk
    finally:
        disk.unmount()
