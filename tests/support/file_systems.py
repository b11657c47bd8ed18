"""Small, overlaid and read-only file systems, and file attributes that bind even root.

Each skips its test where the kernel or the rights lack it.
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextmanager
def attribute(letter: str, *paths: Path) -> Iterator[None]:
    """Set an attribute of `chattr` on these paths, and clear it afterwards."""
    done = subprocess.run(["chattr", f"+{letter}", *paths], check=False, capture_output=True, text=True)
    if done.returncode:
        clear(letter, *paths)
        pytest.skip(f"no such attribute can be set here: {done.stderr.strip()}")
    try:
        yield
    finally:
        clear(letter, *paths)


def clear(letter: str, *paths: Path) -> None:
    """Clear an attribute on the paths that still exist, so that pytest can remove its directory."""
    for path in paths:
        if path.exists():
            subprocess.run(["chattr", f"-{letter}", path], check=False, capture_output=True)


@contextmanager
def overlaid(directory: Path) -> Iterator[Path]:
    """Mount an overlay over a directory, whose files become the lower layer."""
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
            _run_or_skip(command)
        yield directory
    finally:
        for path in (directory, beside):
            subprocess.run(["umount", path], check=False, capture_output=True)


@contextmanager
def bound(directory: Path, point: Path, options: str) -> Iterator[None]:
    """Mount a directory at a second point, with options of its own."""
    _run_or_skip(["mount", "--bind", directory, point])
    try:
        _run_or_skip(["mount", "-o", f"remount,bind,{options}", point])
        yield
    finally:
        subprocess.run(["umount", point], check=True)


def _run_or_skip(command: Sequence[str | Path]) -> None:
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size (`size` of tmpfs) below a directory."""
    path = directory / "disk"
    path.mkdir()
    _run_or_skip(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path])
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
