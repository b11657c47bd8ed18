"""`purge-chats`: delete the chats of an account up to a date, or of one visitor, in every store."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from retentiond.adapters.log_entries import redact
from retentiond.cli.hold_words import read_day
from retentiond.cli.options import Json, Wait, commands, example
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Session, Work, patience_of
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import ErasesVisitors, PurgesChats
from retentiond.engine.target import PATIENCE, STOPPED, Erasure, PassOptions, PurgeRequest, Stop
from retentiond.model.errors import RefusedError, RetentiondError, UnreachableError, UsageError
from retentiond.model.purge import PurgeReport
from retentiond.model.text import printable
from retentiond.targets.registry import has
from retentiond.terminal.progress import watched
from retentiond.terminal.purge import show_purge
from retentiond.terminal.words import count_in_words

app = commands()


@app.command(
    name="purge-chats",
    epilog=example(
        "retentiond purge-chats --account testcom --to-date 2023-08-21 --dry-run",
        "retentiond purge-chats --account testcom --to-date 2023-08-21 --delete-file-messages",
        "retentiond purge-chats --account testcom --visitor 4711 --dry-run",
        "retentiond purge-chats --account testcom --visitor 4711 --even-under-floor --reason 'request 2027-001'",
    ),
)
def purge_chats(
    account: Annotated[str, typer.Option(metavar="NAME", help="The account, as the configuration names it.")],
    to_date: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="Delete chats from before this day."),
    ] = None,
    visitor: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Erase the chats of this visitor instead, with their files, in every store; chats that the floor protects are kept.",
        ),
    ] = None,
    even_under_floor: Annotated[
        bool,
        typer.Option(
            "--even-under-floor", help="With --visitor: also chats that the floor protects; needs --reason."
        ),
    ] = False,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="With --visitor: the reason, for the record.")
    ] = "",
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="The target, if several have this account.")
    ] = None,
    delete_file_messages: Annotated[
        bool,
        typer.Option(
            "--delete-file-messages",
            help="Also delete messages with files; otherwise they and the rows of their chats are kept. The files "
            "themselves, in a file store, are not deleted.",
        ),
    ] = False,
    purge_stats: Annotated[
        bool,
        typer.Option(
            "--purge-stats", help="Also delete the statistics of the days before that date, and their log."
        ),
    ] = False,
    purge_clickhouse: Annotated[
        bool, typer.Option("--purge-clickhouse", help="Also delete the statistics in ClickHouse.")
    ] = False,
    purge_elastic: Annotated[
        bool,
        typer.Option("--purge-elastic", help="Also delete the documents in Elasticsearch or OpenSearch."),
    ] = False,
    purge_orphans: Annotated[
        bool,
        typer.Option(
            "--purge-orphans",
            help="Also delete rows whose chat is missing from the database, if their own dates are older.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted; change nothing.")
    ] = False,
    wait: Wait = None,
    as_json: Json = False,
) -> Work:
    """Delete an account's chats up to a date.

    A chat is deleted as a whole, if it is over and all of it is older than the date. A date that the floor protects is
    refused. Deleted chats cannot be restored.

    With --visitor the chats of one visitor are deleted, whatever their date, and a record proves it; a hold prevents it.
    """
    if visitor is not None:
        if to_date is not None or purge_stats:
            raise UsageError("--to-date and --purge-stats cannot be combined with --visitor; leave them out")
        if purge_orphans:
            # The visitor of a missing chat is unknown.
            raise UsageError("--purge-orphans cannot be combined with --visitor; leave it out")
        return PurgeChats(
            Erasure(account, visitor, even_under_floor, reason), target, dry_run, as_json, patience_of(wait)
        )
    if even_under_floor or reason:
        raise UsageError("--even-under-floor and --reason are only for --visitor; leave them out")
    if to_date is None:
        raise UsageError("name --to-date, the first day that stays, or --visitor")
    flags = {"clickhouse": purge_clickhouse, "elasticsearch": purge_elastic}
    stores = tuple(name for name, requested in flags.items() if requested)
    request = PurgeRequest(
        account,
        read_day(to_date),
        file_messages=delete_file_messages,
        stats=purge_stats,
        stores=stores,
        orphans=purge_orphans,
    )
    return PurgeChats(request, target, dry_run, as_json, patience_of(wait))


_NAME_LIMIT = 120


@dataclass(frozen=True, slots=True)
class PurgeChats:
    """Carry out the request in the target that has the account."""

    request: PurgeRequest | Erasure
    target: str | None = None
    dry_run: bool = False
    as_json: bool = False
    patience: float = PATIENCE

    def __call__(self, session: Session) -> int:
        """Purge, or count in a dry run."""
        name, config = self._find(session)
        stop = Stop()
        reports: list[PurgeReport] = []

        async def purge(target: Any, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                options = PassOptions(
                    "purge-chats",
                    patience=self.patience,
                    keep_records=session.keep_records,
                    progress=progress,
                    stop=stop,
                )
                report: PurgeReport = await (
                    target.erase(self.request, options, dry_run=self.dry_run)
                    if isinstance(self.request, Erasure)
                    else target.purge_chats(self.request, options, dry_run=self.dry_run)
                )
            reports.append(report)
            if self.as_json or session.options.quiet:
                _tell(session, report)
            else:
                show_purge(session.out, report, self._next_steps(session, report), session.translate)
            return report.exit_status

        def failed(_name: str, error: RetentiondError) -> None:
            if not isinstance(error, UsageError):
                reports.append(self._ended_by(error))

        status = session.run(session.for_each({name: config}, purge, stop, failed), stop)
        if self.as_json and reports:
            session.document(reports[0].as_json())
        return status

    def _ended_by(self, error: RetentiondError) -> PurgeReport:
        """Return the report of a purge that did not come to one of its own."""
        to_date = self.request.to_date if isinstance(self.request, PurgeRequest) else None
        report = PurgeReport(self.request.account, to_date, self.dry_run, error=redact(str(error)))
        report.state = "interrupted" if isinstance(error, UnreachableError) else "refused"
        if isinstance(error, RefusedError):
            report.refused = error.refusal
        return report

    def _find(self, session: Session) -> tuple[str, Any]:
        """Return the target that has the account; raise UsageError unless exactly one has it."""
        targets = session.load().targets
        capability = ErasesVisitors if isinstance(self.request, Erasure) else PurgesChats
        chats: dict[str, Any] = {name: config for name, config in targets.items() if has(config, capability)}
        if self.target is not None and self.target not in chats:
            what = "no target of chats" if self.target in targets else "no target"
            known = ", ".join(chats) or "none; add one of kind chat_database"
            raise UsageError(f"`{printable(self.target, _NAME_LIMIT)}` is {what}; there are: {known}")
        looked_at = chats if self.target is None else {self.target: chats[self.target]}
        having = {
            name: config for name, config in looked_at.items() if self.request.account in config.accounts
        }
        account = printable(self.request.account, _NAME_LIMIT)
        if not having:
            known = ", ".join(sorted({one for config in looked_at.values() for one in config.accounts}))
            raise UsageError(
                f"no target has the account `{account}`; there are: {printable(known, 1000) or 'none'}"
            )
        if len(having) > 1:
            raise UsageError(
                f"several targets have the account `{account}`; add --target, one of: {', '.join(having)}"
            )
        return having.popitem()

    def _next_steps(self, session: Session, report: PurgeReport) -> Iterator[str]:
        if self.dry_run:
            yield "Nothing was changed."
        elif report.state == "interrupted" or report.failed:
            yield "Each deleted chat is deleted as a whole; run the same command again to continue."
        if (
            report.kept["has_file_messages"]
            and isinstance(self.request, PurgeRequest)
            and not self.request.file_messages
        ):
            yield (
                "Chats with files keep their row and those messages; "
                f"{session.command('purge-chats … --delete-file-messages')} deletes them, too."
            )


def _tell(session: Session, report: PurgeReport) -> None:
    """Print refusals and failures to standard error, where no account is shown."""
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
