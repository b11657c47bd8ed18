"""`audit`: compare the database with the files on disk, and repair the differences that are safe to repair."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from retentiond.cli.listing import write_finding
from retentiond.cli.options import Json, Targets, Wait, commands, example
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Scope, Session, Work, patience_of
from retentiond.config.schema import TargetConfig
from retentiond.config.units import parse_size
from retentiond.engine.capabilities import HasAudit
from retentiond.engine.target import PATIENCE, READ_RATE, AuditOptions, Stop
from retentiond.model.audit import AuditReport, Finding
from retentiond.model.errors import FAILED, UsageError
from retentiond.terminal.audit import show_audit
from retentiond.terminal.progress import watched
from retentiond.terminal.words import age_in_words, count_in_words

app = commands()


@app.command(
    epilog=example(
        "retentiond audit",
        "retentiond audit media --list --json",
        "retentiond audit media --verify-content --repair",
    ),
)
def audit(
    targets: Targets = None,
    listed: Annotated[bool, typer.Option("--list", help="List each finding, one per line.")] = False,
    as_json: Json = False,
    verify_content: Annotated[
        bool, typer.Option("--verify-content", help="Read every file, and compare its SHA-256 with its name.")
    ] = False,
    read_rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="SIZE",
            help="With --verify-content: bytes read per second at most; default: 50MiB.",
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Repair what is safe to repair; removed items go to quarantine first."),
    ] = False,
    drop_damaged_remote: Annotated[
        bool,
        typer.Option(
            "--drop-damaged-remote",
            help="With --repair: remove remote media with a damaged file, so that dendrite fetches them again.",
        ),
    ] = False,
    fail_on_findings: Annotated[
        bool, typer.Option("--fail-on-findings", help="Exit 1 if findings remain.")
    ] = False,
    wait: Wait = None,
) -> Work:
    """Compare database and disk; report and repair differences.

    An audit finds rows without files, files without rows, and sizes that differ. Without --repair it changes nothing.
    Without TARGET it covers all targets.
    """
    if read_rate is not None and not verify_content:
        raise UsageError("--rate needs --verify-content")
    rate = READ_RATE if read_rate is None else parse_size(read_rate)
    if rate < 1:
        raise UsageError("--rate must be a size above 0, such as 50MiB")
    return Audit(
        Scope(tuple(targets or ())),
        listed,
        as_json,
        verify_content,
        rate,
        repair,
        drop_damaged_remote,
        fail_on_findings,
        patience_of(wait),
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """Audit one target after another, and repair them with `repair`."""

    scope: Scope
    listed: bool = False
    as_json: bool = False
    verify_content: bool = False
    read_rate: int = READ_RATE
    repair: bool = False
    drop_damaged_remote: bool = False
    fail_on_findings: bool = False
    patience: float = PATIENCE

    def __call__(self, session: Session) -> int:
        """Audit, and print the result."""
        if self.drop_damaged_remote and not self.repair:
            raise UsageError("--drop-damaged-remote needs --repair")
        targets = session.capable(self.scope, HasAudit, "nothing to audit; name a target of media or rooms")
        several = len(targets) > 1
        audits: list[dict[str, Any]] = []
        stop = Stop()

        async def on_target(target: HasAudit, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session, listed=self.listed)) as progress:
                report = await target.audit(
                    AuditOptions(
                        "audit --repair" if self.repair else "audit",
                        listen=self._listener(session, target.name, several=several),
                        verify_content=self.verify_content,
                        read_rate=self.read_rate,
                        repair=self.repair,
                        drop_damaged_remote=self.drop_damaged_remote,
                        patience=self.patience,
                        progress=progress,
                        stop=stop,
                    )
                )
            audits.append(report.as_json())
            self._show(session, report, targets[target.name])
            return self._status(report)

        try:
            return session.run(session.for_each(targets, on_target, stop), stop)
        finally:
            if self.as_json and not self.listed:
                session.document({"audits": audits})

    def _status(self, report: AuditReport) -> int:
        if report.exit_status:
            return report.exit_status
        return FAILED if self.fail_on_findings and report.standing_items else 0

    def _listener(self, session: Session, target: str, *, several: bool) -> Callable[[Finding], None] | None:
        if not self.listed:
            return None
        return lambda finding: write_finding(
            session.out, target, finding, as_json=self.as_json, with_target=several
        )

    def _show(self, session: Session, report: AuditReport, config: TargetConfig) -> None:
        if self.as_json or session.options.quiet:
            self._tell(session, report)
            return
        console = session.err if self.listed else session.out
        show_audit(console, report, self._next_steps(session, report, config))

    @staticmethod
    def _tell(session: Session, report: AuditReport) -> None:
        """Print failures to standard error where no summary is printed."""
        if report.refused is not None:
            session.error(str(report.refused), about=report.target)
        if report.error is not None:
            left = (
                f"not reached: {count_in_words(report.not_reached, 'finding')}; "
                if report.not_reached
                else ""
            )
            session.error(f"cut short: {report.error}; {left}run again to continue", about=report.target)
        if report.failed:
            reasons = ", ".join(f"{reason} {items}" for reason, items in sorted(report.failed.items()))
            session.error(f"failed: {reasons}; `retentiond -v COMMAND` lists each", about=report.target)

    def _next_steps(self, session: Session, report: AuditReport, config: TargetConfig) -> Iterator[str]:
        if not report.findings:
            return
        if not self.listed:
            yield f"List each: {session.command(f'audit {report.target} --list')}"
        # What cannot be restored is not repaired, either.
        if config.restorable_for is None:
            return
        if not self.repair:
            yield f"Repair what is safe to repair: {session.command(f'audit {report.target} --repair')}"
        elif report.repaired and report.pass_id is not None:
            words = f"quarantine restore {report.target} --pass {report.pass_id}"
            yield f"For {age_in_words(config.restorable_for)} one command restores what was removed:"
            yield f"  {session.command(words)}"
