"""The result of a pass or a delete: summary, failures, and the command that restores."""

from collections.abc import Iterator
from shlex import quote

from retentiond.cli.session import Scope, Session
from retentiond.config.media import Limits
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import STOPPED, Target
from retentiond.model.errors import RetentiondError
from retentiond.model.report import PassReport, QuarantineSummary
from retentiond.terminal.account import not_reached_in_words, quarantine_in_words, show_pass
from retentiond.terminal.words import age_in_words, time_in_words


async def print_outcome(
    session: Session, target: Target, config: TargetConfig, report: PassReport, scope: Scope, *, shown: bool
) -> None:
    """Print the summary if `shown`; otherwise, and with --quiet, print failures only."""
    if shown and not session.options.quiet:
        left = await _left_in_quarantine(target)
        show_pass(session.out, report, _next_steps(session, report, config, left, scope), session.translate)
    else:
        print_problems(session, report)
        for line in over_limit(session, report, scope):
            session.note(line)


def print_problems(session: Session, report: PassReport) -> None:
    """Print failures to standard error."""
    if report.refused is not None:
        session.error(str(report.refused), about=report.target)
    if report.state == "interrupted":
        why = report.error or STOPPED
        session.error(f"interrupted: {why}; {not_reached_in_words(report)}", about=report.target)
    if report.failed:
        reasons = ", ".join(f"{reason} {items}" for reason, items in sorted(report.failed.items()))
        session.error(
            f"failed: {reasons}; the next pass tries again; `retentiond -v COMMAND` lists each",
            about=report.target,
        )


def over_limit(session: Session, report: PassReport, scope: Scope) -> Iterator[str]:
    """Yield the command that overrides a limit, for a run without a configuration of retentiond."""
    if (
        scope.dendrite_config is not None
        and report.refused is not None
        and report.refused.limit in Limits.model_fields
    ):
        yield f"If the plan is correct: {session.command(pass_words('once', report.target, scope, '--yes'))}"


def pass_words(command: str, target: str, scope: Scope, *flags: str) -> str:
    """Return the words of `plan` or `once` for the same scope."""
    words = [command]
    if scope.dendrite_config is None:
        words.append(target)
    else:
        words += ["--dendrite-config", quote(str(scope.dendrite_config))]
        words += [] if scope.days is None else ["--days", str(scope.days)]
        words += ["--local"] if scope.local else []
    return " ".join([*words, *flags])


def may_show_bars(session: Session, *, listed: bool = False) -> bool:
    """Return whether progress bars are shown; a list on the same terminal would be mixed with them."""
    return session.err.can_redraw and not session.options.quiet and not (listed and session.out.is_terminal)


def _next_steps(
    session: Session,
    report: PassReport,
    config: TargetConfig,
    left: QuarantineSummary | None,
    scope: Scope,
) -> Iterator[str]:
    yield from over_limit(session, report, scope)
    if left is not None and (left.items or left.blobs):
        until = f", until {time_in_words(left.until)}" if left.until else ""
        yield f"In quarantine: {quarantine_in_words(left)}{until}."
        yield (
            "Items younger than their grace and settle are not purged by this run; "
            "the daemon, or a later pass, purges them."
        )
    if config.restorable_for is not None and report.removed and report.pass_id is not None:
        yield f"For {age_in_words(config.restorable_for)} one command restores all of it:"
        if scope.dendrite_config is None:
            words = f"quarantine restore {report.target} --pass {report.pass_id}"
            yield f"  {session.command(words)}"
        else:
            yield (
                f"  `retentiond --config FILE quarantine restore --pass {report.pass_id}`, with a "
                "configuration of the same store (`retentiond example-config` prints one)"
            )


async def _left_in_quarantine(target: Target) -> QuarantineSummary | None:
    """Return the contents of the quarantine now; None if it cannot be read, which does not fail the finished work."""
    try:
        return (await target.status()).quarantine
    except RetentiondError:
        return None
