"""`report --html`: one page about all targets, in a file of its own."""

from dataclasses import dataclass
from pathlib import Path

from retentiond import __version__
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Scope, Session
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import Target
from retentiond.model.errors import RetentiondError
from retentiond.model.picture import Picture
from retentiond.model.report import Tally
from retentiond.report.page import render, write_page
from retentiond.terminal.progress import watched


@dataclass(frozen=True, slots=True)
class Report:
    """Draw all targets and write the page."""

    scope: Scope
    html: Path

    def __call__(self, session: Session) -> int:
        """Draw one target after another; one that cannot be read is on the page as such."""
        targets = session.targets(self.scope)
        pictures: dict[str, Picture] = {}
        errors: dict[str, str] = {}

        async def errand(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                pictures[target.name] = await target.picture(progress)
            return 0

        def failed(name: str, error: RetentiondError) -> None:
            errors[name] = str(error)

        status = session.run(session.for_each(targets, errand, failed=failed))
        now = session.surroundings.now()
        for name in targets.keys() - pictures.keys():
            error = errors.get(
                name, "an error of retentiond's own; the command that wrote this page printed it"
            )
            pictures[name] = Picture(name, targets[name].kind, now, Tally(), error=error)
        if pictures:
            write_page(self.html, render([pictures[name] for name in targets], now, __version__))
            session.note(f"the report is in {self.html}")
        return status
