"""Commands on a pseudo-terminal, and without one: bars, log lines and accounts do not disturb each other."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import RealCommandLine
from tests.support.pseudo_terminal import run_on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command_line import Connection
    from tests.support.store import DendriteStore

MISSING = 40
HOSTILE = "\x1b[2J\x1b]0;title\x07[bold red]urgent[/bold red][/]\r\n\u202e"


@pytest.fixture
def config(tmp_path: Path, database: str, media_path: Path) -> str:
    """A configuration of a store with entries that have no file, with names that attack terminals."""
    line = RealCommandLine(tmp_path, database=database, media_path=media_path)
    line.keys = {"limits": {"max_share": 1.0, "max_missing_files": 1.0}}

    async def fill(store: DendriteStore, _connection: Connection) -> None:
        await store.add(media_id="present")
        for number in range(MISSING):
            await store.add(media_id=f"{number} {HOSTILE}", upload_name=HOSTILE, file=False)

    line.arrange(fill)
    line.config.write_text(line.text())
    return str(line.config)


def without_terminal(config: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "retentiond", "--config", config, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_on_a_terminal_findings_are_counted_and_the_account_stays_on_the_screen(config: str) -> None:
    screen = run_on_terminal("--config", config, "once")
    assert screen.status == 0, screen.text
    assert screen.bars
    assert screen.lines_with("inconsistency") == []
    assert screen.lines_with(
        f"{MISSING} warnings: missing_file {MISSING}; `retentiond -v COMMAND` lists each"
    )


def test_on_a_terminal_v_lists_each_finding_above_the_bar_and_never_in_its_line(config: str) -> None:
    screen = run_on_terminal("--config", config, "-v", "once")
    assert screen.status == 0, screen.text
    assert len(screen.lines_with("kind=missing_file")) == MISSING
    assert screen.bars
    assert [bar for bar in screen.bars if "inconsistency" in bar or "pass_" in bar] == []
    assert screen.lines_with("warnings:") == []


@pytest.mark.parametrize("words", [("once",), ("-v", "once"), ("plan", "--list"), ("-v", "audit", "--list")])
def test_on_a_terminal_a_hostile_name_is_text(config: str, words: tuple[str, ...]) -> None:
    screen = run_on_terminal("--config", config, *words)
    left = {char for char in screen.text if unicodedata.category(char) in {"Cc", "Cf", "Cs"}}
    assert left <= {"\r", "\n"}
    if len(words) > 1:
        assert screen.lines_with("[bold red]urgent[/bold red][/]")


def test_on_a_terminal_quiet_prints_nothing_of_a_pass_without_errors(config: str) -> None:
    screen = run_on_terminal("--config", config, "-q", "once")
    assert (screen.status, screen.raw) == (0, "")


def test_without_a_terminal_the_log_is_plain_lines_for_a_cron_jobs_mail(config: str) -> None:
    done = without_terminal(config, "once")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == MISSING
    assert all(
        line.startswith("retentiond: media: warning: inconsistency, kind missing_file, ") for line in lines
    )
    assert "{" not in "".join(lines).replace("\\u{", "")
    assert "\x1b" not in done.stderr + done.stdout


def test_without_a_terminal_quiet_leaves_standard_error_empty_after_a_pass_without_errors(
    config: str,
) -> None:
    done = without_terminal(config, "-q", "once")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
