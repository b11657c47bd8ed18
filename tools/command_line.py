"""The command line as data: each command with its words, usage, options and examples, from the program itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from retentiond.cli import app
from retentiond.model.errors import RetentiondError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its words after the program's name, and the parts of its help."""

    words: str
    usage: str
    help: str
    options: tuple[tuple[str, str], ...]
    """Each as it is written, and its meaning."""
    examples: tuple[str, ...]


def program() -> Command:
    """Return the program itself, with the options of every command."""
    return _described(typer.main.get_command(app._line), "")  # noqa: SLF001 - its help is public


def commands() -> Iterator[Command]:
    """Yield every command, in the order of the help."""
    for name in app.VERBS:
        yield from _below(app.load(name), name)


def exit_statuses() -> list[tuple[int, str]]:
    """Return each exit status and its meaning."""
    errors = sorted(RetentiondError.__subclasses__(), key=lambda one: one.exit_status)
    return [
        (0, "Everything was done."),
        (1, "Done, with items that failed; they are counted and named."),
        *(
            (error.exit_status, error.__doc__ or "")
            for error in errors
            if error.exit_status != RetentiondError.exit_status
        ),
    ]


def _below(command: Any, words: str) -> Iterator[Command]:
    if isinstance(command, TyperGroup):
        for name, one in command.commands.items():
            yield from _below(one, f"{words} {name}")
    else:
        yield _described(command, words)


def _described(command: Any, words: str) -> Command:
    context = typer.Context(command, info_name=command.name)
    records = (parameter.get_help_record(context) for parameter in command.params)
    rows = (command.epilog or "").splitlines()
    return Command(
        words,
        " ".join(command.collect_usage_pieces(typer.Context(command))),
        command.help or "",
        tuple(record for record in records if record),
        tuple(row.strip() for row in rows if row.startswith("  ")),
    )
