"""The unit file alone: systemd understands all of it, and finds little that it exposes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_UNIT = Path(__file__).parents[2] / "systemd/retentiond.service"
_MOST_EXPOSED = 15  # of 100: what systemd shows as 1.5

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="there is no systemd-analyze on this machine (Debian: apt install systemd)",
)


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words, str(_UNIT)], capture_output=True, text=True, check=False
    )


def test_systemd_knows_every_key_of_the_unit() -> None:
    told = _analyze("verify").stderr.splitlines()
    # The program is installed with the unit, and not where tests run.
    assert [line for line in told if "is not executable" not in line] == []


def test_the_unit_exposes_little() -> None:
    overall = _analyze("security", "--offline=true", "--no-pager", f"--threshold={_MOST_EXPOSED}")
    assert overall.returncode == 0, overall.stdout
