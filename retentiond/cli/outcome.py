"""What became of a pass or a delete: its account, what is wrong, and the way back."""

from collections.abc import Iterator
from shlex import quote

from retentiond.cli.session import Scope, Session
from retentiond.config.media import Limits, MediaTarget
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import STOPPED, Target
from retentiond.model.errors import RetentiondError
from retentiond.model.report import PassReport, QuarantineSummary
from retentiond.terminal.account import not_reached_in_words, quarantine_in_words, show_pass
from retentiond.terminal.words import age_in_words, time_in_words


async def tell_outcome(
    session: Session, target: Target, config: TargetConfig, report: PassReport, scope: Scope, *, shown: bool
) -> None:
    """Show the account where it is `shown`; else, and with --quiet, tell only what is no success."""
    if shown and not session.options.quiet:
        left = await _left_in_quarantine(target)
        show_pass(session.out, report, _way_on(session, report, config, left, scope))
    else:
        tell_problems(session, report)
        for line in over_limit(session, report, scope):
            session.note(line)


def tell_problems(session: Session, report: PassReport) -> None:
    """Tell on standard error what is no success."""
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
    """Tell what goes over a limit where the hint's own command would look for a configuration of ours."""
    if (
        scope.dendrite_config is not None
        and report.refused is not None
        and report.refused.limit in Limits.model_fields
    ):
        yield f"If the plan is right: {session.command(pass_words('once', report.target, scope, '--yes'))}"


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
    """Tell whether bars have a place on standard error; a list on the same terminal would run through them."""
    return session.err.can_redraw and not session.options.quiet and not (listed and session.out.is_terminal)


def _way_on(
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
            "What has been there for less than its grace and settle is not purged by this run; "
            "the daemon, or a later pass, does it."
        )
    if isinstance(config, MediaTarget) and report.removed and report.pass_id is not None:
        yield f"For {age_in_words(config.grace)} one command brings all of it back:"
        if scope.dendrite_config is None:
            words = f"quarantine restore {report.target} --pass {report.pass_id}"
            yield f"  {session.command(words)}"
        else:
            yield (
                f"  `retentiond --config FILE quarantine restore --pass {report.pass_id}`, with a "
                "configuration of the same store (`retentiond example-config` prints one)"
            )


async def _left_in_quarantine(target: Target) -> QuarantineSummary | None:
    """Return what lies in quarantine now; the work is done, so nothing hangs on being able to tell."""
    try:
        return (await target.status()).quarantine
    except RetentiondError:
        return None
