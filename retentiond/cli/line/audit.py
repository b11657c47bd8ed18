"""The command line of `audit`."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from typing import Annotated

import typer

from retentiond.cli.audit import Audit
from retentiond.cli.line.grammar import Json, Targets, example
from retentiond.cli.session import Scope, Work
from retentiond.config.units import parse_size
from retentiond.engine.target import READ_RATE
from retentiond.model.errors import UsageError

audits = typer.Typer()


@audits.command(
    epilog=example(
        "retentiond audit",
        "retentiond audit media --list --json",
        "retentiond audit media --verify-content --repair",
    ),
)
def audit(
    targets: Targets = None,
    listed: Annotated[bool, typer.Option("--list", help="Each finding, one a line.")] = False,
    as_json: Json = False,
    verify_content: Annotated[
        bool, typer.Option("--verify-content", help="Read every file, and hold its SHA-256 against its name.")
    ] = False,
    read_rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="SIZE",
            help="With --verify-content: the most that is read in a second; 50MiB unless said.",
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend what is safe to mend; what is taken goes to quarantine first."),
    ] = False,
    drop_damaged_remote: Annotated[
        bool,
        typer.Option(
            "--drop-damaged-remote",
            help="With --repair: drop media of other servers whose file is damaged, so that they are fetched again.",
        ),
    ] = False,
    fail_on_findings: Annotated[
        bool, typer.Option("--fail-on-findings", help="Exit 1 if anything is wrong, and was not mended.")
    ] = False,
) -> Work:
    """Hold the database against the disk, both ways.

    Rows without files, files without rows, sizes that differ. Without --repair nothing is changed. All targets, where
    none is named.
    """
    if read_rate is not None and not verify_content:
        raise UsageError("--rate is for reading the files, and goes with --verify-content; add it")
    rate = READ_RATE if read_rate is None else parse_size(read_rate)
    if rate < 1:
        raise UsageError("--rate is a size a second, such as 50MiB, and not 0")
    return Audit(
        Scope(tuple(targets or ())),
        listed,
        as_json,
        verify_content,
        rate,
        repair,
        drop_damaged_remote,
        fail_on_findings,
    )
