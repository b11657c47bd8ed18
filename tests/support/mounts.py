"""Mounts over a test's own directories; where nothing can be mounted, the test is left out."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextmanager
def overlaid(directory: Path) -> Iterator[Path]:
    """Mount an overlay whose lower layer is what the directory holds now; where nothing can be mounted, skip."""
    lower = directory.rename(directory.with_name("lower"))
    # On an overlay no other overlay can have its upper layer.
    beside = directory.with_name("beside")
    for path in (directory, beside):
        path.mkdir(mode=0o750)
    mounts: list[list[str | Path]] = [
        ["mount", "-t", "tmpfs", "tmpfs", beside],
        ["mkdir", beside / "upper", beside / "work"],
        ["mount", "-t", "overlay", "overlay", "-o",
         f"lowerdir={lower},upperdir={beside}/upper,workdir={beside}/work,redirect_dir=off", directory],
    ]  # fmt: skip
    try:
        for command in mounts:
            if subprocess.run(command, check=False, capture_output=True).returncode:
                pytest.skip("no overlay can be mounted here")
        yield directory
    finally:
        for path in (directory, beside):
            subprocess.run(["umount", path], check=False, capture_output=True)


@contextmanager
def bound(directory: Path, point: Path, options: str) -> Iterator[None]:
    """Mount a directory at another point as well, with options of that mount alone."""
    _run_or_skip(["mount", "--bind", directory, point])
    try:
        _run_or_skip(["mount", "-o", f"remount,bind,{options}", point])
        yield
    finally:
        subprocess.run(["umount", point], check=True)


def _run_or_skip(command: Sequence[str | Path]) -> None:
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
