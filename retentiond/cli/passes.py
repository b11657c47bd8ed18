"""`plan` and `once`: what a pass would do, and the pass itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from retentiond.cli.listing import write_item
from retentiond.cli.session import Scope, Session
from retentiond.config.schema import MediaTarget, TargetConfig
from retentiond.engine.target import Order, Stop, Target
from retentiond.model.errors import RetentiondError
from retentiond.model.report import Item, PassReport, QuarantineSummary
from retentiond.terminal.account import quarantine_in_words, show_pass
from retentiond.terminal.progress import watched
from retentiond.terminal.words import age_in_words, time_in_words


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
            with watched(session.err, bars=self._bars(session)) as progress:
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

    def _bars(self, session: Session) -> bool:
        # A list on the same terminal would run through them.
        return _may_show_bars(session) and not (self.listed and session.out.is_terminal)

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
        if report.refused is None and report.removed:
            yield f"The pass itself: {session.command(_words('once', report.target, self.scope))}"
        if not self.listed:
            every = session.command(_words("plan", report.target, self.scope, "--list"))
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
            with watched(session.err, bars=_may_show_bars(session)) as progress:
                order = Order(
                    "once",
                    over_limits=self.over_limits,
                    keep_records=session.keep_records,
                    progress=progress,
                    stop=stop,
                )
                report = await target.run_pass(order)
            passes.append(report.as_json())
            if self.as_json or session.options.quiet:
                self._tell(session, report)
            else:
                left = await _left_in_quarantine(target)
                show_pass(session.out, report, self._way_on(session, report, config, left))
            return report.exit_status

        try:
            return session.run(session.for_each(targets, errand, stop), stop)
        finally:
            if self.as_json:
                session.document({"passes": passes})

    @staticmethod
    def _tell(session: Session, report: PassReport) -> None:
        """Tell on standard error what is no success, where no account is shown."""
        if report.refused is not None:
            session.error(
                f"refused by {report.refused.limit}: found {report.refused.value}, "
                f"allowed {report.refused.allowed}; {report.refused.hint}",
                about=report.target,
            )
        if report.state == "interrupted":
            why = report.error or "asked to stop"
            session.error(f"interrupted: {why}; the next pass goes on from there", about=report.target)
        if report.failed:
            reasons = ", ".join(f"{reason} {items}" for reason, items in sorted(report.failed.items()))
            session.error(
                f"failed: {reasons}; the log names each, and the next pass tries again", about=report.target
            )

    def _way_on(
        self, session: Session, report: PassReport, config: TargetConfig, left: QuarantineSummary | None
    ) -> Iterator[str]:
        if left is not None and (left.items or left.blobs):
            until = f", until {time_in_words(left.until)}" if left.until else ""
            yield f"In quarantine: {quarantine_in_words(left)}{until}."
            yield (
                "What has been there for less than its grace and settle is not purged by this run; "
                "the daemon, or a later pass, does it."
            )
        if isinstance(config, MediaTarget) and report.removed and report.pass_id is not None:
            yield f"For {age_in_words(config.grace)} one command brings all of it back:"
            if self.scope.dendrite_config is None:
                words = f"quarantine restore {report.target} --pass {report.pass_id}"
                yield f"  {session.command(words)}"
            else:
                yield (
                    f"  `retentiond --config FILE quarantine restore --pass {report.pass_id}`, with a "
                    "configuration of the same store (`retentiond example-config` prints one)"
                )


async def _left_in_quarantine(target: Target) -> QuarantineSummary | None:
    """Return what lies in quarantine now; the pass is done, so nothing hangs on being able to tell."""
    try:
        return (await target.status()).quarantine
    except RetentiondError:
        return None


def _may_show_bars(session: Session) -> bool:
    return session.err.can_redraw and not session.options.quiet


def _words(command: str, target: str, scope: Scope, *flags: str) -> str:
    words = [command]
    if scope.dendrite_config is None:
        words.append(target)
    else:
        words += ["--dendrite-config", str(scope.dendrite_config)]
        words += [] if scope.days is None else ["--days", str(scope.days)]
        words += ["--local"] if scope.local else []
    return " ".join([*words, *flags])
