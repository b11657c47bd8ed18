"""A test run takes away what a killed run left in memory, and nothing that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.database import remove_dead_servers

if TYPE_CHECKING:
    from pathlib import Path


def test_only_the_directory_of_a_dead_server_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    for name, pid in (("dead", ended.pid), ("alive", os.getpid())):
        (tmp_path / f"retentiond-{name}/data").mkdir(parents=True)
        (tmp_path / f"retentiond-{name}/data/postmaster.pid").write_text(f"{pid}\n/somewhere\n")
    (tmp_path / "retentiond-beginning/data").mkdir(parents=True)
    remove_dead_servers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["retentiond-alive", "retentiond-beginning"]


def test_a_directory_that_another_run_is_just_making_stays(tmp_path: Path) -> None:
    """The single-user server of initdb writes its process with a minus sign."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    (tmp_path / "retentiond-made/data").mkdir(parents=True)
    (tmp_path / "retentiond-made/data/postmaster.pid").write_text(f"-{ended.pid}\n/somewhere\n")
    remove_dead_servers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["retentiond-made"]
