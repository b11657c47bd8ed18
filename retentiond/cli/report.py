"""`report --html`: one page about all targets, in a file of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retentiond import __version__
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Scope, Session
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import Target
from retentiond.report.page import render, write_page
from retentiond.terminal.progress import watched

if TYPE_CHECKING:
    from retentiond.model.picture import Picture


@dataclass(frozen=True, slots=True)
class Report:
    """Draw all targets and write the page."""

    scope: Scope
    html: Path

    def __call__(self, session: Session) -> int:
        """Draw one target after another; what cannot be drawn is told, and the others are on the page."""
        pictures: list[Picture] = []

        async def errand(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                pictures.append(await target.picture(progress))
            return 0

        status = session.run(session.for_each(session.targets(self.scope), errand))
        if pictures:
            write_page(self.html, render(pictures, session.surroundings.now(), __version__))
            session.note(f"the report is in {self.html}")
        return status
