"""The command line of `records`: what may be typed, and what it asks for."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from pathlib import Path
from typing import Annotated

import typer

from retentiond.cli.line.grammar import Json, Targets, example
from retentiond.cli.records import Export, Verify
from retentiond.cli.session import Scope, Work

records = typer.Typer(help="The proof of disposal: print it, and verify its chain.")


@records.command(epilog=example("retentiond records export media > records.jsonl"))
def export(targets: Targets = None) -> Work:
    """Print every record as a line of JSON, oldest first.

    What was deleted, when, by which rules: identifiers and sizes, and no content. All targets, where none is named.
    """
    return Export(Scope(tuple(targets or ())))


@records.command(
    epilog=example("retentiond records verify", "retentiond records verify --file records.jsonl"),
)
def verify(
    targets: Targets = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One that `records export` wrote, in place of the ledger."),
    ] = None,
    as_json: Json = False,
) -> Work:
    """Follow the chain of records; exit 1 and name the first that does not fit.

    Each record holds the hash of the one before. All targets, where none is named.
    """
    return Verify(Scope(tuple(targets or ())), file, as_json)
