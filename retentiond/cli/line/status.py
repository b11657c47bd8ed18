"""The command line of `status`."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
import typer

from retentiond.cli.line.grammar import Json, example
from retentiond.cli.session import Work
from retentiond.cli.status import Status

standing = typer.Typer()


@standing.command(epilog=example("retentiond status", "retentiond status --json"))
def status(as_json: Json = False) -> Work:
    """Tell how each target stands.

    Its last pass and its next, what is in quarantine, who is at work, and whether a daemon is alive.
    """
    return Status(as_json)
