"""What may be typed, and what is said of what may not."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from retentiond import __version__
from retentiond.config.example import example_config
from tests.support.command_line import CommandLine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.mark.parametrize(
    "words", ["", "nonsense", "quarantine", "quarantine nonsense", "plan --nonsense", "plan --days many"]
)
def test_what_is_no_command_line_exits_2_and_names_the_help(line: CommandLine, words: str) -> None:
    outcome = line.type(*words.split())
    assert outcome.status == 2
    assert outcome.stderr.startswith("retentiond: ")
    assert "--help" in outcome.stderr


def test_a_mistyped_command_is_answered_with_the_nearest(line: CommandLine) -> None:
    assert "'restore'" in line.type("quarantine", "restor").stderr


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "run",
        "check-config",
        "example-config",
        "plan",
        "once",
        "quarantine list",
        "quarantine restore",
        "quarantine purge",
        "quarantine forget",
        "quarantine accept",
        "status",
        "hold add",
        "hold list",
        "hold release",
    ],
)
def test_the_help_of_each_command_has_an_example_of_it(
    line: CommandLine, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert line.type(*command.split(), "--help").status == 0
    examples = capsys.readouterr().out.partition("Example")[2]
    assert command in examples


def test_help_is_done_when_it_is_shown(line: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    assert line.type("plan", "--help").status == 0
    assert "--list" in capsys.readouterr().out


def test_the_version_is_told(line: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    assert line.type("--version").status == 0
    assert capsys.readouterr().out == f"retentiond {__version__}\n"


def test_example_config_prints_the_example_and_needs_no_configuration(line: CommandLine) -> None:
    line.config.unlink()
    outcome = line.type("example-config")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, example_config(), "")


def test_the_shell_is_told_how_to_complete_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: CommandLine
) -> None:
    monkeypatch.setenv("_RETENTIOND_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "retentiond pl")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        line.type()
    assert capsys.readouterr().out.split() == ["plan"]


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_a_start_without_standard_streams_goes_on_as_with_them(tmp_path: Path, command: str) -> None:
    words = [sys.executable, "-m", "retentiond", "--config", str(tmp_path / "missing.yaml"), command]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], check=False)
    assert done.returncode == 2
