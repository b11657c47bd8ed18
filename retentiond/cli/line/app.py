"""The whole command line, put together from its parts, and what may stand before a command."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from retentiond import __version__
from retentiond.cli.line.audit import audits
from retentiond.cli.line.chats import chats
from retentiond.cli.line.grammar import PROGRAM
from retentiond.cli.line.holds import hold
from retentiond.cli.line.passes import passes
from retentiond.cli.line.quarantine import quarantine
from retentiond.cli.line.records import records
from retentiond.cli.line.report import reports
from retentiond.cli.line.setup import setup
from retentiond.cli.line.status import standing
from retentiond.cli.session import Options, Work

app = typer.Typer(
    name=PROGRAM,
    help="Delete old data by rules, safely, with a way back and a record.",
    # Plain text, which takes no bracket for markup.
    rich_markup_mode=None,
)
# As the help lists them.
for _commands in (setup, passes, audits, reports, chats, standing):
    app.add_typer(_commands)
app.add_typer(quarantine, name="quarantine")
app.add_typer(records, name="records")
app.add_typer(hold, name="hold")


def read_line(arguments: Sequence[str], options: Options) -> Work | int:
    """Return what the line asks for, or the exit status where Typer has dealt with it (--help, completion).

    What stands before the command goes into `options`. Raise TyperException, UsageError or UnitError for a line
    that cannot be right.
    """
    command = typer.main.get_command(app)
    asked: Work | int = command.main(list(arguments), PROGRAM, standalone_mode=False, obj=options)
    return asked


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _before_the_command(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The configuration; else $RETENTIOND_CONFIG, else /etc/retentiond/config.yaml.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", "-v", help="Log everything, with tracebacks, and list each finding.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback deals with it
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    options: Options = context.obj
    options.config, options.quiet, options.debug = config, quiet, debug
