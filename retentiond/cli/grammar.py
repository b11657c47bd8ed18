"""What the parts of the command line have in common: commands that know their later flags, examples, arguments."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from retentiond.cli.later import later_flags
from retentiond.model.errors import NotAvailableError

PROGRAM: Final = "retentiond"


class Command(TyperCommand):
    """A command that knows which flags of its own a later version brings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse those by name, and parse the rest."""
        path = ctx.command_path.removeprefix(f"{PROGRAM} ")
        later = later_flags(path)
        for word in args:
            if word.partition("=")[0] in later:
                raise NotAvailableError(f"`{path} {word.partition('=')[0]}`")
        return super().parse_args(ctx, args)


def example(*lines: str) -> str:
    """Write the end of a command's help; the backspace tells Typer to leave the lines as they are."""
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


# The usage line shows it; what Typer says of an argument beside that is for programmers.
Targets = Annotated[list[str] | None, typer.Argument(metavar="TARGET", hidden=True)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, and nothing else.")]
