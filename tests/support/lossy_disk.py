"""A real file system that loses at a power cut what was not synced: ext4 in an image, on a loop device.

The image holds what ext4 has handed to the device. Its journal is committed by syncs alone here, never by the clock, so
a copy of the image is the disk as a power cut leaves it: everything that was synced, and nothing later.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.closing_lines import not_run
from tests.support.sabotage import sync_file_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SIZE = 24 * 2**20
_NEVER = 3600  # seconds between the journal's own commits


class LossyDisk:
    """A mounted file system; its power can be cut while no process works on it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "disk"
        self._image = directory / "image"

    def sync(self) -> None:
        """Write everything to the device."""
        sync_file_system(self.path)

    def cut_power(self) -> None:
        """Lose what was not synced: go on with the image as it is now."""
        left = self._image.with_name("left")
        shutil.copyfile(self._image, left)
        self.unmount()
        left.replace(self._image)
        self.mount()

    def make(self) -> None:
        """Make the file system, without a mount."""
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)

    def mount(self) -> None:
        """Mount the image; raise CalledProcessError."""
        options = f"loop,commit={_NEVER}"
        subprocess.run(["mount", "-t", "ext4", "-o", options, self._image, self.path], check=True)

    def unmount(self) -> None:
        """Unmount the image."""
        subprocess.run(["umount", self.path], check=True)


@contextmanager
def lossy_disk(directory: Path, config: pytest.Config) -> Iterator[LossyDisk]:
    """Lend one; the test is left out where no image can be mounted."""
    disk = LossyDisk(directory)
    try:
        disk.make()
        disk.mount()
    except (OSError, subprocess.CalledProcessError):
        not_run(config, "power cuts", "they need root, mkfs.ext4 and a loop device")
        pytest.skip("no image of ext4 can be mounted here")
    try:
        yield disk
    finally:
        disk.unmount()
