"""File attributes that forbid even root what rights allow: `chattr +a` on a directory, `chattr +i` on a file."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def attribute(letter: str, *paths: Path) -> Iterator[None]:
    """Set an attribute on these paths while the block lasts; where nobody can, the test is left out."""
    done = subprocess.run(["chattr", f"+{letter}", *paths], check=False, capture_output=True, text=True)
    if done.returncode:
        clear(letter, *paths)
        pytest.skip(f"no such attribute can be set here: {done.stderr.strip()}")
    try:
        yield
    finally:
        clear(letter, *paths)


def clear(letter: str, *paths: Path) -> None:
    """Take an attribute away again, of the paths that are there."""
    # What was moved meanwhile is not there any more, and else pytest could not remove its directory.
    for path in paths:
        if path.exists():
            subprocess.run(["chattr", f"-{letter}", path], check=False, capture_output=True)
