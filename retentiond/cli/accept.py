"""`quarantine accept`: continue where ledger and disk differ; `quarantine forget`: end the mark of a restore."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from retentiond.cli.options import Json, Targets, commands, example
from retentiond.cli.session import NO_QUARANTINE, Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import AcceptsStores, HasQuarantine
from retentiond.model.acceptance import Acceptance, Known
from retentiond.model.errors import FAILED, UsageError
from retentiond.model.media import parse_media_uri
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words

app = commands()


@app.command(
    epilog=example(
        "retentiond quarantine forget --media mxc://example.org/abc",
        "retentiond quarantine forget media --all",
    ),
)
def forget(
    targets: Targets = None,
    media: Annotated[
        list[str] | None,
        typer.Option(metavar="mxc://SERVER/ID", help="This media item; may be given several times."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that was restored.")] = False,
    as_json: Json = False,
) -> Work:
    """End the protection of restored items.

    From then on the policies decide again. Use --media or --all.
    """
    return Forget(Scope(tuple(targets or ())), tuple(media or ()), everything, as_json)


@app.command(
    epilog=example("retentiond quarantine accept media", "retentiond quarantine accept media --yes"),
)
def accept(
    target: Annotated[str, typer.Argument(metavar="TARGET", hidden=True)],
    yes: Annotated[bool, typer.Option("--yes", help="Accept the state, and continue.")] = False,
    as_json: Json = False,
) -> Work:
    """Accept a restored database, a replaced disk, or a clock change.

    The command compares ledger, disk and database. With --yes it restores files that rows refer to, records the other
    files of the quarantine in the ledger, where they stay until they are purged by hand, records missing files as lost,
    and accepts the clock.
    """
    return Accept(target, yes, as_json)


_TEXT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Accept:
    """Compare ledger and disk; with `yes` continue from there."""

    target: str
    yes: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Ask the one target."""
        targets = session.targets(Scope((self.target,)))
        accepts: list[dict[str, Any]] = []

        async def on_target(target: AcceptsStores, _config: TargetConfig) -> int:
            acceptance = await target.accept(yes=self.yes)
            accepts.append(acceptance.as_json())
            if not (self.as_json or session.options.quiet):
                on_disk = isinstance(target, HasQuarantine)
                session.out.print(_table(acceptance, on_disk=on_disk))
                session.line(*_next_steps(session, acceptance, on_disk=on_disk))
            return FAILED if acceptance.failed else 0

        try:
            return session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json:
                session.document({"accepts": accepts})


@dataclass(frozen=True, slots=True)
class Forget:
    """End the protection of restored items."""

    scope: Scope
    media: tuple[str, ...] = ()
    everything: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Ask one target after another; it fails if no target had a mark on the media."""
        if bool(self.media) == self.everything:
            raise UsageError("use --media mxc://SERVER/ID, or --all")
        for uri in self.media:
            if parse_media_uri(uri) is None:
                raise UsageError(f"`{printable(uri)}` is not a media URI; write it as mxc://SERVER/ID")
        targets = session.capable(self.scope, HasQuarantine, NO_QUARANTINE, anywhere=True)
        forgets: list[dict[str, Any]] = []

        async def on_target(target: HasQuarantine, _config: TargetConfig) -> int:
            forgotten = await target.forget(None if self.everything else self.media)
            forgets.append({"target": target.name, "forgotten": forgotten})
            if not (self.as_json or session.options.quiet):
                session.line(f"{target.name}: {count_in_words(len(forgotten), 'item')} kept no longer")
            return 0

        try:
            status = session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json:
                session.document({"forgets": forgets})
        if status or self.everything or any(forget["forgotten"] for forget in forgets):
            return status
        session.error(
            "none of these items is protected after a restore; `retentiond plan --list` shows which are"
        )
        return FAILED


def _table(acceptance: Acceptance, *, on_disk: bool) -> Table:
    """Return what ledger and disk know; without `on_disk` the target has no files."""
    table = Table(
        title=Text(f"{acceptance.target}: what is known", style="bold"),
        title_justify="left",
        box=box.SIMPLE,
        show_header=False,
    )
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("ledger", Text(_known(acceptance.ledger)))
    if on_disk:
        table.add_row("disk", Text(_known(acceptance.disk)))
    for refusal in acceptance.refused:
        table.add_row("refused by", Text(printable(refusal.found, _TEXT_LIMIT), style="yellow"))
    if not on_disk:
        return table
    table.add_row(
        "on the disk only",
        Text(
            f"{count_in_words(acceptance.unknown, 'content')} in quarantine, of which rows bear {acceptance.wanted:,}"
        ),
    )
    table.add_row(
        "in the ledger only", Text(f"{count_in_words(acceptance.gone, 'content')}, whose files are gone")
    )
    table.add_row(
        "rows without a file",
        Text(
            f"{acceptance.without_file:,} of {acceptance.sampled:,} contents looked for; many mean the wrong disk"
        ),
    )
    return table


def _known(known: Known) -> str:
    if known.store is None:
        return "no store"
    at = f", {known.at}" if known.at else ""
    return printable(f"store {known.store}, last pass {known.last_pass}{at}")


def _next_steps(session: Session, acceptance: Acceptance, *, on_disk: bool) -> Iterator[str]:
    if acceptance.accepted:
        if not on_disk:
            yield "Accepted: passes run again."
            return
        yield (
            f"Accepted: {count_in_words(acceptance.returned, 'content')} given back to rows, {acceptance.taken:,} taken "
            f"into the ledger, {acceptance.lost:,} closed as lost."
        )
        if acceptance.taken:
            purge = session.command(f"quarantine purge {acceptance.target} --yes")
            yield f"Files recorded in the ledger are kept until they are purged: {purge}"
        return
    yield "Nothing was changed."
    if acceptance.refused or acceptance.unknown or acceptance.gone:
        again = session.command(f"quarantine accept {acceptance.target} --yes")
        if on_disk:
            yield f"If disk, database and time are the right ones, accept them: {again}"
        else:
            yield f"If the cause is repaired, and database and time are the right ones, accept them: {again}"
    else:
        yield f"{'Ledger, disk and clock' if on_disk else 'Ledger and clock'} agree; there is nothing to accept."
