"""`quarantine purge`: end the grace of the entries in quarantine, print the time of their purge, and cancel it."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from retentiond.cli.options import Json, Targets, commands, example
from retentiond.cli.session import NO_QUARANTINE, Scope, Session, Work, agreed, refuse_unasked
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import HasQuarantine
from retentiond.model.errors import FAILED, RefusedError, UsageError
from retentiond.model.report import CancelledPurge, QuarantineSummary, SweepReport, TargetStatus
from retentiond.terminal.account import quarantine_in_words
from retentiond.terminal.words import count_in_words, size_in_words, time_in_words

app = commands()


@app.command(
    epilog=example("retentiond quarantine purge media --yes", "retentiond quarantine purge media --cancel"),
)
def purge(
    targets: Targets = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    cancel: Annotated[
        bool,
        typer.Option("--cancel", help="Cancel a purge: items that are not purged yet get their grace back."),
    ] = False,
    as_json: Json = False,
) -> Work:
    """Purge the quarantine now; purged items cannot be restored.

    The command ends the grace of everything in quarantine, but not the settle: newer files are purged by the daemon, or
    by the next `once`, when their settle is over. With --cancel, items that are not purged yet get their grace back.
    The command shows what is purged when, and asks for confirmation. Without TARGET it covers all targets.
    """
    if cancel and yes:
        raise UsageError("--cancel and --yes exclude each other; leave --yes out")
    if cancel:
        return CancelPurge(Scope(tuple(targets or ())), as_json)
    return Purge(Scope(tuple(targets or ())), yes, as_json)


_NOTHING: QuarantineSummary = QuarantineSummary(0, {}, None)


@dataclass(frozen=True, slots=True)
class Purge:
    """End the grace of the entries in quarantine; settle, holds and protections stay in force."""

    scope: Scope
    yes: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Ask unless `yes`, purge the settled entries, and print when the rest is purged."""
        targets = session.capable(self.scope, HasQuarantine, NO_QUARANTINE)
        if targets and not self.yes and not _agreed(session, targets):
            session.note("nothing was purged")
            targets = {}
        purges: list[dict[str, Any]] = []

        async def on_target(target: HasQuarantine, _config: TargetConfig) -> int:
            report = await target.end_grace()
            status = await target.status()
            left = status.quarantine or _NOTHING
            purges.append({"target": target.name} | asdict(report) | {"pending": left.pending()})
            if report.refused is not None:
                session.error(str(report.refused), about=target.name)
            elif not self.as_json:
                _show_sweep(session, target.name, report)
            if (left.items or left.purgeable) and not self.as_json:
                _show_pending(session, status, left)
            if report.refused is not None:
                return RefusedError.exit_status
            return FAILED if report.failed or report.lost else 0

        try:
            return session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json:
                session.document({"purges": purges})


@dataclass(frozen=True, slots=True)
class CancelPurge:
    """Restore the grace of items that are not purged yet."""

    scope: Scope
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Cancel in one target after another."""
        cancelled: list[dict[str, Any]] = []

        async def on_target(target: HasQuarantine, _config: TargetConfig) -> int:
            account = await target.cancel_purge()
            cancelled.append({"target": target.name} | account.as_json())
            if not self.as_json:
                _show_cancelled(session, target.name, account)
            return FAILED if account.busy else 0

        try:
            return session.run(
                session.for_each(session.capable(self.scope, HasQuarantine, NO_QUARANTINE), on_target)
            )
        finally:
            if self.as_json:
                session.document({"cancelled": cancelled})


def _agreed(session: Session, targets: Mapping[str, TargetConfig]) -> bool:
    """Show the entries that would be purged and the time, and ask; raise UsageError without a terminal."""

    async def look(target: HasQuarantine, _config: TargetConfig) -> int:
        status = await target.status()
        summary = status.quarantine or _NOTHING
        words = quarantine_in_words(summary) if status.quarantine else "nothing is in quarantine"
        session.err.put(f"{target.name}: {words}\n")
        if summary.items or summary.purgeable:
            session.err.put(f"{target.name}: {_plan_in_words(session, status, summary)}\n")
        return 0

    # A target that fails has printed its error; the purge tries it again, and sets the exit status.
    session.run(session.for_each(targets, look))
    refuse_unasked(session, "purged items cannot be restored")
    return agreed(session, f"Purge it for good, of {', '.join(targets)}?")


def _plan_in_words(session: Session, status: TargetStatus, summary: QuarantineSummary) -> str:
    """Say when a purge that begins now takes it: `purged at once`, or from when on, and by which program."""
    now = datetime.now(UTC)
    if summary.last_settled is None or summary.last_settled <= now:
        return "to be purged at once"
    late = summary.first_settled if summary.first_settled and summary.first_settled > now else None
    who = _purger(session, status)
    if late is not None:
        return f"to be purged from {time_in_words(late)} on, when its settle is over, by {who}"
    return (
        f"to be purged at once, but for newer files: those by {time_in_words(summary.last_settled)}, when their settle is over, "
        f"by {who}"
    )


def _show_pending(session: Session, status: TargetStatus, left: QuarantineSummary) -> None:
    if session.options.quiet:
        return
    since = f" from {time_in_words(left.first_settled)} on" if left.first_settled else ""
    session.line(
        f"{status.target}: {count_in_words(left.items, 'item')}, {size_in_words(left.purgeable)}: their grace is ended, and "
        f"they will be purged{since}, by {_purger(session, status)}"
    )
    cancel = session.command(f"quarantine purge {status.target} --cancel")
    restore = session.command(f"quarantine restore {status.target} --all")
    session.line(
        f"{status.target}: until then {cancel} gives them their grace back, and {restore} brings them back"
    )


def _purger(session: Session, status: TargetStatus) -> str:
    if status.daemon is not None:
        return "the daemon"
    return f"the next {session.command(f'once {status.target}')} (no daemon is running)"


def _show_cancelled(session: Session, target: str, account: CancelledPurge) -> None:
    if account.items and not session.options.quiet:
        until = f", the last until {time_in_words(account.until)}" if account.until else ""
        session.line(f"{target}: {count_in_words(account.items, 'item')} with their grace back{until}")
    elif not account.busy and not session.options.quiet:
        session.line(f"{target}: no item whose grace was ended by hand is in quarantine")
    if account.busy:
        session.error(
            f"the purge of {count_in_words(account.busy, 'item')} has begun and cannot be cancelled; "
            "`retentiond quarantine list` shows what is left",
            about=target,
        )


def _show_sweep(session: Session, target: str, report: SweepReport) -> None:
    if not session.options.quiet:
        session.line(
            f"{target}: {count_in_words(report.purged, 'file')} purged, {size_in_words(report.purged_bytes)}; "
            f"{report.restored:,} restored because held, protected or referenced again, "
            f"{report.returned:,} because in use again"
        )
    if report.failed:
        session.error(f"{count_in_words(report.failed, 'file')} failed; the log names each", about=target)
    if report.lost:
        session.error(f"{count_in_words(report.lost, 'file')} lost; the log names each", about=target)
    if report.unknown:
        session.note(
            f"{target}: {count_in_words(report.unknown, 'file')} in quarantine that the ledger does not know; kept"
        )
