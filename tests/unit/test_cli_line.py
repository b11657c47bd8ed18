"""What may be typed, and what is said of what may not."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.core import TyperGroup

from retentiond import __version__
from retentiond.cli.app import VERBS, load
from retentiond.config.example import example_config
from tests.support.command_line import CommandLine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.mark.parametrize(
    "words", ["nonsense", "quarantine", "quarantine nonsense", "plan --nonsense", "plan --days many"]
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


@pytest.mark.parametrize("words", ["", "-h", "--help", "help"])
def test_the_help_is_shown_without_a_command_too(
    line: CommandLine, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert line.type(*words.split()).status == 0
    shown = capsys.readouterr().out
    for name, verb in VERBS.items():
        # A summary that the help cut would end in an ellipsis.
        assert f"  {name:<14}  {verb.summary}\n" in shown


def test_help_names_a_command_or_a_subcommand(line: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    assert line.type("help", "quarantine", "restore").status == 0
    assert "--pass N" in capsys.readouterr().out
    assert "'plan'" in line.type("help", "pla").stderr


@pytest.mark.parametrize("name", VERBS)
def test_the_line_about_a_command_begins_its_own_help(name: str) -> None:
    assert (load(name).help or "").startswith(VERBS[name].summary)


@pytest.mark.parametrize("name", [name for name in VERBS if isinstance(load(name), TyperGroup)])
def test_no_subcommand_is_summed_up_in_half_a_sentence(
    line: CommandLine, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    line.type(name, "--help")
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


@pytest.mark.parametrize("words", ["--config {} check-config", "check-config --config {}"])
def test_options_of_every_command_stand_before_or_after_it(line: CommandLine, words: str) -> None:
    line.config.rename(line.directory / "elsewhere.yaml")
    assert line.type(*words.format(line.directory / "elsewhere.yaml").split()).status == 0


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_help_waits_for_no_driver_and_no_configuration(option: str) -> None:
    loaded = _loaded_by(option)
    assert "typer" in loaded
    assert not loaded & {
        "asyncio",
        "asyncpg",
        "pydantic",
        "structlog",
        "apscheduler",
        "jinja2",
        "rich.console",
    }


@pytest.fixture
def unreachable(tmp_path: Path) -> str:
    """Return the path of a configuration whose database cannot be reached."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""targets:
  media: {{kind: dendrite_media, database: "postgresql://r@localhost:1/d", media_path: {tmp_path}}}
"""
    )
    return str(config)


@pytest.mark.parametrize("verb", [["once"], ["plan"], ["delete", "--media", "mxc://a/b"], ["audit"]])
def test_a_command_imports_no_module_of_the_web_or_of_another_kind(verb: list[str], unreachable: str) -> None:
    loaded = _loaded_by("--config", unreachable, *verb)
    assert "retentiond.targets.dendrite_media.target" in loaded
    assert not loaded & {"aiohttp", "apprise", "apscheduler", "clickhouse_connect", "jinja2"}
    assert not [name for name in loaded if name.startswith("retentiond.targets.chat_database.")]


def test_status_imports_no_module_of_a_pass_of_the_daemon_or_of_another_kind(unreachable: str) -> None:
    loaded = _loaded_by("--config", unreachable, "status")
    assert "retentiond.targets.dendrite_media.target" in loaded
    assert not loaded & {"aiohttp", "apscheduler", "clickhouse_connect", "jinja2", "prometheus_client"}
    rooms = ("acceptance", "audit", "passes", "quarantine", "repair", "restore", "surveys", "sweeps")
    unused = ("chat_database", *(f"dendrite_media.{room}" for room in rooms))
    needless = tuple(
        f"retentiond.{name}." for name in ("daemon.run", *(f"targets.{name}" for name in unused))
    )
    assert [module for module in sorted(loaded) if f"{module}.".startswith(needless)] == []


def _loaded_by(*words: str) -> set[str]:
    """Return the modules that a command has imported at its end."""
    return set(_at_the_end_of("*sys.modules", *words).split())


def _at_the_end_of(expression: str, *words: str) -> str:
    program = (
        f"import gc, sys; from retentiond.cli import main; sys.argv[1:] = {list(words)}\n"
        f"try: main()\nexcept SystemExit: pass\nfinally: print({expression})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout


def test_no_collection_of_garbage_looks_at_the_modules_of_the_daemon(tmp_path: Path) -> None:
    """It would hold all requests for as long."""
    counts = _at_the_end_of(
        "gc.get_freeze_count(), len(gc.get_objects())", "--config", str(tmp_path / "missing.yaml"), "run"
    )
    frozen, looked_at = map(int, counts.splitlines()[-1].split())
    assert frozen > 10 * looked_at


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


def test_errors_of_the_configuration_reach_a_pipe(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("targetz: {}\n")
    words = [sys.executable, "-m", "retentiond", "--config", str(config), "check-config"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown key `targetz`; did you mean `targets`?" in done.stderr


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_a_start_without_standard_streams_goes_on_as_with_them(tmp_path: Path, command: str) -> None:
    words = [sys.executable, "-m", "retentiond", "--config", str(tmp_path / "missing.yaml"), command]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], check=False)
    assert done.returncode == 2
