"""The unit files alone: systemd understands all of them, and finds little that they expose."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_UNITS = Path(__file__).parents[2] / "systemd"
_MOST_EXPOSED = 15  # of 100: what systemd shows as 1.5

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="there is no systemd-analyze on this machine (Debian: apt install systemd)",
)


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sorted(path.name for path in _UNITS.glob("retentiond*")))
def test_systemd_knows_every_key_of_the_unit(name: str) -> None:
    lines = _analyze("verify", _UNITS / name).stderr.splitlines()
    # The program is installed with the unit, and not where tests run.
    assert [line for line in lines if "is not executable" not in line] == []


@pytest.mark.parametrize("name", ["retentiond.service", "retentiond-once.service"])
def test_the_unit_exposes_little(name: str) -> None:
    threshold = f"--threshold={_MOST_EXPOSED}"
    overall = _analyze("security", "--offline=true", "--no-pager", threshold, _UNITS / name)
    assert overall.returncode == 0, overall.stdout


def test_a_run_by_the_timer_has_the_limits_of_the_daemon() -> None:
    def limits(name: str) -> list[str]:
        lines = (_UNITS / name).read_text(encoding="utf-8").splitlines()
        end = lines.index("[Install]") if "[Install]" in lines else len(lines)
        return [line for line in lines[lines.index("# Who it runs as.") : end] if line]

    assert limits("retentiond-once.service") == limits("retentiond.service")
