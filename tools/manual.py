"""The manual page of the command line, in the markup of man(7): every command with its options, from the program itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

from retentiond import __version__
from retentiond.cli import app
from retentiond.cli.options import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE: Final = f"man/{PROGRAM}.1"
_FILES: Final = (
    (
        "/etc/retentiond/config.yaml",
        "The configuration, unless --config or $RETENTIOND_CONFIG names another.",
    ),
    (
        "MEDIA_PATH/.retentiond",
        "The quarantine, and the mark by which a store is known; it belongs to retentiond alone.",
    ),
)


def manual(exit_statuses: Sequence[tuple[int, str]]) -> str:
    """Return the page as the text of its file."""
    return "\n".join([*_head(), *_commands(), *_exit_statuses(exit_statuses), *_tail()]) + "\n"


def _head() -> Iterator[str]:
    main = typer.main.get_command(app._line)  # noqa: SLF001 - its help is public
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {__version__}" "User Commands"'
    yield from (".SH NAME", f"{PROGRAM} \\- {_text((main.help or '').partition('.')[0].lower())}")
    yield from (".SH SYNOPSIS", f".B {PROGRAM}", "[OPTIONS] COMMAND [ARGUMENTS]")
    yield from (".SH OPTIONS", *_options(main))


def _commands() -> Iterator[str]:
    yield ".SH COMMANDS"
    for name in app.VERBS:
        yield from _command(app.load(name), name)


def _command(command: Any, words: str) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, one in command.commands.items():
            yield from _command(one, f"{words} {name}")
        return
    usage = " ".join(command.collect_usage_pieces(typer.Context(command)))
    yield from (
        f".SS {_text(f'{words} {usage}'.strip())}",
        *_paragraphs(command.help or ""),
        *_options(command),
    )
    examples = [row.strip() for row in (command.epilog or "").splitlines() if row.startswith("  ")]
    if examples:
        yield from (".PP", ".nf", *(_text(line) for line in examples), ".fi")


def _options(command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=command.name)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            yield from (".TP", f".B {_text(record[0])}", _text(record[1]))


def _exit_statuses(statuses: Sequence[tuple[int, str]]) -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for status, meaning in statuses:
        yield from (".TP", f".B {status}", _text(meaning))


def _tail() -> Iterator[str]:
    yield ".SH FILES"
    for path, meaning in _FILES:
        yield from (".TP", f".I {_text(path)}", _text(meaning))


def _paragraphs(text: str) -> Iterator[str]:
    for place, paragraph in enumerate(text.split("\n\n")):
        yield from ((".PP",) if place else ())
        yield _text(paragraph)


def _text(text: str) -> str:
    """Return a text on one line; a backslash, a hyphen, and a dot or quote at its beginning are escaped."""
    line = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", line)
