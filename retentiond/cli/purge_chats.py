"""`purge-chats`: one account's chats up to a date, in every store that holds them."""

from collections.abc import Iterator
from dataclasses import dataclass

from retentiond.adapters.log_entries import redact
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Session
from retentiond.config.chats import ChatTarget
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import ErasesVisitors, PurgesChats
from retentiond.engine.purge import Erasure, PurgeRequest
from retentiond.engine.target import STOPPED, PassOptions, Stop, Target
from retentiond.model.errors import RefusedError, RetentiondError, UnreachableError, UsageError
from retentiond.model.purge import PurgeReport
from retentiond.model.text import printable
from retentiond.terminal.progress import watched
from retentiond.terminal.purge import show_purge
from retentiond.terminal.words import count_in_words

_NAME_LIMIT = 120


@dataclass(frozen=True, slots=True)
class PurgeChats:
    """Purge what was wished for, in the target that has the account."""

    wish: PurgeRequest | Erasure
    target: str | None = None
    dry_run: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Do it, or say what would go."""
        name, config = self._find(session)
        stop = Stop()
        reports: list[PurgeReport] = []

        async def errand(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                order = PassOptions(
                    "purge-chats", keep_records=session.keep_records, progress=progress, stop=stop
                )
                report = await self._purge(target, order)
            reports.append(report)
            if self.as_json or session.options.quiet:
                _tell(session, report)
            else:
                show_purge(session.out, report, self._way_on(session, report), session.translate)
            return report.exit_status

        def failed(_name: str, error: RetentiondError) -> None:
            if not isinstance(error, UsageError):
                reports.append(self._ended_by(error))

        status = session.run(session.for_each({name: config}, errand, stop, failed), stop)
        if self.as_json and reports:
            session.document(reports[0].as_json())
        return status

    async def _purge(self, target: Target, order: PassOptions) -> PurgeReport:
        wish = self.wish
        if isinstance(wish, PurgeRequest) and isinstance(target, PurgesChats):
            return await target.purge_chats(wish, order, dry_run=self.dry_run)
        if isinstance(wish, Erasure) and isinstance(target, ErasesVisitors):
            return await target.erase(wish, order, dry_run=self.dry_run)
        raise UsageError(f"{target.name} has no chats; name another --target")

    def _ended_by(self, error: RetentiondError) -> PurgeReport:
        """Return the report of a purge that did not come to one of its own."""
        to_date = self.wish.to_date if isinstance(self.wish, PurgeRequest) else None
        report = PurgeReport(self.wish.account, to_date, self.dry_run, error=redact(str(error)))
        report.state = "interrupted" if isinstance(error, UnreachableError) else "refused"
        if isinstance(error, RefusedError):
            report.refused = error.refusal
        return report

    def _find(self, session: Session) -> tuple[str, ChatTarget]:
        """Return the target that has the account; raise UsageError where there is none, or more than one."""
        targets = session.load().targets
        chats = {name: config for name, config in targets.items() if isinstance(config, ChatTarget)}
        if self.target is not None and self.target not in chats:
            what = "no target of chats" if self.target in targets else "no target"
            known = ", ".join(chats) or "none; add one of kind chat_database"
            raise UsageError(f"`{printable(self.target, _NAME_LIMIT)}` is {what}; there are: {known}")
        looked_at = chats if self.target is None else {self.target: chats[self.target]}
        having = {name: config for name, config in looked_at.items() if self.wish.account in config.accounts}
        account = printable(self.wish.account, _NAME_LIMIT)
        if not having:
            known = ", ".join(sorted({one for config in looked_at.values() for one in config.accounts}))
            raise UsageError(
                f"no target has the account `{account}`; there are: {printable(known, 1000) or 'none'}"
            )
        if len(having) > 1:
            raise UsageError(
                f"several targets have the account `{account}`; say --target, one of: {', '.join(having)}"
            )
        return having.popitem()

    def _way_on(self, session: Session, report: PurgeReport) -> Iterator[str]:
        if self.dry_run:
            yield "Nothing was changed."
        elif report.state == "interrupted" or report.failed:
            yield "Each deleted chat is deleted as a whole; run the same command again to continue."
        if (
            report.kept["has_file_messages"]
            and isinstance(self.wish, PurgeRequest)
            and not self.wish.file_messages
        ):
            yield (
                "Chats with files keep their row and those messages; "
                f"{session.command('purge-chats … --delete-file-messages')} takes them, too."
            )


def _tell(session: Session, report: PurgeReport) -> None:
    """Tell on standard error what is no success, where no account is shown."""
    refusals = [
        ("", report.refused),
        *(
            (f"{name}: ", store.refused)
            for name, store in report.stores.items()
            if store.refused != report.refused
        ),
    ]
    for prefix, refused in refusals:
        if refused is not None:
            session.error(f"{prefix}{refused}", about=report.account)
    for name, store in report.stores.items():
        if store.error:
            session.error(f"{name}: {store.error}", about=report.account)
    if report.state == "interrupted":
        why = report.error or STOPPED
        left = f"not reached: {count_in_words(report.not_reached, 'chat')}; " if report.not_reached else ""
        session.error(
            f"interrupted: {why}; {left}run the same command again to continue", about=report.account
        )
    elif report.error:
        session.error(report.error, about=report.account)
