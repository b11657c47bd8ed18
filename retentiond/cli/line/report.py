"""The command line of `report`."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from pathlib import Path
from typing import Annotated

import typer

from retentiond.cli.line.grammar import Targets, example
from retentiond.cli.report import Report
from retentiond.cli.session import Scope, Work

reports = typer.Typer()


@reports.command(epilog=example("retentiond report --html /srv/www/retention.html"))
def report(
    html: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")],
    targets: Targets = None,
) -> Work:
    """Write a page about the targets.

    What is stored, what each policy would free at other ages, what was freed, what stays and why. It needs nothing else
    to be looked at.
    """
    return Report(Scope(tuple(targets or ())), html)
