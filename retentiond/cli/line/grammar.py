"""What the parts of the command line have in common: examples, arguments and options."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from typing import Annotated, Final

import typer

from retentiond.cli.session import Options

PROGRAM: Final = "retentiond"


def example(*lines: str) -> str:
    """Write the end of a command's help; the backspace tells Typer to leave the lines as they are."""
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


# The usage line shows it; what Typer says of an argument beside that is for programmers.
Targets = Annotated[list[str] | None, typer.Argument(metavar="TARGET", hidden=True)]


def _note_json(context: typer.Context, as_json: bool) -> bool:
    context.ensure_object(Options).as_json = as_json
    return as_json


Json = Annotated[
    bool,
    typer.Option(
        "--json", callback=_note_json, help="One JSON document on standard output, and nothing else."
    ),
]
Media = Annotated[str | None, typer.Option(metavar="mxc://SERVER/ID", help="This medium.")]
User = Annotated[
    str | None,
    typer.Option(
        metavar="@USER:SERVER", help="What this user uploaded, and what their events and profile refer to."
    ),
]
Origin = Annotated[str | None, typer.Option(metavar="SERVER", help="All media of this server.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")]
