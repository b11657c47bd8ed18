"""`plan` and `once`: what a pass would do, and the pass itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from retentiond.cli.listing import write_item
from retentiond.cli.outcome import may_show_bars, over_limit, pass_words, tell_outcome
from retentiond.cli.session import Scope, Session
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import Order, Stop, Target
from retentiond.model.report import Item, PassReport
from retentiond.terminal.account import show_pass
from retentiond.terminal.progress import watched


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what a pass would do, and change nothing."""

    scope: Scope
    listed: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Plan for one target after another."""
        targets = session.targets(self.scope)
        listen = self._listener(session, several=len(targets) > 1)
        passes: list[dict[str, Any]] = []

        async def errand(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session, listed=self.listed)) as progress:
                report = await target.plan(listen, progress)
            passes.append(report.as_json())
            self._show(session, report)
            return report.exit_status

        try:
            return session.run(session.for_each(targets, errand))
        finally:
            if self.as_json and not self.listed:
                session.document({"passes": passes})

    def _listener(self, session: Session, *, several: bool) -> Callable[[Item], None] | None:
        if not self.listed:
            return None
        return lambda item: write_item(session.out, item, as_json=self.as_json, with_target=several)

    def _show(self, session: Session, report: PassReport) -> None:
        if not self.as_json:
            # Below a list, which may be piped to a program, the account is for the person beside it.
            console = session.err if self.listed else session.out
            if not (self.listed and session.options.quiet):
                show_pass(console, report, self._way_on(session, report))
        elif report.refused is not None:
            session.note(f"{report.target}: a pass would be refused by {report.refused.limit}")

    def _way_on(self, session: Session, report: PassReport) -> Iterator[str]:
        yield "Nothing was changed."
        yield from over_limit(session, report, self.scope)
        if report.refused is None and report.removed:
            yield f"The pass itself: {session.command(pass_words('once', report.target, self.scope))}"
        if not self.listed:
            every = session.command(pass_words("plan", report.target, self.scope, "--list"))
            yield f"Every item with its reason: {every}"


@dataclass(frozen=True, slots=True)
class Once:
    """Do one pass now."""

    scope: Scope
    over_limits: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Do a pass of one target after another."""
        targets = session.targets(self.scope)
        passes: list[dict[str, Any]] = []
        stop = Stop()

        async def errand(target: Target, config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                order = Order(
                    "once",
                    over_limits=self.over_limits,
                    keep_records=session.keep_records,
                    progress=progress,
                    stop=stop,
                )
                report = await target.run_pass(order)
            passes.append(report.as_json())
            await tell_outcome(session, target, config, report, self.scope, shown=not self.as_json)
            return report.exit_status

        try:
            return session.run(session.for_each(targets, errand, stop), stop)
        finally:
            if self.as_json:
                session.document({"passes": passes})
