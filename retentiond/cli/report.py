"""`report`: an HTML page about the targets, in one file."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from retentiond import __version__
from retentiond.cli.options import Targets, commands, example
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import HasStatistics
from retentiond.engine.target import Target
from retentiond.model.errors import RetentiondError
from retentiond.report.page import render, write_page
from retentiond.report.target_report import TargetReport, collect, unreadable
from retentiond.terminal.progress import watched

app = commands()


@app.command(epilog=example("retentiond report --html /srv/www/retention.html"))
def report(
    html: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")],
    targets: Targets = None,
) -> Work:
    """Write an HTML page about the targets.

    The page shows the state of each target, when the disk is full, what uses the space, what was deleted, what each
    policy would delete at other ages, and what is kept and why. It is one file without external resources.
    """
    return Report(Scope(tuple(targets or ())), html)


@dataclass(frozen=True, slots=True)
class Report:
    """Collect the statistics of all targets, and write the page."""

    scope: Scope
    html: Path

    def __call__(self, session: Session) -> int:
        """Read one target after another; a target that cannot be read is on the page with its error."""
        targets = session.capable(
            self.scope, HasStatistics, "no statistics to report; name a target that has them"
        )
        reports: dict[str, TargetReport] = {}
        errors: dict[str, str] = {}

        async def on_target(target: Target, config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                reports[target.name] = await collect(target, config, session.environment.now(), progress)
            return 0

        def failed(name: str, error: RetentiondError) -> None:
            errors[name] = str(error)

        status = session.run(session.for_each(targets, on_target, failed=failed))
        for name in targets.keys() - reports.keys():
            error = errors.get(
                name, "an error of retentiond's own; the command that wrote this page printed it"
            )
            reports[name] = unreadable(name, targets[name], error)
        if reports:
            now = session.environment.now()
            write_page(self.html, render([reports[name] for name in targets], now, __version__))
            session.note(f"the report is in {self.html}")
        return status
