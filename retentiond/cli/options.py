"""Options and arguments that several commands share; nothing heavy is imported, so that help is printed at once."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

PROGRAM: Final = "retentiond"


@dataclass(slots=True)
class Options:
    """The options of every command; `as_json`: standard output is a JSON document, read by a program."""

    config: Path | None = None
    quiet: bool = False
    debug: bool = False
    as_json: bool = False
    translate: Callable[[str], str] | None = None
    """Into the language of the user; None for English."""


def commands(summary: str | None = None) -> typer.Typer:
    """Return an empty set of commands; `summary` is the help of the set."""
    # Without a markup mode help is plain text: square brackets are printed as they are.
    return typer.Typer(help=summary, rich_markup_mode=None, add_completion=False)


def example(*lines: str) -> str:
    """Return the examples at the end of a command's help; the backspace keeps Typer from joining the lines."""
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


def _set_config(context: typer.Context, value: Path | None) -> Path | None:
    if value is not None:
        context.ensure_object(Options).config = value
    return value


def _set_quiet(context: typer.Context, value: bool) -> bool:
    context.ensure_object(Options).quiet |= value
    return value


def _set_debug(context: typer.Context, value: bool) -> bool:
    context.ensure_object(Options).debug |= value
    return value


def _set_json(context: typer.Context, value: bool) -> bool:
    context.ensure_object(Options).as_json = value
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_set_config,
        help="Configuration file; default: $RETENTIOND_CONFIG, then /etc/retentiond/config.yaml.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_set_quiet, help="Print errors only.")]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", "-v", callback=_set_debug, help="Log everything, with tracebacks, and list each finding."
    ),
]
# The usage line names it; what Typer adds about an argument repeats it.
Targets = Annotated[list[str] | None, typer.Argument(metavar="TARGET", hidden=True)]
Json = Annotated[
    bool,
    typer.Option("--json", callback=_set_json, help="Print one JSON document on standard output."),
]
Wait = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="How long to wait for another retentiond that works on the same store, then exit 5; default: 10s.",
    ),
]
Media = Annotated[str | None, typer.Option(metavar="mxc://SERVER/ID", help="This media item.")]
User = Annotated[
    str | None,
    typer.Option(
        metavar="@USER:SERVER", help="Uploads of this user, and media that their events and profile refer to."
    ),
]
Origin = Annotated[str | None, typer.Option(metavar="SERVER", help="All media of this server.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="The reason, for the record.")]
DendriteConfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Use dendrite's configuration instead of retentiond's."),
]
Days = Annotated[
    int | None,
    typer.Option(metavar="N", help="With --dendrite-config: days that media are kept; default: 30."),
]
Local = Annotated[
    bool, typer.Option("--local", help="With --dendrite-config: include media uploaded to this server.")
]
