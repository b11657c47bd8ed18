"""The demo as a stranger runs it: in a process of its own, with nothing but a temporary directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from retentiond.demo import cases as demo_cases
from retentiond.demo.cases import expected_cases, look_at_cases
from retentiond.demo.store import make_up_store
from tests.integration.test_made_up_store import NOW
from tests.support.pseudo_terminal import run_on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg


_MEDIA = "300"

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The demo's temporary directory; the server's user must be able to enter it."""
    path = tmp_path / "t"
    path.mkdir()
    for directory in (path, *path.parents):
        if directory.owner() == tmp_path.owner():
            directory.chmod(directory.stat().st_mode | 0o711)
        if directory.name.startswith("pytest-of-"):
            break
    return path


def _demo(temporary: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "retentiond", "demo", "--media", _MEDIA, *words],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_the_smallest_demo_shows_each_case_too_and_leaves_only_what_it_keeps_in_an_empty_directory(
    temporary: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    done = _demo(temporary, "--media", "25", "--keep", str(kept), "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    planned, passed = told["passes"]
    assert (planned["state"], passed["state"]) == ("planned", "finished")
    assert planned["removed"] == passed["removed"]
    # Its row is gone with the pass; what else is wrong is not a pass's to mend.
    assert told["findings"] == {"orphan_blob": 1, "orphan_thumbnail_row": 1}
    assert told["purged"]["blobs"] > 0
    assert all(case["as_it_should_be"] for case in told["cases"])
    assert list(temporary.iterdir()) == []
    assert (kept / "database.sql").exists()


def test_the_demo_purges_the_rooms_that_all_have_left_and_no_other(temporary: Path) -> None:
    done = _demo(temporary, "--media", "25", "--rooms", "--json")
    assert done.returncode == 0, done.stderr
    rooms = json.loads(done.stdout)["rooms"]
    assert rooms["wrong"] == []
    assert rooms["planned"]["refused"]["limit"] == "first_pass"
    assert rooms["purged"]["removed"] == rooms["planned"]["removed"]
    assert rooms["purged"]["removed"]["items"] == 8
    assert rooms["purged"]["kept"]["by_reason"] == {
        "joined": 4,
        "invite": 4,
        "local_alias": 4,
        "space_child": 4,
    }


def test_the_demo_prints_text_for_people_and_its_kept_files_can_be_used(
    temporary: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    done = _demo(temporary, "--keep", str(kept))
    assert done.returncode == 0, done.stderr
    for words in ("retentiond plan", "Moved to quarantine", "1 row back", "What became of it, and why"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout
    dumped = (kept / "database.sql").read_text()
    assert "mediaapi_media_repository" in dumped
    config = yaml.safe_load((kept / "config.yaml").read_text())
    assert config["targets"]["media"]["media_path"] == str(kept / "media")
    checked = subprocess.run(
        [sys.executable, "-m", "retentiond", "--config", str(kept / "config.yaml"), "check-config"],
        env=os.environ | {"DEMO_DATABASE": "postgresql://localhost/demo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    again = _demo(temporary, "--keep", str(kept))
    assert again.returncode == 2
    assert "name a new directory" in again.stderr


def test_no_log_line_of_the_demo_breaks_a_bar_on_a_terminal(temporary: Path) -> None:
    screen = run_on_terminal("-v", "demo", "--media", _MEDIA, environment={"TMPDIR": str(temporary)})
    assert screen.status == 0, screen.text
    assert screen.bars
    assert screen.lines_with("inconsistency")
    assert [bar for bar in screen.bars if "inconsistency" in bar] == []


def test_a_demo_that_is_interrupted_leaves_nothing_behind(temporary: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "retentiond", "demo", "--media", "100000"],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    # Its first words come when the server runs and the store is about to be made.
    assert "A store of" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()
    assert process.wait() == 4
    assert list(temporary.iterdir()) == []


async def test_a_case_that_did_not_come_out_as_it_should_is_seen(
    connection: asyncpg.Connection[asyncpg.Record], media_path: Path
) -> None:
    made = await make_up_store(connection, media_path, 100, seed=1, now=NOW)
    cases = await expected_cases(connection, made.cases)
    seen = await look_at_cases(connection, media_path, cases)
    # No pass has run: all that should have gone is still there.
    wrong = {found.case.what for found in seen if not found.as_it_should_be}
    assert wrong == {
        "the avatar before it",
        "remote, shared content",
        "remote, without its file",
    }
    assert demo_cases.cases_table(seen).row_count == len(seen)


def test_the_demo_of_chats_does_what_its_dry_run_said_and_touches_nothing_else(temporary: Path) -> None:
    done = _demo(temporary, "--chats", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)["chats"]
    assert told["wrong"] == []
    assert told["planned"]["entities"] == told["purged"]["entities"]
    assert all(told["purged"]["kept"][reason] for reason in ("open", "newer", "has_file_messages", "hold"))
