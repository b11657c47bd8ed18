"""The manual page of the command line, in the markup of man(7): every command with its options, from the program itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from retentiond import __version__
from retentiond.cli.options import PROGRAM
from tools.command_line import commands, exit_statuses, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.command_line import Command

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


def manual() -> str:
    """Return the page as the text of its file."""
    return "\n".join([*_head(), *_commands(), *_exit_statuses(), *_tail()]) + "\n"


def _head() -> Iterator[str]:
    main = program()
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {__version__}" "User Commands"'
    yield from (".SH NAME", f"{PROGRAM} \\- {_text(main.help.partition('.')[0].lower())}")
    yield from (".SH SYNOPSIS", f".B {PROGRAM}", "[OPTIONS] COMMAND [ARGUMENTS]")
    yield from (".SH OPTIONS", *_options(main))


def _commands() -> Iterator[str]:
    yield ".SH COMMANDS"
    for command in commands():
        yield f".SS {_text(f'{command.words} {command.usage}'.strip())}"
        yield from _paragraphs(command.help)
        yield from _options(command)
        if command.examples:
            yield from (".PP", ".nf", *map(_text, command.examples), ".fi")


def _options(command: Command) -> Iterator[str]:
    for option, meaning in command.options:
        yield from (".TP", f".B {_text(option)}", _text(meaning))


def _exit_statuses() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for status, meaning in exit_statuses():
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
