"""`audit`: the database against the disk, both ways; and what a repair mends."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from retentiond.cli.listing import write_finding
from retentiond.cli.media import media_targets
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Scope, Session
from retentiond.config.media import MediaTarget
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import READ_RATE, AuditOrder, Stop, Target
from retentiond.model.audit import AuditReport, Finding
from retentiond.model.errors import UsageError
from retentiond.model.outcome import FAILED
from retentiond.terminal.audit import show_audit
from retentiond.terminal.progress import watched
from retentiond.terminal.words import age_in_words, count_in_words


@dataclass(frozen=True, slots=True)
class Audit:
    """Audit one target after another, and repair them where that is asked for."""

    scope: Scope
    listed: bool = False
    as_json: bool = False
    verify_content: bool = False
    read_rate: int = READ_RATE
    repair: bool = False
    drop_damaged_remote: bool = False
    fail_on_findings: bool = False

    def __call__(self, session: Session) -> int:
        """Audit, and tell."""
        if self.drop_damaged_remote and not self.repair:
            raise UsageError("--drop-damaged-remote changes the store, and goes with --repair; add it")
        targets = media_targets(session, self.scope, "chats have no files to audit: name another TARGET")
        several = len(targets) > 1
        audits: list[dict[str, Any]] = []
        stop = Stop()

        async def errand(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session, listed=self.listed)) as progress:
                report = await target.audit(
                    AuditOrder(
                        "audit --repair" if self.repair else "audit",
                        listen=self._listener(session, target.name, several=several),
                        verify_content=self.verify_content,
                        read_rate=self.read_rate,
                        repair=self.repair,
                        drop_damaged_remote=self.drop_damaged_remote,
                        progress=progress,
                        stop=stop,
                    )
                )
            audits.append(report.as_json())
            self._show(session, report, targets[target.name])
            return self._status(report)

        try:
            return session.run(session.for_each(targets, errand, stop), stop)
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

    def _show(self, session: Session, report: AuditReport, config: MediaTarget) -> None:
        if self.as_json or session.options.quiet:
            self._tell(session, report)
            return
        console = session.err if self.listed else session.out
        show_audit(console, report, self._way_on(session, report, config))

    @staticmethod
    def _tell(session: Session, report: AuditReport) -> None:
        """Tell on standard error what is no success, where no account is shown."""
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

    def _way_on(self, session: Session, report: AuditReport, config: MediaTarget) -> Iterator[str]:
        if not report.findings:
            return
        if not self.listed:
            yield f"Each of them: {session.command(f'audit {report.target} --list')}"
        if not self.repair:
            yield f"Mend what is safe to mend: {session.command(f'audit {report.target} --repair')}"
        elif report.repaired and report.pass_id is not None:
            words = f"quarantine restore {report.target} --pass {report.pass_id}"
            yield f"For {age_in_words(config.grace)} one command brings back what was taken:"
            yield f"  {session.command(words)}"
